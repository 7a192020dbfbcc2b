"""Residual blocks, injections and frozen layers against the 50-digit reference.

Rows include duplicates, rows that differ by 1e-6, multiples, opposites and a zero row; bounds as
in test_deep.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.oracle import oracle
from support.reference import reference_kernels
from workers.kernels import compile_kernel, parse_kernel
from workers.kernels.program import LoopForm, build_program

CONVENTIONS = oracle("fc_conventions")


def dense(w_std: float = 1.0, b_std: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"op": "dense", "w_std": w_std, "b_std": b_std, **fields}


def activation(fn: str, **fields: Any) -> dict[str, Any]:
    return {"op": "activation", "fn": fn, **fields}


def residual(*body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"op": "residual", "body": list(body), **fields}


def injection(w_std: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"op": "input_injection", "w_std": w_std, **fields}


RELU = activation("relu")
LEAKY = activation("leaky_relu", slope=0.2)


def awkward_rows(features: int = 7) -> NDArray[np.float64]:
    """Rows whose entries float32 holds exactly."""
    rng = np.random.default_rng(5)
    base = rng.standard_normal((3, features))
    near = base[:1] + 1e-6 * rng.standard_normal((1, features))
    opposed = 1e-6 * rng.standard_normal((1, features)) - base[:1]
    rows = [base, near, base[1:2], 3 * base[2:3], -base[2:3], opposed, 0 * base[:1]]
    return np.concatenate(rows).astype(np.float32).astype(np.float64)


def assert_accurate(layers: list[dict[str, Any]], *, loose: float = 1.0, **fields: Any) -> None:
    spec = parse_kernel({"layers": layers, **fields})
    x = awkward_rows()
    reference = reference_kernels(spec.canonical(), x)
    kernel = compile_kernel(spec)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6 * loose)):
        out = kernel(x.astype(dtype))
        for name in ("nngp", "ntk"):
            diagonal = np.sqrt(np.diag(reference[name]))
            scale = np.outer(diagonal, diagonal)
            assert (out[name][scale == 0] == 0).all()
            error = np.abs(out[name] - reference[name])
            assert np.max(error / np.where(scale > 0, scale, 1)) < tolerance
            # Entry by entry where the entry is not a difference of larger numbers: shortcuts keep
            # the signs of rho, so rows at right angles stay nearly uncorrelated.
            large = (np.abs(reference[name]) > 0.2 * scale) & (scale > 0)
            assert np.max(error[large] / np.abs(reference[name])[large]) < tolerance


@pytest.mark.parametrize("blocks", [pytest.param(3, marks=pytest.mark.slow), 10, 100])
def test_identity_shortcuts(blocks: int) -> None:
    """Tirer's block, scaled so that variances do not grow like 2^L."""
    block = residual(dense(1.2), RELU, dense(1.1), scale=blocks**-0.5)
    assert_accurate([dense(), *[block] * blocks, dense(1.2)], loose=3 if blocks == 100 else 1)


@pytest.mark.parametrize("blocks", [pytest.param(10, marks=pytest.mark.slow), 100])
def test_biases_and_both_signs(blocks: int) -> None:
    block = residual(LEAKY, dense(0.8, 0.1), scale=2 * blocks**-0.5)
    assert_accurate([dense(1.3, 0.2), *[block] * blocks], loose=3 if blocks == 100 else 1)


def test_growing_variances() -> None:
    """Blocks that double the variance, up to 2^60: the normalised pairs do not notice."""
    assert_accurate([dense(), *[residual(RELU, dense(2**0.5))] * 60], loose=3)


def test_projected_shortcuts_nested_blocks_and_skips_of_activations() -> None:
    inner = residual(activation("erf"), dense(0.9, 0.1), scale=0.7)
    outer = residual(dense(1.1), inner, RELU, dense(0.8), shortcut=[RELU, dense(0.6, 0.2)])
    after_relu = residual(dense(1.3), RELU, dense(0.7), scale=0.5)  # skips a ReLU's output
    assert_accurate([dense(), outer, RELU, after_relu, dense(1.2), LEAKY, dense()])


def test_injections() -> None:
    body = [RELU, dense(1.1, 0.1), injection(0.4)]
    assert_accurate([dense(1.0, 0.3), *body * 20, RELU, injection(0.5), dense(0.9)])


def test_standard_parameterization_with_blocks() -> None:
    wide = {"width": 64}
    block = residual(dense(1.2, **wide), RELU, dense(1.1, 0.2, **wide), scale=0.5)
    layers = [dense(1.4, 0.3, **wide), block, block, injection(0.6), RELU, dense(1.3)]
    assert_accurate(layers, parameterization="standard")


@pytest.mark.parametrize(
    "trained", ["last", ["none", "weights", "biases"], ["biases", "none", "all"]]
)
def test_masks_count_the_parts_of_the_ntk(trained: Any) -> None:
    """Parts per layer of the oracle: weights and biases of three affine layers."""
    network = {"preset": "fc", "depth": 2, "w_std": 1.4, "b_std": 0.3, "trained": trained}
    x = oracle("inputs")["X"][:4]
    out = compile_kernel(network)(x)
    parts = {k.split("|")[-1]: v for k, v in CONVENTIONS.items() if k.startswith("layer_split")}
    expected = np.zeros((4, 4))
    masks = ["none", "none", "all"] if trained == "last" else trained
    for layer, mask in enumerate(masks, start=1):
        expected += parts[f"W{layer}"] * (mask in ("all", "weights"))
        expected += parts[f"b{layer}"] * (mask in ("all", "biases"))
    np.testing.assert_allclose(out["ntk"], expected, rtol=1e-13)
    if trained == "last":
        np.testing.assert_allclose(out["ntk"], out["nngp"], rtol=1e-14)


def test_per_layer_parameters_of_the_preset() -> None:
    written = [dense(1.0, 0.1), RELU, dense(1.5, 0.0), RELU, dense(0.7, 0.3)]
    preset = {"preset": "fc", "depth": 2, "w_std": [1.0, 1.5, 0.7], "b_std": [0.1, 0.0, 0.3]}
    assert parse_kernel(preset).digest == parse_kernel({"layers": written}).digest


def test_repeated_blocks_are_folded_into_loops() -> None:
    """What is compiled does not grow with depth."""
    block = [residual(RELU, dense()), activation("erf"), dense(1.0, 0.2)]
    for repetitions in (2, 300):
        units = build_program(parse_kernel({"layers": [dense(), *block * repetitions]}), 5).units
        assert len(units) == 2
        loop = units[1].form
        assert isinstance(loop, LoopForm)
        assert (len(loop.body), loop.count) == (2, repetitions)
