"""Regression by infinitely wide networks, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from workers.estimators.ridge import KernelRidgeBase
from workers.solves.solution import Float64


class NTKRegressor(RegressorMixin, KernelRidgeBase):  # type: ignore[misc]
    """Kernel ridge regression with the NTK (or NNGP) of a network: what gradient descent on an
    infinitely wide network ends with (Jacot et al. 2018), its initial output taken as 0.

    kernel, depth, activation, w_std, b_std, normalize, output, dtype, sample_shape: the kernel,
    as for `NeuralKernel`. ridge: added to the diagonal, in units of trace(K)/m if
    `ridge_relative`; of several, the one with the smallest leave-one-out error is taken. client: a
    `service.client.Client`; the matrix is then computed, kept and solved with on its service.

    After `fit`: `dual_coef_` (m, k), `ridge_` (absolute) and `X_fit_` in process, `solve_` (the
    handle) on a service. Raises SolveFailedError if K + ridge I is not positive definite,
    InvalidKernelError and KernelRangeError.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Samples X (m, d), targets y (m,) or (m, k)."""
        x, targets = validate_data(
            self, X, y, dtype=np.dtype(self.dtype), multi_output=True, y_numeric=True
        )
        self._one_column = targets.ndim == 1
        self._solve(x, np.asarray(targets, dtype=np.float64).reshape(len(x), -1))
        return self

    def predict(self, X: Any) -> Float64:
        """Predictions (n,), or (n, k) if the targets had columns."""
        values = self._outputs(X)
        return values[:, 0] if self._one_column else values
