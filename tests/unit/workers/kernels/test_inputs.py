"""Input correlations: every route to w = 1 - |rho| gives its digits."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from workers.kernels.close_pairs import CHUNK_PAIRS
from workers.kernels.correlation import input_correlation
from workers.kernels.inputs import (
    CLOSE_SINGLE,
    MAX_CLOSE_FRACTION,
    MAX_CONTRACTION,
    prepare_panel,
    unfold,
)

_prepare = jax.jit(prepare_panel, static_argnames=("single",))


def correlations(
    x: NDArray[Any], y: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(w, rho) of the rows of x with those of y (None: x, symmetric)."""
    single = x.dtype == np.float32
    with jax.enable_x64(True):
        left = _prepare(x, single=single)
        right = left if y is None else _prepare(y, single=single)
        w, rho = unfold(input_correlation(left, right, symmetric=y is None))
        return np.asarray(w), np.asarray(rho)


def exact(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(w, rho) from differences and sums of unit rows in extended precision."""
    a, b = x.astype(np.longdouble), y.astype(np.longdouble)
    a /= np.sqrt((a * a).sum(1))[:, None]
    b /= np.sqrt((b * b).sum(1))[:, None]
    w, rho = np.empty((len(a), len(b))), np.empty((len(a), len(b)))
    for i, row in enumerate(a):
        below, above = 0.5 * ((row - b) ** 2).sum(1), 0.5 * ((row + b) ** 2).sum(1)
        w[i] = np.minimum(below, above)
        rho[i] = np.where(below < above, 1 - below, above - 1)
    return w, rho


def spread(rows: int, features: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((rows, features))


def root_error(w: NDArray[Any], reference: NDArray[Any]) -> float:
    """Kernels with a kink depend on sqrt(w): the error that reaches them."""
    return float(np.max(np.abs(np.sqrt(w) - np.sqrt(reference))))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-7), ("float64", 1e-15)])
@pytest.mark.parametrize("features", [1, 5, 300])
def test_spread_rows(dtype: str, tolerance: float, features: int) -> None:
    x, y = spread(64, features).astype(dtype), spread(64, features, 1).astype(dtype)
    w, rho = correlations(x, y)
    _, reference = exact(x, y)
    assert np.max(np.abs(rho - reference)) < tolerance
    assert (w == 1 - np.abs(rho)).all() or np.max(np.abs(w + np.abs(rho) - 1)) < tolerance


@pytest.mark.parametrize("features", [1, 5, 112, 113, 784, 3000])
def test_pieces_keep_the_digits_of_small_correlations(features: int) -> None:
    """Rows without negative entries and with few in common; equal and nearly equal ones too."""
    rng = np.random.default_rng(features)
    present = rng.random((96, features)) < rng.choice([0.05, 0.3, 1.0], (96, 1))
    x = (rng.random((96, features)) * present).astype(np.float32)
    x[:, 0] += 1e-3
    x[1], x[2], x[3] = x[0], 2 * x[0], x[0] + np.float32(1e-4) * x[5]
    with jax.enable_x64(True):
        panel = _prepare(x, single=True)
        folded = input_correlation(panel, panel, symmetric=True, product="pieces")
        w, rho = (np.asarray(part) for part in unfold(folded))
    assert w.dtype == np.float64
    upper = np.triu_indices(len(x), 1)
    reference, signed = (part[upper] for part in exact(x, x))
    np.testing.assert_allclose(rho[upper], signed, rtol=5e-7, atol=0)
    assert root_error(w[upper], reference) < 2e-6


def test_pieces_of_crowded_rows_are_made_exact() -> None:
    x = (1 + 0.01 * np.random.default_rng(0).random((64, 300))).astype(np.float32)
    with jax.enable_x64(True):
        panel = _prepare(x, single=True)
        w, _ = unfold(input_correlation(panel, panel, symmetric=False, product="pieces"))
    reference, _ = exact(x, x)
    assert root_error(np.asarray(w), reference) < 1e-7


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-6, 0.0])
def test_close_and_opposite_rows(dtype: str, tolerance: float, distance: float) -> None:
    """A few close pairs among spread rows: recomputed one by one."""
    x = spread(64, 50)
    y = spread(64, 50, 1)
    y[:10] = x[10:20] * (1 + distance * y[:10])
    y[10:20] = -3 * x[10:20] * (1 + distance * y[10:20])
    x, y = x.astype(dtype), y.astype(dtype)
    w, rho = correlations(x, y)
    reference, signed = exact(x, y)
    assert root_error(w, reference) < tolerance
    assert (np.sign(rho[10:20, :20]) == np.sign(signed[10:20, :20])).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-7), ("float64", 1e-14)])
@pytest.mark.parametrize("offset", [10.0, 1e3])
def test_common_offset(dtype: str, tolerance: float, offset: float) -> None:
    """All pairs are close together: centring, or one float64 product, or every pair again."""
    x = (offset + spread(64, 50)).astype(dtype)
    y = (offset + spread(64, 50, 1)).astype(dtype)
    w, _ = correlations(x, y)
    reference, _ = exact(x, y)
    assert reference.max() < 0.02
    assert root_error(w, reference) < tolerance


def test_many_close_pairs_among_spread_rows() -> None:
    """More close pairs than MAX_CLOSE_FRACTION, in two distant clusters: the float64 product."""
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((2, 30))
    x = np.repeat(centres, 32, axis=0) + 1e-4 * rng.standard_normal((64, 30))
    x = x.astype(np.float32)
    w, _ = correlations(x, x.copy())
    reference, _ = exact(x, x)
    assert (reference < CLOSE_SINGLE).mean() > MAX_CLOSE_FRACTION
    assert root_error(w, reference) < 1e-7


def test_more_close_pairs_than_one_chunk() -> None:
    """float64 works through any number of them; here 32 x 32 twice, some duplicates."""
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((2, 30))
    x = np.repeat(centres, 32, axis=0) + 1e-7 * rng.standard_normal((64, 30))
    x[3] = x[7]
    w, _ = correlations(x, x.copy())
    reference, _ = exact(x, x)
    assert (reference < 1e-4).sum() > 4 * CHUNK_PAIRS
    assert w[3, 7] == 0
    assert root_error(w, reference) < 3e-16


def test_symmetric_diagonal_is_exact_and_upper_triangle_repaired() -> None:
    x = spread(64, 9).astype(np.float32)
    x[40] = x[2] * np.float32(1.0001)
    x[41] = x[2]
    w, rho = correlations(x)
    reference, _ = exact(x, x)
    upper = np.triu_indices(64)
    assert (np.diag(w) == 0).all()
    assert (np.diag(rho) == 1).all()
    assert w[2, 41] == 0
    assert root_error(w[upper], reference[upper]) < 1e-6


def test_zero_rows_give_no_nan() -> None:
    x = spread(64, 9).astype(np.float32)
    x[5:20] = 0
    for y in (None, x.copy()):
        w, rho = correlations(x, y)
        assert np.isfinite(w).all()
        assert np.isfinite(rho).all()


@pytest.mark.parametrize("scale", [1e-150, 1e150, 5e-324 * 2**60])
def test_extreme_norms(scale: float) -> None:
    x, y = spread(64, 9) * scale, spread(64, 9, 1)
    w, rho = correlations(x, y)
    _, reference = exact(x, y)
    assert np.isfinite(w).all()
    assert np.max(np.abs(rho - reference)) < 1e-15 if scale > 1e-300 else 1e-3


def test_long_rows_are_multiplied_in_pieces() -> None:
    features = 2 * MAX_CONTRACTION + 17
    x = np.abs(spread(64, features)).astype(np.float32)
    y = np.abs(spread(64, features, 1)).astype(np.float32)
    _, rho = correlations(x, y)
    _, reference = exact(x, y)
    assert np.max(np.abs(rho - reference)) < 1e-7
