"""Dual kernels where numbers are extreme: zero and tiny variances, huge ones, overflow."""

from __future__ import annotations

import numpy as np
import pytest

from support.activations import NAMES, TABULATED, dual_of
from support.duals import deviations, pair_values, variance_derivatives

OVERFLOWING = {"exp", "polynomial", "hermite", "rectified_power"}
RHO = np.array([[1.0, 1 - 1e-12, 0.5, 0.0, -0.5, -1.0]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("s", [(0.0, 0.0), (0.0, 1.0), (1e-30, 1e-9), (1e-150, 2.0)])
def test_small_variances_stay_finite(name: str, s: tuple[float, float]) -> None:
    dual = dual_of(name)
    s1, s2 = np.array([s[0]]), np.full(RHO.size, s[1])
    assert np.isfinite(deviations(dual, s1)).all()
    out = pair_values(dual, s1, s2, RHO)
    assert np.isfinite(out.rho).all()
    assert (np.abs(out.rho) <= 1).all()
    assert ((out.w >= 0) & (out.w <= 1)).all()
    if dual.differentiable:
        assert np.isfinite(out.derivative).all()
        assert np.isfinite(variance_derivatives(dual, s1)).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - OVERFLOWING - TABULATED))
@pytest.mark.parametrize("s", [1e3, 1e9, 1e150])
def test_large_variances_stay_finite(name: str, s: float) -> None:
    dual = dual_of(name)
    rows = np.array([s])
    assert np.isfinite(deviations(dual, rows)).all()
    out = pair_values(dual, rows, np.full(RHO.size, s), RHO)
    assert np.isfinite(out.rho).all()
    assert ((out.w >= 0) & (out.w <= 1)).all()
    assert out.w[0, 0] == 0
    if dual.differentiable:
        assert not np.isnan(out.derivative).any()


@pytest.mark.parametrize("name", sorted(OVERFLOWING))
def test_overflow_is_infinite_never_nan(name: str) -> None:
    """The deviation is +inf, which a compiled kernel reports; normalised pairs are not NaN."""
    dual = dual_of(name)
    rows = np.array([1e160])
    assert (deviations(dual, rows) == np.inf).all()
    out = pair_values(dual, rows, np.full(RHO.size, 1e160), RHO)
    assert not np.isnan(out.rho).any()
    assert not np.isnan(out.derivative).any()
