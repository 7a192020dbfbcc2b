"""Encodings and scores, against scikit-learn where it has them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, r2_score

from workers.solves.errors import InvalidSolveError
from workers.solves.targets import (
    accuracy,
    coefficient_of_determination,
    confusion,
    encode_labels,
    is_labels,
    predicted_classes,
    real_targets,
)


def test_labels_become_one_hot_minus_a_tenth() -> None:
    targets, classes = encode_labels(np.array([7, -2, 7, 30]))
    assert classes.tolist() == [-2, 7, 30]
    np.testing.assert_allclose(
        targets, [[-0.1, 0.9, -0.1], [0.9, -0.1, -0.1], [-0.1, 0.9, -0.1], [-0.1, -0.1, 0.9]]
    )


def test_encoding_against_the_oracle(oracle_dynamics: dict[str, np.ndarray]) -> None:
    targets, _ = encode_labels(oracle_dynamics["classes"], np.arange(10))
    np.testing.assert_allclose(targets, oracle_dynamics["Y_encoded"])


def test_labels_outside_the_given_classes_are_refused() -> None:
    with pytest.raises(InvalidSolveError, match="not among"):
        encode_labels(np.array([0, 1, 2]), np.array([0, 1]))


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(InvalidSolveError, match="distinct values"):
        encode_labels(np.arange(2000))


def test_what_counts_as_labels() -> None:
    assert is_labels(np.zeros(3, dtype=np.int64))
    assert not is_labels(np.zeros(3))
    assert not is_labels(np.zeros((3, 1), dtype=np.int64))


def test_real_targets_stay_as_they_are() -> None:
    np.testing.assert_array_equal(real_targets(np.array([1.5, 2.0])), [[1.5], [2.0]])
    np.testing.assert_array_equal(real_targets(np.eye(3, dtype=np.float32)), np.eye(3))


@pytest.mark.parametrize(
    "bad",
    [
        np.array([1.0, np.nan]),
        np.array([np.inf, 1.0]),
        np.array(["a", "b"]),
        np.array([1 + 2j, 0]),
        np.zeros((2, 2, 2)),
        np.zeros((2, 0)),
    ],
)
def test_targets_that_are_not_numbers_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InvalidSolveError):
        real_targets(bad)


def test_scores_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    classes = np.array([5, 1, 9])  # order as given, not ascending
    labels = rng.choice(classes, 60)
    predicted = predicted_classes(rng.standard_normal((60, 3)), classes)
    assert accuracy(predicted, labels) == np.mean(predicted == labels)
    np.testing.assert_array_equal(
        confusion(predicted, labels, classes), confusion_matrix(labels, predicted, labels=classes)
    )
    y, f = rng.standard_normal((30, 2)), rng.standard_normal((30, 2))
    np.testing.assert_allclose(
        coefficient_of_determination(f, y), r2_score(y, f, multioutput="raw_values")
    )
    assert coefficient_of_determination(f[:, :1], np.ones((30, 1))) == [None]


def test_confusion_leaves_out_classes_never_trained_on() -> None:
    counts = confusion(np.array([0, 1, 1]), np.array([0, 1, 4]), np.array([0, 1]))
    assert counts.tolist() == [[1, 0], [0, 1]]
