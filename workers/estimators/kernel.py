"""A neural kernel as scikit-learn takes kernels: a function of two arrays, or a transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from workers.estimators.network import gram, network, shaped


class NeuralKernel(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """K(X, Y) of a network.

    As a function, for estimators that call their `kernel` with whole arrays:
    `SVC(kernel=NeuralKernel(depth=3))`. As a transformer, for those that do not: `transform` gives
    the kernel (n, m) with the m samples of `fit`:
    `make_pipeline(NeuralKernel(depth=3), KernelRidge(kernel="precomputed"))`.

    kernel: a preset's name or a network as data (see workers/kernels/README.md). depth,
    activation, w_std, b_std, normalize: parameters of the preset; None: its own defaults.
    output: ntk or nngp. dtype: float64 or float32, of the computation and the result.
    sample_shape: of one sample, for convolutional networks: rows (n, d) are taken as
    (n, *sample_shape). Calls raise InvalidKernelError and KernelRangeError.
    """

    def __init__(
        self,
        kernel: str | Mapping[str, Any] = "fc",
        *,
        depth: int | None = None,
        activation: Any = None,
        w_std: float | None = None,
        b_std: float | None = None,
        normalize: str | None = None,
        output: str = "ntk",
        dtype: str = "float64",
        sample_shape: Sequence[int] | None = None,
    ) -> None:
        self.kernel = kernel
        self.depth = depth
        self.activation = activation
        self.w_std = w_std
        self.b_std = b_std
        self.normalize = normalize
        self.output = output
        self.dtype = dtype
        self.sample_shape = sample_shape

    def __call__(self, X: Any, Y: Any = None) -> NDArray[Any]:
        """K (n1, n2) of rows X (n1, d) and Y (n2, d); of X with itself when Y is None or X."""
        left = check_array(X, dtype=np.dtype(self.dtype))
        right = None if Y is None or Y is X else check_array(Y, dtype=np.dtype(self.dtype))
        return self._gram(left, right)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Remember the samples X (m, d)."""
        self.X_fit_ = validate_data(self, X, dtype=np.dtype(self.dtype))
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """K (n, m) of X (n, d) with the samples of `fit`."""
        check_is_fitted(self)
        return self._gram(
            validate_data(self, X, dtype=np.dtype(self.dtype), reset=False), self.X_fit_
        )

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[Any]:
        """K (m, m) of the samples, exactly symmetric."""
        return self._gram(self.fit(X).X_fit_, None)

    def _gram(self, left: NDArray[Any], right: NDArray[Any] | None) -> NDArray[Any]:
        columns = None if right is None else shaped(right, self.sample_shape)
        return gram(network(self), self.output, shaped(left, self.sample_shape), columns)
