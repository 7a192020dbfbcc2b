"""Support vector machines: what scikit-learn gives for the same matrix, and certificates."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.svm import SVC, SVR

from storage.errors import MissingExtraError
from support.grams import kernel_like
from workers.solves.errors import SolveFailedError
from workers.solves.source import ArrayTiles
from workers.solves.svm import SvmSettings, pairs_of, stored_svm, votes


def never() -> None:
    return None


def tiles(matrix: np.ndarray, *, symmetric: bool = True) -> ArrayTiles:
    return ArrayTiles(matrix, 32, symmetric=symmetric)


K, CROSS, LABELS, TEST_LABELS = kernel_like(120, 40, dtype="float64")
CLASSES = np.unique(LABELS)


def test_votes_of_pairs_are_those_of_a_multi_class_machine() -> None:
    settings = SvmSettings(cost=3.0, tolerance=1e-6)
    found = stored_svm(
        tiles(K), LABELS, CLASSES, settings, tiles(CROSS, symmetric=False), TEST_LABELS, never
    )
    theirs = SVC(kernel="precomputed", C=3.0, tol=1e-6, decision_function_shape="ovo")
    theirs.fit(K, LABELS)
    # LIBSVM's sign: positive for the first class of a pair.
    decisions = found.arrays["decisions"]
    np.testing.assert_allclose(decisions, -theirs.decision_function(CROSS), atol=1e-4)
    assert np.array_equal(found.arrays["labels"], theirs.predict(CROSS))
    summary = found.summary
    assert summary["accuracy"] == pytest.approx(theirs.score(CROSS, TEST_LABELS))
    assert np.sum(summary["confusion"]) == 40
    assert summary["support_vectors"] == len(theirs.support_)
    assert summary["pairs"] == [[0, 1], [0, 2], [1, 2]]
    assert 0 <= summary["relative_duality_gap"] < 1e-4
    assert summary["warnings"] == []
    expected = CROSS @ found.arrays["dual"] + summary["intercepts"]
    np.testing.assert_allclose(decisions, expected, rtol=1e-10, atol=1e-12)


def test_regression_is_that_of_scikit_learn_for_every_column() -> None:
    y = np.stack([K[:, 3], -2 * K[:, 50] + 1], axis=1)
    settings = SvmSettings(cost=5.0, epsilon=0.05, tolerance=1e-6)
    found = stored_svm(
        tiles(K), y, None, settings, tiles(CROSS, symmetric=False), CROSS[:, [3, 50]], never
    )
    for column in range(2):
        theirs = SVR(kernel="precomputed", C=5.0, epsilon=0.05, tol=1e-6).fit(K, y[:, column])
        np.testing.assert_allclose(
            found.arrays["predictions"][:, column], theirs.predict(CROSS), atol=1e-4
        )
    assert 0 <= found.summary["relative_duality_gap"] < 1e-4
    assert set(found.arrays) == {"dual", "predictions"}


def test_the_hard_margin_of_two_points_is_known() -> None:
    # f = w x + b through (-1, -1) and (3, 1): w = 1/2, so 1/2 w^2 = 1/8 and b = -1/2.
    x = np.array([-1.0, 3.0])
    found = stored_svm(
        tiles(np.outer(x, x)), np.array([4, 7]), np.array([4, 7]),
        SvmSettings(cost=1e6, tolerance=1e-9), None, None, never,
    )  # fmt: skip
    assert found.summary["objectives"] == [pytest.approx(0.125, rel=1e-6)]
    assert found.summary["intercepts"] == [pytest.approx(-0.5, rel=1e-6)]
    assert x @ found.arrays["dual"][:, 0] == pytest.approx(0.5, rel=1e-6)
    assert found.summary["training"]["accuracy"] == 1.0


def test_a_machine_that_was_stopped_early_says_so() -> None:
    found = stored_svm(
        tiles(K), LABELS, CLASSES, SvmSettings(cost=100.0, max_iterations=2), None, None, never
    )
    text = " ".join(found.summary["warnings"])
    assert "max_iterations" in text
    assert "duality gap" in text


def test_an_indefinite_matrix_says_so() -> None:
    found = stored_svm(
        tiles(-K), LABELS, CLASSES, SvmSettings(max_iterations=1000), None, None, never
    )
    assert "not positive semidefinite" in " ".join(found.summary["warnings"])


def test_a_matrix_that_is_not_finite_is_refused() -> None:
    bad = K.copy()
    bad[3, 3] = np.nan
    with pytest.raises(SolveFailedError, match="not finite"):
        stored_svm(tiles(bad), LABELS, CLASSES, SvmSettings(), None, None, never)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError) as caught:
        stored_svm(tiles(K), LABELS, CLASSES, SvmSettings(), None, None, never)
    assert "gramian[svm]" in caught.value.advice


def test_the_first_class_wins_ties() -> None:
    classes = np.array([2, 5, 9])
    assert pairs_of(classes) == [(0, 1), (0, 2), (1, 2)]
    # 2 beats 5, 9 beats 2, 5 beats 9: one vote each.
    assert votes(np.array([[-1.0, 1.0, -1.0]]), classes).tolist() == [2]
    assert votes(np.array([[1.0, 1.0, 1.0]]), classes).tolist() == [9]
