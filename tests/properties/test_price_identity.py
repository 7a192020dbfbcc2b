"""Price's theorem: the derivative kernel is the derivative of the kernel, Edot = dE/dc."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.activations import NAMES, dual_of
from support.duals import pair_values

STEP = 2e-3
SMOOTH = [name for name in NAMES if dual_of(name).differentiable]

deviations = st.floats(0.05, 2.5)
correlations = st.floats(-0.9, 0.9)


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", SMOOTH)
@given(deviations, deviations, correlations)
def test_derivative_kernel_is_the_derivative(name: str, s1: float, s2: float, rho: float) -> None:
    """By a five-point rule, whose error is below 1e-8 of the largest slope here."""
    # Normalised: derivative = d rho_E/d rho at fixed variances.
    points = rho + STEP * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    out = pair_values(dual_of(name), np.array([s1]), np.full(5, s2), points[None])
    e = out.rho[0]
    slope = (8 * (e[3] - e[1]) - (e[4] - e[0])) / (12 * STEP)
    largest = max(1.0, abs(out.derivative[0, 2]))
    assert abs(slope - out.derivative[0, 2]) < 1e-8 * largest
