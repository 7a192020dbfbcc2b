"""Predictions f(X*) = K(X*, X) α from a stored cross-Gram, streamed once, in float64 products.

float64, although the tiles are float32: α of an almost singular system is large and cancels in the
product, and one pass costs little next to the solve.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from workers.solves.operator import Operator
from workers.solves.solution import Float64
from workers.solves.targets import (
    accuracy,
    coefficient_of_determination,
    confusion,
    predicted_classes,
)


def predict(cross: Operator, dual: Float64) -> Float64:
    """`cross`: K(X*, X) of shape (n, m); `dual`: (m, k). Returns (n, k) float64."""
    return cross.apply(dual, precise=True)


def score(
    predictions: Float64, test_targets: NDArray[Any] | None, classes: NDArray[Any] | None
) -> dict[str, Any]:
    """What can be said about predictions (n, k), JSON-able; empty without test targets.

    With `classes` (k,), `test_targets` are labels (n,): accuracy and confusion matrix. Without,
    they are real (n, k): R² per column and the mean squared error.
    """
    if test_targets is None:
        return {}
    if classes is not None:
        predicted = predicted_classes(predictions, classes)
        return {
            "accuracy": accuracy(predicted, test_targets),
            "confusion": confusion(predicted, test_targets, classes).tolist(),
        }
    return {
        "r_squared": coefficient_of_determination(predictions, test_targets),
        "mean_squared_error": float(((predictions - test_targets) ** 2).mean()),
    }
