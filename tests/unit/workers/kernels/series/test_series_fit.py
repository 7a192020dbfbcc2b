"""Polynomials of pair maps against the pair maps themselves, at points that are not nodes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import chebyshev

from workers.kernels import parse_kernel
from workers.kernels.duals.base import Correlation
from workers.kernels.series.fit import (
    Cell,
    Floats,
    cell_of,
    pair_series,
    position,
    row_polynomials,
)

DEAR = [pytest.param(fn, marks=pytest.mark.slow) for fn in ("elu", "silu", "abs", "gaussian")]
ACTIVATIONS: list[Any] = [
    "relu",
    {"fn": "leaky_relu", "slope": 0.3},
    "erf",
    "gelu",
    "tanh",
    "sin",
    "cos",
    {"fn": "polynomial", "coefficients": [0.5, 1.0, 0.25]},
    {"fn": "rectified_power", "power": 2},
    *DEAR,
]
INTERVALS = [(0.4, 0.4), (0.02, 0.05), (0.5, 1.0)]


def dual_of(activation: Any) -> Any:
    spec = parse_kernel({"preset": "fc", "depth": 1, "activation": activation})
    return spec.activations[0].dual()


def exact(dual: Any, t: Floats, sign: float, s1: Floats, s2: Floats) -> tuple[Floats, Floats]:
    """1 - rho_E and D of the dual, (t, s1, s2)."""
    with jax.enable_x64(True):
        roots = jnp.broadcast_to(jnp.asarray(t)[:, None, None], (len(t), len(s1), len(s2)))
        pairs = Correlation(roots, sign * (1 - roots * roots))
        result = dual.pair(pairs, s1[:, None], s2[None, :], degree="double")
        slope = result.derivative
        return np.asarray(result.correlation.below()), np.broadcast_to(slope, roots.shape)


def by_series(
    dual: Any, cell: Cell, t: Floats, sign: float, s1: Floats, s2: Floats
) -> tuple[Floats, Floats]:
    """The same from the polynomials, by NumPy."""
    series = pair_series(dual, cell, cell)
    assert series is not None
    x1, x2 = position(s1), position(s2)
    left = row_polynomials(cell, x1, len(series.apart))
    right = row_polynomials(cell, x2, len(series.right)) @ series.right
    folded = sign < 0 and series.parity != "neither"
    chosen = series.below if sign < 0 and not folded else series.above
    assert chosen is not None
    coefficients = np.einsum("ia,kar,jr->kij", left, chosen, right)[::-1]
    tau = np.broadcast_to((2 * t - 1)[:, None, None], (len(t), len(s1), len(s2)))
    value = np.moveaxis(
        [np.polynomial.polynomial.polyval(tau[k], coefficients, False) for k in range(len(t))], 0, 0
    )
    raised = np.arange(1, len(coefficients))[:, None, None] * coefficients[1:]
    rate = [np.polynomial.polynomial.polyval(tau[k], raised, False) for k in range(len(t))]
    w = (t * t)[:, None, None]
    slope = value + t[:, None, None] * np.array(rate if len(raised) else 0 * value)
    if sign < 0 and not folded:
        return 1 - (left @ series.opposite @ right.T + w * value), slope
    distance = (x1[:, None] - x2) ** 2 * (left @ series.apart @ right.T) + w * value
    if not folded:
        return distance, slope
    return (2 - distance, slope) if series.parity == "odd" else (distance, -slope)


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_series_are_the_pair_map(activation: Any, interval: tuple[float, float]) -> None:
    dual = dual_of(activation)
    rng = np.random.default_rng(0)
    s1, s2 = rng.uniform(*interval, 5), rng.uniform(*interval, 6)
    cell = cell_of(np.array([*interval, *s1, *s2]))
    t = np.concatenate([rng.random(40), [0.0, 1.0]])
    for sign in (1.0, -1.0):
        distance, slope = exact(dual, t, sign, s1, s2)
        found, rate = by_series(dual, cell, t, sign, s1, s2)
        scale = np.max(np.abs(slope))
        np.testing.assert_allclose(rate, slope, atol=3e-8 * scale, rtol=0)
        np.testing.assert_allclose(found, distance, atol=3e-8 * max(scale, 1), rtol=0)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "erf", "relu"])
def test_distances_of_near_rows_keep_relative_accuracy(activation: str) -> None:
    """Rows of one direction whose deviations differ by 1e-5, and of one deviation, at t = 1e-6."""
    dual = dual_of(activation)
    s = np.array([0.5, 0.5 * (1 + 1e-5), 0.9])
    cell = cell_of(s)
    for t in (0.0, 1e-6):
        distance, _ = exact(dual, np.array([t]), 1.0, s, s)
        found, _ = by_series(dual, cell, np.array([t]), 1.0, s, s)
        np.testing.assert_allclose(found, distance, rtol=3e-6, atol=1e-18)


def test_parities() -> None:
    cell = cell_of(np.array([0.5]))
    found = {}
    for activation in ("erf", "tanh", "cos", "abs", "gelu", "relu", "sin"):
        series = pair_series(dual_of(activation), cell, cell)
        assert series is not None
        found[activation] = series.parity
    assert found == {
        "erf": "odd", "tanh": "odd", "sin": "odd", "cos": "even", "abs": "even",
        "gelu": "neither", "relu": "neither",
    }  # fmt: skip


def test_large_deviations_have_no_short_series() -> None:
    cell = cell_of(np.array([40.0]))
    assert pair_series(dual_of("erf"), cell, cell) is None


def test_cells_hold_their_rows_and_are_shared_by_like_panels() -> None:
    rng = np.random.default_rng(1)
    cells = set()
    for _ in range(20):
        s = rng.uniform(0.3, 0.9, 500)
        cell = cell_of(s)
        x = position(s)
        assert cell.low <= x.min() <= x.max() <= cell.high
        assert cell.high - cell.low <= 1.6 * (x.max() - x.min())
        cells.add(cell)
    assert len(cells) <= 4
    single = cell_of(np.full(3, 0.7))
    assert single.single
    assert single.deviation == 0.7


def test_row_polynomials_are_chebyshev_polynomials_of_the_cell() -> None:
    cell = cell_of(np.array([0.3, 0.9]))
    x = np.linspace(cell.low, cell.high, 7)
    scaled = 2 * (x - cell.low) / (cell.high - cell.low) - 1
    np.testing.assert_allclose(row_polynomials(cell, x, 6), chebyshev.chebvander(scaled, 5))
