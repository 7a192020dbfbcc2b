"""Depths 3, 10 and 100 against the 50-digit reference, entry by entry.

Rows include exact duplicates, rows that differ by 1e-6, multiples, opposites and a zero row.
Bounds: 1e-6 relative in float32 (3e-6 at depth 100), 1e-12 in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.reference import reference_kernels
from workers.kernels import KernelRangeError, compile_kernel, parse_kernel


def awkward_rows(features: int = 7) -> NDArray[np.float64]:
    """Eleven rows whose entries float32 holds exactly."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal((4, features))
    return (
        np.concatenate(
            [
                base,
                base[:1] + 1e-6 * rng.standard_normal((1, features)),
                base[1:2],
                3 * base[2:3],
                -base[3:4],
                (1 + 1e-6) * base[3:4],
                1e-6 * rng.standard_normal((1, features)) - base[:1],
                base[:1] * 1e-12,
            ]
        )
        .astype(np.float32)
        .astype(np.float64)
    )


SPECS: list[Any] = [
    pytest.param({"activation": "relu"}, id="relu"),
    pytest.param({"activation": "relu", "b_std": 0.1}, id="relu-bias"),
    pytest.param({"activation": {"fn": "leaky_relu", "slope": 0.2}, "b_std": 0.1}, id="leaky"),
    pytest.param(
        {"activation": "erf", "w_std": 1.5, "b_std": 0.05}, id="erf", marks=pytest.mark.slow
    ),
    pytest.param({"activation": "gelu", "b_std": 0.1}, id="gelu", marks=pytest.mark.slow),
]
DEEPEST_ONLY: list[Any] = [
    pytest.param({"activation": "sin", "w_std": 1.3, "b_std": 0.1}, id="sin"),
    pytest.param({"activation": "sigmoid_like", "w_std": 2.0, "b_std": 0.1}, id="sigmoid_like"),
    pytest.param({"activation": "cos", "w_std": 0.7}, id="cos"),
    pytest.param({"activation": "gaussian", "w_std": 1.2}, id="gaussian"),
]


def assert_accurate(fields: dict[str, Any], depth: int) -> None:
    spec = parse_kernel({"preset": "fc", "depth": depth, **fields})
    kernel = compile_kernel(spec)
    x = awkward_rows()
    reference = reference_kernels(spec.canonical(), x)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 3e-6 if depth == 100 else 1e-6)):
        out = kernel(x.astype(dtype))
        for name in ("nngp", "ntk"):
            diagonal = np.sqrt(np.diag(reference[name]))
            scale = np.outer(diagonal, diagonal)
            error = np.abs(out[name] - reference[name])
            assert np.max(error / scale) < tolerance
            # Entry by entry wherever the entry is not a difference of much larger numbers.
            large = np.abs(reference[name]) > 0.05 * scale
            assert large.mean() > 0.1  # the diagonal alone in deep chaotic networks, more elsewhere
            assert np.max(error[large] / np.abs(reference[name])[large]) < tolerance


@pytest.mark.parametrize(
    "depth", [*(pytest.param(n, marks=pytest.mark.slow) for n in (3, 10)), 100]
)
@pytest.mark.parametrize("fields", SPECS)
def test_float64_and_float32(fields: dict[str, Any], depth: int) -> None:
    assert_accurate(fields, depth)


@pytest.mark.slow
@pytest.mark.parametrize("fields", DEEPEST_ONLY)
def test_depth_hundred(fields: dict[str, Any]) -> None:
    """Depth 3 of these is in test_oracle.py."""
    assert_accurate(fields, 100)


def test_growth_beyond_the_range_is_an_error() -> None:
    """The largest variance leaves float64: nothing is returned."""
    for activation in ({"fn": "exp"}, {"fn": "polynomial", "coefficients": [0, 0, 1.0]}):
        kernel = compile_kernel({"preset": "fc", "depth": 12, "activation": activation})
        with pytest.raises(KernelRangeError, match="float64 cannot hold"):
            kernel(awkward_rows())


def test_diagonal_of_the_normalised_network_is_exact() -> None:
    """w_std = sqrt(2) and unit inputs: NNGP(x, x) = 1/d and NTK(x, x) = (H + 1)/d."""
    kernel = compile_kernel({"preset": "fc", "depth": 100, "normalize": "unit"})
    x = awkward_rows().astype(np.float32)
    out = kernel(x)
    np.testing.assert_allclose(np.diag(out["ntk"]) * x.shape[1] / 2, 101, rtol=3e-7)
    np.testing.assert_allclose(np.diag(out["nngp"]) * x.shape[1] / 2, 1, rtol=3e-7)


def test_mixed_layers_and_parameters() -> None:
    """Different activations, parameters and dense-after-dense in one network."""
    dense = {"op": "dense", "w_std": 1.3}
    spec = parse_kernel(
        {
            "layers": [
                {"op": "normalize"},
                {"op": "dense", "w_std": 2.0, "b_std": 0.3},
                {"op": "activation", "fn": "erf", "amplitude": 1.2, "scale": 0.7},
                dense,
                {"op": "activation", "fn": "relu_like", "positive_slope": 1, "negative_slope": -2},
                {"op": "dense", "w_std": 0.9, "b_std": 0.2},
                {"op": "dense", "w_std": 1.1, "b_std": 0.1},
                {"op": "activation", "fn": "abs"},
                dense,
                {"op": "activation", "fn": "relu"},
                {"op": "dense", "w_std": 1.7},
                {"op": "activation", "fn": "relu"},
                {"op": "dense", "w_std": 0.4},
            ]
        }
    )
    x, y = awkward_rows(), awkward_rows()[:5] + 0.1
    reference = reference_kernels(spec.canonical(), x, y)
    out = compile_kernel(spec)(x, y)
    for name in ("nngp", "ntk"):
        np.testing.assert_allclose(out[name], reference[name], rtol=1e-12)
