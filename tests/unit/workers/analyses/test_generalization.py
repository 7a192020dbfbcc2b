"""Bounds from y^T H^-1 y, in all the forms that papers print."""

from __future__ import annotations

import math

import numpy as np
import pytest

from support.oracle import oracle
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.generalization import generalization_bound, two_layer_relu_gram

ORACLE = oracle("conditioning")
H = ORACLE["H_inf"]
Y = np.array([1.0, -1.0, 1.0, -1.0])


def test_reference() -> None:
    bound = generalization_bound(H, Y)
    assert bound.quadratic == pytest.approx(float(ORACLE["bound_quad"]), rel=1e-11)
    assert bound.complexity == pytest.approx(float(ORACLE["bound_brief"]), rel=1e-11)
    assert bound.arora == pytest.approx(float(ORACLE["bound_arora"]), rel=1e-11)
    assert bound.survey == pytest.approx(float(ORACLE["bound_survey_fixed"]), rel=1e-11)
    assert bound.survey_as_printed == pytest.approx(
        float(ORACLE["bound_survey_literal"]), rel=1e-11
    )
    assert bound.reliable
    assert bound.notes == ()


def test_width_and_failure_probability_enter_the_survey_bound() -> None:
    infinite = generalization_bound(H, Y)
    finite = generalization_bound(H, Y, width=50, delta=0.1)
    ratio = math.sqrt(0.5 + math.sqrt(math.log(10) / 100)) / math.sqrt(0.5)
    assert finite.survey == pytest.approx(infinite.survey * ratio, rel=1e-14)
    assert finite.arora == infinite.arora


def test_outputs_add_up_and_ridge_is_added_to_the_diagonal() -> None:
    both = np.stack([Y, np.arange(4.0) / 4], axis=1)
    total = generalization_bound(H, both, ridge=0.3).quadratic
    inverse = np.linalg.inv(H + 0.3 * np.eye(4))
    assert total == pytest.approx(np.trace(both.T @ inverse @ both), rel=1e-12)


def test_smooth_targets_have_smaller_bounds_than_random_ones() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    x /= np.linalg.norm(x, axis=1)[:, None]
    gram = two_layer_relu_gram(x)
    linear = x[:, 0] / np.max(np.abs(x[:, 0]))
    random = rng.permutation(linear)
    assert generalization_bound(gram, linear).arora < 0.5 * generalization_bound(gram, random).arora


def test_kernel_of_the_bound() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 3))
    x /= np.linalg.norm(x, axis=1)[:, None]
    x[4] = -x[0]
    expected = (x @ x.T) * (math.pi - np.arccos(np.clip(x @ x.T, -1, 1))) / (2 * math.pi)
    gram = two_layer_relu_gram(x)
    np.testing.assert_allclose(gram, expected, atol=3e-8)
    np.testing.assert_allclose(np.diagonal(gram), 0.5, rtol=1e-15)
    # Two inputs 1e-9 apart: an arc cosine of their product would see no angle at all.
    angle = 1e-9
    pair = np.array([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    close = two_layer_relu_gram(pair)
    assert 0.5 - close[0, 1] == pytest.approx(angle / (2 * math.pi), rel=1e-6)


def test_nearly_singular_is_said_to_be_noise() -> None:
    h = np.full((3, 3), 1.0) + 1e-15 * np.diag([1.0, 2.0, 3.0])
    bound = generalization_bound(h, np.array([1.0, -1.0, 0.0]))
    assert not bound.reliable
    assert "noise" in bound.notes[0]


def test_large_targets_are_noted() -> None:
    assert "exceed 1" in generalization_bound(H, 2 * Y).notes[0]


def test_singular() -> None:
    with pytest.raises(InvalidAnalysisError, match="singular"):
        generalization_bound(np.ones((3, 3)), np.ones(3))
    assert generalization_bound(np.ones((3, 3)), np.ones(3), ridge=1.0).reliable


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        (np.ones(3), {}),
        (np.ones((4, 1, 1)), {}),
        (np.array([1.0, np.inf, 0.0, 0.0]), {}),
        (np.array(["a", "b", "c", "d"]), {}),
        (Y, {"ridge": -0.1}),
        (Y, {"delta": 0.0}),
        (Y, {"delta": 1.0}),
        (Y, {"width": 0}),
    ],
)
def test_bad_arguments(targets: np.ndarray, options: dict[str, float]) -> None:
    with pytest.raises(InvalidAnalysisError):
        generalization_bound(H, targets, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("x", [np.ones((2, 3)), np.ones(3), np.array([[np.nan, 1.0]])])
def test_bad_inputs_of_the_kernel(x: np.ndarray) -> None:
    with pytest.raises(InvalidAnalysisError):
        two_layer_relu_gram(x)
