"""Convolutional kernels against the values of two independent programs, in every representation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.oracle import oracle
from workers.kernels import compile_kernel
from workers.kernels.spatial.representation import network_parts
from workers.kernels.spec import parse_kernel

ROOT2 = 2**0.5
RELU = {"op": "activation", "fn": "relu"}
TOLERANCE = {"float64": 5e-15, "float32": 3e-7}
"""Relative to the largest entry."""

INPUTS = oracle("inputs")
SEQUENCES = np.moveaxis(INPUTS["I1"], 1, -1)  # (n, T, C)
IMAGES = np.moveaxis(INPUTS["I2"], 1, -1)  # (n, P, Q, C)
OCTAGONS = np.moveaxis(INPUTS["I8"], 1, -1)  # 8 x 8 x 3
PHOTOS = np.moveaxis(INPUTS["I32"], 1, -1)  # 32 x 32 x 3
VALUES = {name: oracle(name) for name in ("cnn1d", "cnn2d", "cnn_nets")}


def conv(side: int = 3, stride: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "op": "conv",
        "filter": [side, side],
        "strides": [stride, stride],
        "w_std": ROOT2,
        **fields,
    }


def plain(
    readout: str, depth: int, rank: int = 2, fn: str = "relu", b_std: float = 0.2, **fields: Any
) -> dict[str, Any]:
    """`depth` times conv and activation, a readout, a dense layer; one w_std and b_std."""
    w_std = fields.get("w_std", ROOT2)
    layer = {"op": "conv", "filter": [3] * rank, "w_std": w_std, "b_std": b_std, **fields}
    pool = "flatten" if readout == "flatten" else "global_avg_pool"
    dense = {"op": "dense", "w_std": w_std, "b_std": b_std}
    return {"layers": [layer, {"op": "activation", "fn": fn}] * depth + [{"op": pool}, dense]}


def small_resnet(scale: float) -> dict[str, Any]:
    plain_block = {"op": "residual", "body": [RELU, conv(), RELU, conv()], "scale": scale}
    halving = {
        "op": "residual",
        "body": [RELU, conv(stride=2), RELU, conv()],
        "shortcut": [RELU, conv(1, stride=2)],
        "scale": scale,
    }
    readout = [RELU, {"op": "global_avg_pool"}, {"op": "dense", "w_std": ROOT2}]
    return {"layers": [conv(), plain_block, halving, *readout]}


CASES: list[Any] = [
    *(
        pytest.param(
            "cnn1d",
            f"1d|{padding}|{readout}|H=2",
            plain(readout, 2, rank=1, padding=padding),
            SEQUENCES,
            "float64",
            id=f"1d-{padding}-{readout}",
        )
        for padding in ("SAME", "CIRCULAR", "VALID")
        for readout in ("flatten", "gap")
    ),
    *(
        pytest.param(
            "cnn2d", f"2d|{key}", plain(readout, depth, **fields), IMAGES, dtype, id=f"2d-{key}"
        )
        for key, readout, depth, fields, dtype in (
            ("SAME|flatten|H=2", "flatten", 2, {}, "float32"),
            ("CIRCULAR|flatten|H=2", "flatten", 2, {"padding": "CIRCULAR"}, "float64"),
            ("VALID|flatten|H=1", "flatten", 1, {"padding": "VALID"}, "float64"),
            ("SAME|gap|H=2", "gap", 2, {}, "float32"),
            ("CIRCULAR|gap|H=2", "gap", 2, {"padding": "CIRCULAR"}, "float64"),
            ("VALID|gap|H=1", "gap", 1, {"padding": "VALID"}, "float32"),
            ("SAME|stride=21|flatten|H=2", "flatten", 2, {"strides": [2, 1]}, "float64"),
            ("SAME|stride=22|gap|H=2", "gap", 2, {"strides": [2, 2]}, "float64"),
            ("k=5|SAME|gap|H=1", "gap", 1, {"filter": [5, 5], "b_std": 0.0}, "float64"),
            (
                "erf|SAME|gap|H=2",
                "gap",
                2,
                {"fn": "erf", "w_std": 1.5, "b_std": 0.1},
                "float32",
            ),
        )
    ),
    pytest.param(
        "cnn1d",
        "1d|survey_fan|SAME|gap|H=2",
        plain("gap", 2, rank=1, fan="channels", w_std=1.0, b_std=0.0),
        SEQUENCES,
        "float64",
        id="survey-fan",
    ),
    pytest.param("cnn_nets", "myrtle5|I8", "myrtle5", OCTAGONS, "float32", id="myrtle5"),
    pytest.param("cnn_nets", "myrtle7|I8", "myrtle7", OCTAGONS, "float64", id="myrtle7"),
    pytest.param(
        "cnn_nets",
        "small_resnet|alpha=0.3|I2",
        small_resnet(0.3),
        IMAGES,
        "float32",
        id="small-resnet",
    ),
    pytest.param(
        "cnn_nets",
        "resnet50_nobn|sw=1|stages=1111|I32",
        {"preset": "resnet50-preact", "stages": [1, 1, 1, 1]},
        PHOTOS,
        "float32",
        id="resnet-1111",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "cnn_nets",
        "resnet50_nobn|sw=1|stages=3463|I32",
        "resnet50-preact",
        PHOTOS,
        "float64",
        id="resnet50",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("file", "key", "spec", "samples", "dtype"), CASES)
def test_oracle_values(
    file: str, key: str, spec: Any, samples: NDArray[np.float64], dtype: str
) -> None:
    values = compile_kernel(spec)(samples.astype(dtype))
    for name, letter in (("nngp", "K"), ("ntk", "T")):
        expected = VALUES[file][f"{key}|{letter}"]
        assert values[name].dtype == dtype
        assert (values[name] == values[name].T).all()
        error = np.abs(values[name] - expected).max() / np.abs(expected).max()
        # The compiled core takes 1 - rho of equal pixels from a difference: 1e-9 in the NTK.
        assert error < (2e-9 if dtype == "float64" else TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("spec", "samples", "representation"),
    [
        (plain("flatten", 2), IMAGES, "diagonal"),
        (plain("gap", 2), IMAGES, "planes"),
        (plain("gap", 2, fn="erf"), IMAGES, "planes"),
        (plain("gap", 1, padding="VALID"), IMAGES, "tensor"),
        (plain("gap", 2, strides=[2, 2]), IMAGES, "tensor"),
        ("myrtle5", OCTAGONS, "planes"),
        ("resnet50-preact", PHOTOS, "tensor"),
    ],
)
def test_the_cheapest_representation_is_chosen(
    spec: Any, samples: NDArray[np.float64], representation: str
) -> None:
    grid, channels = samples.shape[1:3], samples.shape[3]
    layers = parse_kernel(spec).layers
    assert network_parts(layers, (grid[0], grid[1]), channels).representation == representation
