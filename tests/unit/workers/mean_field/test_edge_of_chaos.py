"""The edge of chaos: every root, its stability, and the activations that have none."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

from support.oracle import oracle
from workers.analyses.errors import InvalidAnalysisError
from workers.kernels import InvalidKernelError
from workers.kernels.duals.base import ActivationModel
from workers.kernels.duals.powers import RectifiedPower, Sign, Step
from workers.kernels.registry import catalogue
from workers.mean_field.edge_of_chaos import edge_at_variance, edge_of_chaos
from workers.mean_field.roots import Search, all_roots

SPELLINGS: dict[str, dict[str, Any]] = {
    "elu(1.0)": {"fn": "elu"},
    "sin(w=1.0,b=0)": {"fn": "sin"},
}
"""Names of the reference table that differ from the language's."""


def registered() -> set[str]:
    return {entry["name"] for entry in catalogue()["activations"]}


def reference_rows() -> list[Any]:
    table = oracle("eoc")
    rows = []
    for name, row in zip(table["act"], table["table"], strict=True):
        spec = SPELLINGS.get(str(name), {"fn": str(name)})
        if spec["fn"] in registered():
            rows.append(pytest.param(spec, *row, id=f"{name}-{row[0]:g}"))
    return rows


@pytest.mark.parametrize(("spec", "b_std", "w_std", "variance", "slope"), reference_rows())
def test_reference_table(
    spec: dict[str, Any], b_std: float, w_std: float, variance: float, slope: float
) -> None:
    edge = edge_of_chaos(spec, b_std)
    assert len(edge.points) == 1
    point = edge.points[0]
    assert point.w_std == pytest.approx(w_std, rel=1e-10)
    assert point.variance == pytest.approx(variance, rel=1e-8)
    # The reference's slope is a finite difference, good to 1e-8.
    assert point.variance_slope == pytest.approx(slope, abs=2e-8)
    assert point.stability == ("stable" if slope < 1 else "unstable")
    assert (edge.stable == ()) == (slope > 1)


def test_reference_table_is_used() -> None:
    assert len(reference_rows()) >= 5


@pytest.mark.parametrize(
    ("spec", "w_std"),
    [
        ("relu", math.sqrt(2)),
        ({"fn": "leaky_relu", "slope": 0.1}, math.sqrt(2 / 1.01)),
        ({"fn": "relu_like", "positive_slope": 1.3, "negative_slope": -0.4}, math.sqrt(2 / 1.85)),
        ("abs", 1.0),
        ("linear", 1.0),
    ],
)
def test_homogeneous_activations_are_critical_at_any_variance(spec: Any, w_std: float) -> None:
    edge = edge_of_chaos(spec, 0.0)
    assert [(p.w_std, p.variance, p.stability) for p in edge.points] == [
        (pytest.approx(w_std, rel=1e-15), None, "neutral")
    ]
    with_bias = edge_of_chaos(spec, 0.1)
    assert with_bias.points == ()
    assert "b_std = 0" in with_bias.notes[0]


def test_slope_of_the_variance_map_against_differentiation_in_many_digits() -> None:
    point = edge_of_chaos("erf", 0.2).points[0]
    exact = point.w_std**2 * mpmath.diff(
        lambda q: 2 / mpmath.pi * mpmath.asin(2 * q / (1 + 2 * q)), point.variance
    )
    assert point.variance_slope == pytest.approx(float(exact), rel=1e-12)


def test_without_bias_the_edge_is_at_variance_zero() -> None:
    edge = edge_of_chaos("erf", 0.0)
    assert len(edge.points) == 1
    point = edge.points[0]
    assert point.variance == 0
    assert point.w_std == pytest.approx(math.sqrt(math.pi) / 2, rel=1e-12)  # 1/phi'(0)
    assert point.stability == "neutral"


def test_curve_passes_through_the_points() -> None:
    point = edge_of_chaos("erf", 0.3).points[0]
    assert point.variance is not None
    square, w_std = edge_at_variance("erf", np.array([point.variance, 1.0]))
    assert square[0] == pytest.approx(0.09, rel=1e-10)
    assert w_std[0] == pytest.approx(point.w_std, rel=1e-14)


def test_nothing_in_the_range_searched_is_said() -> None:
    edge = edge_of_chaos("erf", 0.2, search=Search(lowest=1.0))
    assert edge.points == ()
    assert "[1, 10000]" in edge.notes[0]


@pytest.mark.parametrize("b_std", [-0.1, math.nan, math.inf])
def test_bad_deviation(b_std: float) -> None:
    with pytest.raises(InvalidAnalysisError, match="not standard deviations"):
        edge_of_chaos("erf", b_std)


def test_unknown_activation() -> None:
    with pytest.raises(InvalidKernelError):
        edge_of_chaos("swoosh", 0.1)


@pytest.mark.parametrize("model", [Sign(fn="sign"), Step(fn="step")])
def test_activations_without_a_derivative_kernel(model: ActivationModel) -> None:
    with pytest.raises(InvalidAnalysisError, match="chi and the NTK do not exist"):
        edge_of_chaos(model, 0.1)


def test_two_roots_between_neighbouring_scan_points_are_found() -> None:
    search = Search(lowest=1e-2, highest=1e2, points=20)
    fold = math.exp(0.05)  # roots at exp(0.05 +- 0.03); scan points are 0.48 apart
    roots = all_roots(lambda q: (np.log(q / fold)) ** 2 - 0.03**2, search)
    np.testing.assert_allclose(np.log(roots), [0.02, 0.08], atol=1e-12)


def test_noise_around_zero_is_no_root() -> None:
    noise = np.random.default_rng(0)
    search = Search(noise=1e-12)
    assert all_roots(lambda q: noise.uniform(-1e-13, 1e-13, len(q)), search) == ()
    tail = all_roots(
        lambda q: np.where(q < 1, noise.uniform(-1e-13, 1e-13, len(q)), (q - 7) * (q > 2)), search
    )
    assert tail == (pytest.approx(7, rel=1e-14),)


def test_powers_other_than_one_are_not_taken_for_homogeneous() -> None:
    """relu(x)^2: V(q) = b^2 + w^2 (3/2) q^2 has critical points at q = 4 b^2, with V' = 3/2."""
    point = edge_of_chaos(RectifiedPower(fn="rectified_power", power=2), 0.2)
    assert [p.stability for p in point.points] == ["unstable"]
    assert point.points[0].variance == pytest.approx(0.16, rel=1e-12)
    assert point.points[0].variance_slope == pytest.approx(1.5, rel=1e-12)
    assert "unstable" in point.notes[0]
    assert edge_of_chaos(RectifiedPower(fn="rectified_power", power=2), 0.0).points == ()
