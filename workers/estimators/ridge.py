"""Kernel ridge regression with a neural kernel: what the regressor and the classifier share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from workers.estimators.network import gram, network, shaped
from workers.estimators.remote import GramClient
from workers.predictions.eigensystem import eigensystem
from workers.predictions.posterior import factored
from workers.predictions.ridge import fit_ridge
from workers.solves.solution import Float64

# Rows of new samples per kernel block: its width is the training set, which is in memory anyway.
_PREDICTED_ROWS = 2048


class KernelRidgeBase(BaseEstimator):  # type: ignore[misc]
    """Solves (K + λI) A = Y in memory: about 8 m² bytes and m³/3 operations for m samples, or on
    the service of `client` at any size."""

    def __init__(
        self,
        kernel: str | Mapping[str, Any] = "fc",
        *,
        ridge: float | Sequence[float] = 1e-4,
        ridge_relative: bool = True,
        depth: int | None = None,
        activation: Any = None,
        w_std: float | None = None,
        b_std: float | None = None,
        normalize: str | None = None,
        output: str = "ntk",
        dtype: str = "float64",
        sample_shape: Sequence[int] | None = None,
        client: GramClient | None = None,
    ) -> None:
        self.kernel = kernel
        self.ridge = ridge
        self.ridge_relative = ridge_relative
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.normalize = normalize
        self.output = output
        self.dtype = dtype
        self.sample_shape = sample_shape
        self.client = client

    def _solve(self, x: NDArray[Any], targets: Float64) -> None:
        """Sets `dual_coef_` (m, k) and `ridge_` for rows x (m, d) and targets (m, k)."""
        samples = shaped(x, self.sample_shape)
        if self.client is not None:
            self._solve_remotely(self.client, samples, targets)
            return
        self.X_fit_ = x
        matrix = gram(network(self), self.output, samples).astype(np.float64, copy=False)
        unit = float(np.trace(matrix)) / len(matrix) if self.ridge_relative else 1.0
        if np.ndim(self.ridge) == 0:
            self.ridge_ = float(self.ridge) * unit  # type: ignore[arg-type]
            factor = factored(matrix, self.ridge_)
            self.dual_coef_ = linalg.cho_solve((factor, True), targets, check_finite=False)
            return
        ridges = [float(ridge) * unit for ridge in self.ridge]  # type: ignore[union-attr]
        fit = fit_ridge(eigensystem(matrix), targets, ridges)
        self.ridge_, self.dual_coef_ = fit.ridge, fit.dual

    def _solve_remotely(self, client: GramClient, x: NDArray[Any], targets: Float64) -> None:
        if np.ndim(self.ridge):
            raise ValueError("On a service, give one ridge; its task `ridge` chooses between many.")
        matrix = client.gram(
            x,
            kernel=network(self).canonical(),
            y=targets,
            outputs=[self.output],
            dtype=self.dtype,
        )
        self.solve_ = matrix.solve(
            array=self.output,
            ridge=float(self.ridge),  # type: ignore[arg-type]
            ridge_relative=self.ridge_relative,
            encoding="real",
        ).wait()
        self.dual_coef_ = self.solve_.coefficients

    def _outputs(self, X: Any) -> Float64:
        """Predictions (n, k) for new rows."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.dtype(self.dtype), reset=False)
        if self.client is not None:
            return self.solve_.predict(shaped(rows, self.sample_shape)).numpy()
        spec, train = network(self), shaped(self.X_fit_, self.sample_shape)
        samples = shaped(rows, self.sample_shape)
        return np.concatenate(
            [
                gram(spec, self.output, samples[start : start + _PREDICTED_ROWS], train)
                @ self.dual_coef_
                for start in range(0, len(samples), _PREDICTED_ROWS)
            ]
        )
