"""Phases of (w_std, b_std), fixed points of the variance, and which of them is approached."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workers.analyses.errors import InvalidAnalysisError
from workers.mean_field.edge_of_chaos import edge_of_chaos
from workers.mean_field.phase import phase
from workers.mean_field.variance_map import variance_dynamics, variance_map, variance_slope


def erf_second_moment(q: float) -> float:
    return 2 / math.pi * math.asin(2 * q / (1 + 2 * q))


@pytest.mark.parametrize(
    ("w_std", "b_std", "expected"),
    [(1.0, 0.2, "ordered"), (1.5, 0.2, "chaotic"), (0.5, 0.0, "ordered"), (1.5, 0.0, "chaotic")],
)
def test_phases_of_erf(w_std: float, b_std: float, expected: str) -> None:
    report = phase("erf", w_std, b_std)
    assert report.phase == expected
    q = report.variance
    assert q is not None
    assert q == pytest.approx(b_std**2 + w_std**2 * erf_second_moment(q), rel=1e-12, abs=1e-300)
    assert report.chi == pytest.approx(w_std**2 * 4 / math.pi / math.sqrt(1 + 4 * q), rel=1e-12)


def test_variance_zero_is_a_fixed_point_that_repels_large_weights() -> None:
    dynamics = variance_dynamics("erf", 1.5, 0.0)
    assert [p.stability for p in dynamics.fixed_points] == ["unstable", "stable"]
    assert dynamics.fixed_points[0].variance == 0
    assert dynamics.fixed_points[0].slope == pytest.approx(1.5**2 * 4 / math.pi, rel=1e-12)
    assert phase("erf", 1.5, 0.0, start_variance=1e-6).variance == pytest.approx(
        dynamics.fixed_points[1].variance, rel=1e-12
    )


def test_point_of_the_edge_is_on_the_edge() -> None:
    point = edge_of_chaos("erf", 0.2).points[0]
    report = phase("erf", point.w_std, 0.2)
    assert report.phase == "edge-of-chaos"
    assert report.variance == pytest.approx(point.variance, rel=1e-9)
    # A value rounded to four digits is not on it.
    assert phase("erf", 1.152, 0.2).phase == "ordered"
    assert phase("erf", 1.152, 0.2, chi_tolerance=1e-2).phase == "edge-of-chaos"


def test_relu() -> None:
    ordered = phase("relu", 1.0, 0.3)
    assert (ordered.phase, ordered.variance) == ("ordered", pytest.approx(0.18, rel=1e-14))
    assert ordered.chi == pytest.approx(0.5, rel=1e-14)
    edge = phase("relu", math.sqrt(2), 0.0, start_variance=3.0)
    assert (edge.phase, edge.variance, edge.every_variance) == ("edge-of-chaos", 3.0, True)
    for w_std, b_std in [(1.5, 0.0), (math.sqrt(2), 0.1), (2.0, 1.0)]:
        unbounded = phase("relu", w_std, b_std)
        assert (unbounded.phase, unbounded.variance, unbounded.chi) == ("unbounded", None, None)
    assert phase("relu", 1.0, 0.0).variance == 0


def test_fixed_point_below_the_usual_range_is_found() -> None:
    report = phase("erf", 0.5, 1e-6)
    # To first order q = b^2/(1 - w^2 4/pi).
    assert report.variance == pytest.approx(1e-12 / (1 - 1 / math.pi), rel=1e-9)


def test_map_and_slope() -> None:
    q = np.array([0.1, 1.0, 30.0])
    np.testing.assert_allclose(
        variance_map("erf", 1.3, 0.4, q),
        [0.16 + 1.69 * erf_second_moment(v) for v in q],
        rtol=1e-14,
    )
    exact = 1.69 * 2 / math.pi * 2 / ((1 + 2 * q) * np.sqrt(1 + 4 * q))
    np.testing.assert_allclose(variance_slope("erf", 1.3, q), exact, rtol=1e-12)
    np.testing.assert_allclose(variance_slope("relu", 1.3, q), 1.69 / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("w_std", "b_std", "start"),
    [
        (0.0, 0.1, 1.0),
        (-1.0, 0.1, 1.0),
        (1.0, math.nan, 1.0),
        (1.0, 0.1, 0.0),
        (1.0, 0.1, math.inf),
    ],
)
def test_bad_numbers(w_std: float, b_std: float, start: float) -> None:
    with pytest.raises(InvalidAnalysisError):
        phase("erf", w_std, b_std, start_variance=start)
