"""One layer's map of the distance 1 - c between two inputs, near 0 above all."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from workers.analyses.errors import InvalidAnalysisError
from workers.mean_field.correlation_map import (
    chaotic_distance,
    correlation_map,
    slow_contraction,
)
from workers.mean_field.edge_of_chaos import edge_of_chaos
from workers.mean_field.moments import moments
from workers.mean_field.phase import phase


def relu_distance(gamma: float) -> float:
    """1 - kappa1(1 - gamma) in 40 digits."""
    with mpmath.workdps(40):
        c = 1 - mpmath.mpf(gamma)
        angle = mpmath.acos(c)
        return float(1 - (mpmath.sin(angle) + (mpmath.pi - angle) * c) / mpmath.pi)


def test_relu_at_every_scale_of_the_distance() -> None:
    gamma = np.array([0.0, 1e-18, 1e-12, 1e-6, 1e-2, 0.5, 1.0, 1.7, 2.0])
    out = correlation_map("relu", math.sqrt(2), 0.0, 1.0, gamma)
    np.testing.assert_allclose(out.distance, [relu_distance(g) for g in gamma], rtol=1e-14)
    np.testing.assert_allclose(
        out.chi, 1 - 2 * np.arcsin(np.sqrt(gamma / 2)) / math.pi, rtol=1e-14, atol=1e-15
    )


def test_chi_is_the_slope_of_the_map_at_a_fixed_point() -> None:
    q = phase("erf", 1.5, 0.2).variance
    assert q is not None
    gamma, h = np.array([0.05, 0.3, 1.0, 1.6]), 1e-5
    up = correlation_map("erf", 1.5, 0.2, q, gamma + h).distance
    down = correlation_map("erf", 1.5, 0.2, q, gamma - h).distance
    chi = correlation_map("erf", 1.5, 0.2, q, gamma).chi
    np.testing.assert_allclose((up - down) / (2 * h), chi, rtol=1e-8)


def test_chaotic_fixed_point() -> None:
    phi = moments("erf")
    q = phase("erf", 1.5, 0.2).variance
    assert q is not None
    gamma = chaotic_distance(phi, 1.5, 0.2, q)
    out = correlation_map("erf", 1.5, 0.2, q, np.array([gamma]))
    assert out.distance[0] == pytest.approx(gamma, rel=1e-13)
    assert 0 < out.chi[0] < 1
    without_bias = phase("erf", 1.5, 0.0).variance
    assert without_bias is not None
    assert chaotic_distance(phi, 1.5, 0.0, without_bias) == 1.0  # odd: orthogonal stays so


def test_slow_contraction_of_kinked_smooth_and_linear_activations() -> None:
    relu = slow_contraction(moments("relu"), math.sqrt(2), 0.0, 1.0)
    assert relu is not None
    assert relu.exponent == 0.5
    assert relu.coefficient == pytest.approx(2 * math.sqrt(2) / (3 * math.pi), rel=1e-9)
    assert relu.ntk_ratio == 0.25
    assert relu.log_slope == pytest.approx(3 / 8, rel=1e-7)
    # 9 pi^2/(2 l^2), theorem of Hayou et al. 2019.
    assert relu.distance(np.array([100.0]))[0] == pytest.approx(9 * math.pi**2 / 2e4, rel=1e-8)

    point = edge_of_chaos("erf", 0.2).points[0]
    assert point.variance is not None
    erf = slow_contraction(moments("erf"), point.w_std, 0.2, point.variance)
    assert erf is not None
    assert erf.exponent == 1
    assert erf.ntk_ratio == pytest.approx(1 / 3)
    # f(c) = b^2/q + w^2 (2/pi) asin(r c)/q, r = 2q/(1+2q): C = f''(1)/2, D = f'''(1)/6.
    r = 2 * point.variance / (1 + 2 * point.variance)
    scale = point.w_std**2 * 2 / math.pi / point.variance
    second = mpmath.diff(lambda c: scale * mpmath.asin(r * c), 1, 2)
    third = mpmath.diff(lambda c: scale * mpmath.asin(r * c), 1, 3)
    assert erf.coefficient == pytest.approx(float(second) / 2, rel=1e-8)
    assert erf.correction == pytest.approx(float(third) / 6, rel=1e-5)

    assert slow_contraction(moments("linear"), 1.0, 0.0, 1.0) is None


@pytest.mark.parametrize(
    ("variance", "gamma"), [(0.0, 0.1), (math.inf, 0.1), (1.0, -1e-9), (1.0, 2.1), (1.0, math.nan)]
)
def test_bad_numbers(variance: float, gamma: float) -> None:
    with pytest.raises(InvalidAnalysisError):
        correlation_map("erf", 1.0, 0.1, variance, np.array([gamma]))
