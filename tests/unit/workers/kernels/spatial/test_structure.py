"""What the language says to networks on pixels that cannot be, and to samples that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workers.kernels import InvalidInputsError, InvalidKernelError, compile_kernel, parse_kernel
from workers.kernels.cost import kernel_cost
from workers.kernels.spatial.presets import SPATIAL_PRESETS

CONV = {"op": "conv", "filter": [3, 3]}
RELU = {"op": "activation", "fn": "relu"}
GAP = {"op": "global_avg_pool"}
FLATTEN = {"op": "flatten"}
DENSE = {"op": "dense"}
POOL = {"op": "avg_pool", "window": [2, 2]}


def test_strides_default_to_one_and_both_spellings_are_one_kernel() -> None:
    short = parse_kernel({"layers": [CONV, RELU, GAP, DENSE]})
    long = parse_kernel({"layers": [{**CONV, "strides": [1, 1], "b_std": -0.0}, RELU, GAP, DENSE]})
    assert short.digest == long.digest
    assert parse_kernel(short.canonical()) == short
    assert short.spatial
    assert not short.pixel_outputs
    assert not parse_kernel("fc").spatial


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ([CONV, RELU, DENSE], "layers[2] is a dense layer on pixels; put a flatten"),
        ([CONV, RELU], "must end with a readout"),
        ([CONV, GAP], None),  # a Gaussian mean: valid, but it needs no dense layer after it
        ([CONV, RELU, GAP], "must end with its readout"),
        ([RELU, CONV, GAP, DENSE], "layers[0] is an activation of something that is not Gaussian"),
        ([CONV, RELU, POOL, RELU, GAP, DENSE], "layers[3] is an activation"),
        ([CONV, FLATTEN, CONV, DENSE], "layers[2] (conv) acts on pixels, but they are flat"),
        ([CONV, {"op": "conv", "filter": [3]}, GAP, DENSE], "layers[1] (conv) has 1 axes"),
        ([CONV, {"op": "avg_pool", "window": [2]}, GAP, DENSE], "layers[1] (avg_pool) has 1 axes"),
        ([{"op": "conv", "filter": [3, 3], "strides": [2]}, GAP, DENSE], "one stride per axis"),
        ([{"op": "conv", "filter": [0, 3]}, GAP, DENSE], "filter"),
        ([{"op": "conv", "filter": [3, 3, 3]}, GAP, DENSE], "filter"),
        ([{"op": "conv", "filter": [3, 3], "padding": "same"}, GAP, DENSE], "padding"),
        ([CONV, {"op": "normalize"}, GAP, DENSE], "acts on inputs only"),
        (
            [CONV, {"op": "residual", "body": [RELU]}, GAP, DENSE],
            "must end in a layer with weights",
        ),
        (
            [CONV, {"op": "residual", "body": [RELU, CONV, FLATTEN, DENSE]}, DENSE],
            "adds flat features to pixels",
        ),
        ([{"op": "normalize", "kind": "unit_pixel"}, DENSE], "is for networks on images"),
    ],
)
def test_order_of_layers(layers: list[dict[str, Any]], part: str | None) -> None:
    if part is None:
        parse_kernel({"layers": layers})
        return
    with pytest.raises(InvalidKernelError) as caught:
        parse_kernel({"layers": layers})
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "shape", "part"),
    [
        ([CONV, RELU, GAP, DENSE], (8, 8), "Samples have shape"),
        ([{"op": "conv", "filter": [3]}, GAP, DENSE], (8, 8, 3), "sequences (n, T, C)"),
        ([CONV, POOL, GAP, DENSE], (8, 7, 3), "does not divide the 8 x 7 pixels"),
        ([{**CONV, "padding": "VALID"}, GAP, DENSE], (2, 8, 3), "VALID convolution"),
        (
            [{**CONV, "filter": [5, 3], "padding": "CIRCULAR"}, GAP, DENSE],
            (1, 8, 3),
            "CIRCULAR convolution",
        ),
        (
            [CONV, {"op": "residual", "body": [RELU, {**CONV, "strides": [2, 2]}]}, GAP, DENSE],
            (8, 8, 3),
            "A residual adds 4 x 4 pixels to 8 x 8 pixels",
        ),
    ],
)
def test_samples_that_do_not_fit(
    layers: list[dict[str, Any]], shape: tuple[int, ...], part: str
) -> None:
    """The same error from the estimate of a job and from the call."""
    spec = parse_kernel({"layers": layers})
    with pytest.raises(InvalidInputsError) as caught:
        kernel_cost(spec, shape, "float32")
    assert part in str(caught.value)
    with pytest.raises(InvalidInputsError):
        compile_kernel(spec)(np.ones((2, *shape), np.float32))


def test_pixels_have_no_kernel_of_samples() -> None:
    spec = parse_kernel({"layers": [CONV, RELU, CONV]})
    assert spec.pixel_outputs
    with pytest.raises(InvalidKernelError, match="ends with pixels"):
        compile_kernel(spec)(np.ones((2, 8, 8, 3)))


@pytest.mark.parametrize("name", list(SPATIAL_PRESETS))
def test_presets_expand_and_are_priced(name: str) -> None:
    spec = parse_kernel(name)
    assert spec.spatial
    cost = kernel_cost(spec, (32, 32, 3), "float32")
    assert cost.flops_per_pair > 1e6
    assert cost.nanoseconds_per_pair > 0


def test_the_flatten_readout_is_a_thousand_times_cheaper() -> None:
    """O(d) pixel pairs against O(d^2), at d = 1024."""
    flatten, gap = (
        kernel_cost(parse_kernel({"preset": "cntk", "readout": readout}), (32, 32, 3), "float32")
        for readout in ("flatten", "gap")
    )
    assert flatten.representation == "diagonal"
    assert gap.representation == "planes"
    assert gap.flops_per_pair > 900 * flatten.flops_per_pair
