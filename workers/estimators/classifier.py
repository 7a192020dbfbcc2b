"""Classification by infinitely wide networks, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from workers.estimators.ridge import KernelRidgeBase
from workers.solves.solution import Float64
from workers.solves.targets import encode_labels


class NTKClassifier(ClassifierMixin, KernelRidgeBase):  # type: ignore[misc]
    """Ridge regression on encoded labels (0.9 for the class, -0.1 elsewhere); the largest output
    is the class. Parameters, attributes and errors are those of `NTKRegressor`, and `classes_`.

    There is no `predict_proba`: outputs of a regression are no probabilities. For calibrated
    ones, wrap it in `sklearn.calibration.CalibratedClassifierCV`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Samples X (m, d), labels y (m,) of at least two classes, numbers or text."""
        x, labels = validate_data(self, X, y, dtype=np.dtype(self.dtype))
        check_classification_targets(labels)
        self.classes_, indices = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"There is one class only, {self.classes_[0]!r}: nothing to learn.")
        targets, _ = encode_labels(indices)
        self._solve(x, targets)
        return self

    def decision_function(self, X: Any) -> Float64:
        """Outputs (n, k); for two classes (n,), positive for the second."""
        values = self._outputs(X)
        if len(self.classes_) == 2:
            difference: Float64 = values[:, 1] - values[:, 0]
            return difference
        return values

    def predict(self, X: Any) -> NDArray[Any]:
        """Classes (n,)."""
        values = self._outputs(X)
        classes: NDArray[Any] = self.classes_[np.argmax(values, axis=1)]
        return classes
