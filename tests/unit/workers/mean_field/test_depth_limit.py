"""Depth limits in every phase, and deep recursions that go to them at the stated rates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workers.analyses.errors import InvalidAnalysisError
from workers.mean_field.convergence import ExponentialFit, LogarithmicFit, depth_convergence
from workers.mean_field.deep import deep_kernels, deep_residual_kernels
from workers.mean_field.depth_limit import depth_limit, residual_depth_limit
from workers.mean_field.edge_of_chaos import edge_of_chaos
from workers.mean_field.moments import moments

SQRT2 = math.sqrt(2)
PAIR = np.array([[1.0, 0.0], [0.5, math.sqrt(0.75)]])  # unit rows, cosine 1/2
ROWS = np.random.default_rng(0).normal(size=(4, 6))
DEEP = [30, 100, 300, 1000, 3000, 10000]
SHALLOW = [10, 20, 30, 40, 60, 80, 100, 120]


def test_deep_kernels_against_printed_values() -> None:
    out = deep_kernels(moments("relu"), PAIR, np.array([2, 3, 4]), w_std=SQRT2, b_std=0.0)
    np.testing.assert_allclose(
        out.nngp[:, 0, 1], [0.6089977810, 0.6839056509, 0.7381281923], rtol=1e-9
    )
    np.testing.assert_allclose(
        out.ntk[:, 0, 1], [0.9423311144, 1.3514795611, 1.7378446792], rtol=1e-9
    )
    np.testing.assert_allclose(out.ntk[:, 0, 0], [2, 3, 4], rtol=1e-14)


def test_deep_residual_kernels_against_printed_values() -> None:
    out = deep_residual_kernels(moments("relu"), PAIR, np.array([2, 5]), w_std=SQRT2)
    scale = out.growth ** np.array([1, 4])
    np.testing.assert_allclose(out.nngp[:, 0, 1] * scale, [1.1089977810, 10.7538678042], rtol=1e-9)
    np.testing.assert_allclose(out.ntk[:, 0, 1] * scale, [1.4423311144, 21.2341655062], rtol=1e-9)
    np.testing.assert_allclose(out.ntk[:, 0, 0] * scale, [3, 48], rtol=1e-14)


def test_relu_at_the_edge_converges_as_log_depth_over_depth() -> None:
    """T^L/L = 1/4 + (3/8) ln(L)/L + O(1/L), to depth a million; Hayou et al. state O(1/L)."""
    depths = [10**4, 10**5, 10**6]
    table = depth_convergence("relu", PAIR, depths, w_std=SQRT2)
    assert table.limit.ntk_distinct == pytest.approx(0.25)
    assert np.max(table.ntk_equal) < 1e-13  # T^L(x, x) = L q exactly
    growth = np.diff(table.ntk_distinct * depths) / np.diff(np.log(depths))
    np.testing.assert_allclose(growth, 0.375, rtol=5e-3)
    assert isinstance(table.fit, LogarithmicFit)
    assert table.fit.log_slope == pytest.approx(0.375, rel=5e-3)
    assert table.fit.expected_log_slope == pytest.approx(0.375, rel=1e-6)


def test_distance_at_the_edge_keeps_its_digits_at_great_depth() -> None:
    out = deep_kernels(moments("relu"), PAIR, np.array([10**6]), w_std=SQRT2, b_std=0.0)
    assert out.distance[0, 0, 1] == pytest.approx(9 * math.pi**2 / 2 / 1e12, rel=1e-3)
    assert out.distance[0, 0, 0] == 0


def test_smooth_activation_at_the_edge() -> None:
    point = edge_of_chaos("erf", 0.2).points[0]
    table = depth_convergence("erf", ROWS, DEEP, w_std=point.w_std, b_std=0.2)
    assert point.variance is not None
    assert table.limit.normaliser == "depth"
    assert table.limit.ntk_distinct == pytest.approx(point.variance / 3, rel=1e-8)
    assert isinstance(table.fit, LogarithmicFit)
    assert table.fit.expected_log_slope == pytest.approx(-1.0665, abs=1e-3)
    assert table.fit.log_slope == pytest.approx(-1.0665, rel=1e-2)
    assert np.all(np.diff(table.ntk_distinct) < 0)
    assert np.all(np.diff(table.ntk_equal) < 0)


@pytest.mark.parametrize(
    ("activation", "w_std", "b_std", "halved", "depths"),
    [("erf", 1.0, 0.2, False, SHALLOW), ("relu", 1.0, 0.3, True, SHALLOW[:5])],
)
def test_ordered_phase(
    activation: str, w_std: float, b_std: float, halved: bool, depths: list[int]
) -> None:
    """All pairs tend to q/(1 - chi), as chi^L, or as chi^(L/2) where phi has a kink."""
    table = depth_convergence(activation, ROWS, depths, w_std=w_std, b_std=b_std)
    report = table.limit.phase
    assert report is not None
    assert report.chi is not None
    assert report.variance is not None
    assert table.limit.ntk_equal == table.limit.ntk_distinct
    assert table.limit.ntk_distinct == pytest.approx(report.variance / (1 - report.chi))
    rate = math.log(report.chi) * (0.5 if halved else 1)
    assert table.limit.decay == pytest.approx(rate)
    assert isinstance(table.fit, ExponentialFit)
    assert table.fit.decay == pytest.approx(rate, rel=0.03)
    assert table.ntk_distinct[-1] < 1e-2 * table.ntk_distinct[0]


def test_chaotic_phase_has_a_limit_off_the_diagonal_only() -> None:
    table = depth_convergence("erf", ROWS, SHALLOW, w_std=1.5, b_std=0.2)
    limit = table.limit
    assert limit.phase is not None
    assert limit.phase.chi is not None
    assert limit.ntk_equal is None
    assert np.all(np.isnan(table.ntk_equal))
    assert table.diagonal_growth == pytest.approx(math.log(limit.phase.chi), rel=1e-6)
    assert table.ntk_distinct[-1] < 1e-4 * limit.ntk_distinct
    assert table.nngp_distinct[-1] < 1e-5 * limit.nngp_distinct
    assert isinstance(table.fit, ExponentialFit)
    assert limit.decay is not None
    assert table.fit.decay == pytest.approx(limit.decay, rel=0.02)


@pytest.mark.parametrize("w_std", [0.5, SQRT2, 2.0])
def test_residual_networks_converge_for_every_weight_deviation(w_std: float) -> None:
    depths = [10**5, 3 * 10**5, 10**6]
    table = depth_convergence("relu", PAIR, depths, w_std=w_std, architecture="residual")
    growth = 1 + w_std**2 / 2
    q = w_std**2 / 2  # of the first layer, rows of norm 1 in 2 dimensions
    assert table.limit.growth == pytest.approx(growth)
    assert table.limit.ntk_equal == pytest.approx(q * (1 - 1 / growth))
    assert table.limit.ntk_distinct == pytest.approx(q * (1 - 1 / growth) / 4)
    # Exactly S^1 A^(L-1) (1 + (L-1) (A-1)/A) on the diagonal.
    np.testing.assert_allclose(table.ntk_equal, q / growth / np.array(depths), rtol=1e-5)
    assert isinstance(table.fit, LogarithmicFit)
    assert table.fit.log_slope == pytest.approx(0.375, rel=0.06)


def test_other_slopes_share_the_quarter_and_the_rate() -> None:
    leaky = {"fn": "leaky_relu", "slope": 0.3}
    assert depth_limit(leaky, math.sqrt(2 / 1.09), 0.0).ntk_distinct == pytest.approx(0.25)
    assert residual_depth_limit(leaky, 1.0).log_slope == pytest.approx(0.375, rel=1e-6)
    table = depth_convergence("abs", ROWS, DEEP, w_std=1.0)
    assert isinstance(table.fit, LogarithmicFit)
    assert table.fit.log_slope == pytest.approx(0.375, rel=0.02)


def test_vanishing_variance() -> None:
    table = depth_convergence("relu", ROWS, SHALLOW[:5], w_std=1.0)
    assert table.limit.ntk_distinct == 0
    assert table.limit.decay == pytest.approx(math.log(0.5))
    assert isinstance(table.fit, ExponentialFit)
    assert table.fit.decay == pytest.approx(math.log(0.5), rel=0.02)
    assert "decays to 0" in table.notes[0]


def test_no_limit() -> None:
    with pytest.raises(InvalidAnalysisError, match="unbounded"):
        depth_limit("relu", 1.5, 0.0)
    with pytest.raises(InvalidAnalysisError, match="keeps all angles"):
        depth_limit("linear", 1.0, 0.0)
    with pytest.raises(InvalidAnalysisError, match="homogeneous"):
        residual_depth_limit("erf", 1.0)
    with pytest.raises(InvalidAnalysisError, match="without bias"):
        depth_convergence("relu", ROWS, [5], w_std=1.0, b_std=0.1, architecture="residual")


def test_overflow_is_an_error_that_names_the_depth() -> None:
    with pytest.raises(InvalidAnalysisError, match="exceed float64 at depth 9000"):
        depth_convergence("erf", ROWS, [100, 9000], w_std=1.5, b_std=0.2)


@pytest.mark.parametrize(
    "x",
    [
        np.ones(3),
        np.ones((1, 3)),
        np.array([[1.0, 2.0], [1.0, 2.0]]),
        np.array([[1.0, 2.0], [0.0, 0.0]]),
        np.array([[1.0, 2.0], [0.0, np.nan]]),
    ],
)
def test_bad_inputs(x: np.ndarray) -> None:
    with pytest.raises(InvalidAnalysisError):
        depth_convergence("relu", x, [1, 2], w_std=1.0)


@pytest.mark.parametrize("depths", [[], [0, 1], [2, 2], [3, 1], [1.5]])
def test_bad_depths(depths: list[int]) -> None:
    with pytest.raises(InvalidAnalysisError, match="Depths"):
        depth_convergence("relu", ROWS, depths, w_std=1.0)
