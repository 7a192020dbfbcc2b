"""One method per task type: what can be computed, as methods of the client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from service.client.handles import (
    GramHandle,
    JobHandle,
    MatrixLike,
    SamplesLike,
    SolveHandle,
    dataset_id,
    named,
)
from service.client.models import Dataset
from storage.errors import InvalidArrayError

H = TypeVar("H", bound=JobHandle)


class Tasks(ABC):
    """Submits tasks; each call returns a handle at once. Part of `Client`.

    Where a Gram matrix or a solve is wanted, give its handle, its Matrix or its id: a handle is
    waited for, because only what is complete can be worked with.
    """

    @abstractmethod
    def start(self, task: Mapping[str, Any], handle: type[H]) -> H:
        """What every method here calls; `Client` knows how."""

    @abstractmethod
    def upload(
        self, x: SamplesLike, y: SamplesLike | None = None, name: str | None = None
    ) -> Dataset:
        """Stores samples and targets."""

    def gram(
        self,
        x: SamplesLike,
        x2: SamplesLike | None = None,
        *,
        kernel: str | Mapping[str, Any],
        y: SamplesLike | None = None,
        **options: Any,
    ) -> GramHandle:
        """Gram matrix of the samples `x` (rows) against `x2` (columns; `x` itself when None).

        Samples are arrays (NumPy, JAX, torch, pandas, lists), `.npy` files, data sets or their ids;
        what is not stored yet is uploaded, with the targets `y` of `x`. `options`: outputs, dtype,
        tile_rows. Raises InvalidArrayError before anything is sent, and ApiError.
        """
        spec = kernel if isinstance(kernel, str) else dict(kernel)
        rows = self._stored(x, y)
        columns = None if x2 is None else self._stored(x2)
        task = {"type": "gram", "kernel": spec, "x1": rows, "x2": columns, **options}
        return self._ask(task, GramHandle)

    def pixel_gram(
        self,
        kernel: Mapping[str, Any],
        x: SamplesLike,
        image: int = 0,
        other: int | None = None,
        **options: Any,
    ) -> GramHandle:
        """Kernel of all pixel pairs of one of the images `x` (of `image` against `other`).

        `kernel` ends with a conv. The (P, Q, P, Q) tensor is stored as the matrix of P Q by P Q
        pixels, which solves take; `pixel_tensor` reads it as a tensor. `options`: outputs, dtype.
        """
        task = {"type": "pixel_gram", "kernel": dict(kernel), "x": self._stored(x)}
        return self._ask({**task, "image": image, "other": other, **options}, GramHandle)

    def submatrix(
        self,
        matrix: MatrixLike,
        rows: Sequence[int],
        columns: Sequence[int] | None = None,
        *,
        array: str = "ntk",
    ) -> GramHandle:
        """Chosen rows and columns (ascending) of a stored symmetric Gram matrix, as one of their
        own; without columns the symmetric one of the rows."""
        chosen = None if columns is None else [int(index) for index in columns]
        task = {"type": "submatrix", "matrix": matrix, "array": array, "columns": chosen}
        return self._ask({**task, "rows": [int(index) for index in rows]}, GramHandle)

    def solve(self, matrix: MatrixLike, **options: Any) -> SolveHandle:
        """Kernel ridge regression over a stored Gram matrix.

        `options`: array, targets, encoding, ridge, ridge_relative, method, preconditioner, rank,
        factor_precision, tolerance, max_applications, time_limit_seconds, inducing, placement,
        seed, cross, test_targets.
        """
        return self._ask({"type": "solve", "matrix": matrix, **options}, SolveHandle)

    def predict(
        self,
        solution: MatrixLike,
        x: SamplesLike | None = None,
        *,
        y: SamplesLike | None = None,
        **options: Any,
    ) -> JobHandle:
        """Predictions for the samples `x` from the dual coefficients of a finished solve.

        The kernel of `x` with the training set is computed and not stored; name a stored
        cross-Gram with `cross` instead of `x` to use that. `y`: targets of `x` to compare with.
        `options`: cross, targets.
        """
        rows = None if x is None else self._stored(x, y)
        task = {"type": "predict", "solution": solution, "x": rows, **options}
        return self._ask(task, JobHandle)

    def ridge(self, matrix: MatrixLike, ridges: Sequence[float], **options: Any) -> JobHandle:
        """Kernel ridge regression for several ridges at once, the best by held-out error kept.

        `answer` gives `dual` and `held_out` (m, k), and with `cross` `predictions` (n, k).
        `options`: array, targets, encoding, ridge_relative, selection (leave_one_out, k_fold),
        folds, seed, cross, test_targets.
        """
        return self._ask(
            {"type": "ridge", "matrix": matrix, "ridges": [*ridges], **options}, JobHandle
        )

    def classify(
        self, matrix: MatrixLike, ridges: Sequence[float] = (1e-4,), **options: Any
    ) -> JobHandle:
        """Classification by ridge regression on encoded labels.

        `answer` gives what `ridge` does, and `held_out_labels` (m,) and with `cross` `labels`
        (n,). `options`: as of `ridge`, and criterion (error_rate, mean_squared_error).
        """
        return self._ask(
            {"type": "classify", "matrix": matrix, "ridges": [*ridges], **options}, JobHandle
        )

    def posterior(self, matrix: MatrixLike, cross: MatrixLike, **options: Any) -> JobHandle:
        """Mean and uncertainty on the rows of a cross-Gram, given the targets.

        `answer` gives `mean` (n, k), and `variance` (n,) or `covariance` (n, n). `options`: model
        (nngp, ensemble), test_matrix, output (mean, variance, covariance), time, ridge,
        ridge_relative, prior, trained, targets, encoding, test_targets.
        """
        return self._ask(
            {"type": "posterior", "matrix": matrix, "cross": cross, **options}, JobHandle
        )

    def dynamics(self, matrix: MatrixLike, **options: Any) -> JobHandle:
        """Outputs during training, at `times` of gradient flow or after `steps` of descent.

        `answer` gives `train` (m, T, k), and with `cross` `test` (n, T, k). `options`: loss
        (squared, cross_entropy, binary_cross_entropy), learning_rate, ridge, ridge_relative,
        initial, test_initial, array, targets, encoding, cross, test_targets.
        """
        return self._ask({"type": "dynamics", "matrix": matrix, **options}, JobHandle)

    def log_marginal_likelihood(self, matrix: MatrixLike, **options: Any) -> JobHandle:
        """How probable the targets are under a Gaussian process; a summary without arrays.

        `options`: array (nngp), targets, encoding, ridge, ridge_relative, method (auto, cholesky,
        lanczos), probes, lanczos_steps, seed.
        """
        return self._ask(
            {"type": "log_marginal_likelihood", "matrix": matrix, **options}, JobHandle
        )

    def svm(self, matrix: MatrixLike, **options: Any) -> JobHandle:
        """Support vector classification or regression on a stored Gram matrix.

        `options`: array, targets, kind, cost, epsilon, tolerance, max_iterations, cross,
        test_targets.
        """
        return self._ask({"type": "svm", "matrix": matrix, **options}, JobHandle)

    def label_kernel(self, matrix: MatrixLike, mixing: float, **options: Any) -> GramHandle:
        """A Gram matrix mixed with an estimate of the products of labels, to solve with.

        `options`: array, targets, encoding, bandwidth, cross (then the result is a cross-Gram).
        """
        return self._ask(
            {"type": "label-kernel", "matrix": matrix, "mixing": mixing, **options}, GramHandle
        )

    def spectrum(self, matrix: MatrixLike, **options: Any) -> JobHandle:
        """Eigenvalues of a stored Gram matrix: all, or the largest of one beyond one worker.

        `options`: array, ridge, ridge_relative, components, centred, method, largest, probes,
        lanczos_steps, seed.
        """
        return self._ask({"type": "spectrum", "matrix": matrix, **options}, JobHandle)

    def analysis(self, name: str, **parameters: Any) -> JobHandle:
        """A named analysis (`conditioning`, `kernel_distance`, ...) with its inputs: matrix,
        other, targets, ... as its schema says."""
        return self._ask(
            {"type": "analysis", "analysis": {"name": name, **named(parameters)}}, JobHandle
        )

    def verify(self, matrix: MatrixLike, *, repair: bool = False) -> JobHandle:
        """Read a whole matrix again and compare it with what was sealed; with `repair`, compute
        damaged tiles of a Gram matrix again, to the same digest."""
        return self._ask({"type": "verify", "matrix": matrix, "repair": repair}, JobHandle)

    def _ask(self, task: Mapping[str, Any], handle: type[H]) -> H:
        return self.start(named(task), handle)

    def _stored(self, x: SamplesLike, y: SamplesLike | None = None) -> str:
        """The id of a data set, uploaded first unless it is one."""
        found = dataset_id(x)
        if found is None:
            return self.upload(x, y).id
        if y is not None:
            raise InvalidArrayError(
                f"{found} is stored with the targets it has.",
                advice="Give the samples themselves to store them with other targets.",
            )
        return found
