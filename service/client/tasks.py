"""One method per task type: what can be computed, as methods of the client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from service.client.models import Job


class Tasks(ABC):
    """Submits tasks; each call returns the job at once. Part of `Client`."""

    @abstractmethod
    def submit(self, task: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """What every method here calls; `Client` knows how."""

    def gram(
        self,
        kernel: str | Mapping[str, Any],
        x1: str,
        x2: str | None = None,
        **options: Any,
    ) -> Job:
        """Gram matrix of data set `x1` (rows) against `x2` (columns; itself when None).

        `options`: outputs, dtype, tile_rows.
        """
        spec = kernel if isinstance(kernel, str) else dict(kernel)
        task = {"type": "gram", "kernel": spec, "x1": x1, "x2": x2, **options}
        return self.submit(task)

    def pixel_gram(
        self,
        kernel: Mapping[str, Any],
        x: str,
        image: int = 0,
        other: int | None = None,
        **options: Any,
    ) -> Job:
        """Kernel of all pixel pairs of one image of data set `x` (of `image` against `other`).

        `kernel` ends with a conv. The (P, Q, P, Q) tensor is stored as the matrix of P Q by P Q
        pixels, which solves take; `pixel_tensor` reads it as a tensor. `options`: outputs, dtype.
        """
        task = {"type": "pixel_gram", "kernel": dict(kernel), "x": x, "image": image}
        return self.submit({**task, "other": other, **options})

    def submatrix(
        self,
        matrix: str,
        rows: Sequence[int],
        columns: Sequence[int] | None = None,
        *,
        array: str = "ntk",
    ) -> Job:
        """Chosen rows and columns (ascending) of a stored symmetric Gram matrix, as one of their
        own; without columns the symmetric one of the rows."""
        chosen = None if columns is None else [int(index) for index in columns]
        task = {"type": "submatrix", "matrix": matrix, "array": array, "columns": chosen}
        return self.submit({**task, "rows": [int(index) for index in rows]})

    def solve(self, matrix: str, **options: Any) -> Job:
        """Kernel ridge regression over a stored Gram matrix.

        `options`: array, targets, encoding, ridge, ridge_relative, method, preconditioner, rank,
        factor_precision, tolerance, max_applications, time_limit_seconds, inducing, placement,
        seed, cross, test_targets.
        """
        return self.submit({"type": "solve", "matrix": matrix, **options})

    def predict(self, solution: str, x: str | None = None, **options: Any) -> Job:
        """Predictions for the data set `x` from the dual coefficients of a finished solve.

        The kernel of `x` with the training set is computed and not stored; name a stored
        cross-Gram with `cross` instead of `x` to use that. `options`: cross, targets.
        """
        return self.submit({"type": "predict", "solution": solution, "x": x, **options})

    def ridge(self, matrix: str, ridges: Sequence[float], **options: Any) -> Job:
        """Kernel ridge regression for several ridges at once, the best by held-out error kept.

        `answer` gives `dual` and `held_out` (m, k), and with `cross` `predictions` (n, k).
        `options`: array, targets, encoding, ridge_relative, selection (leave_one_out, k_fold),
        folds, seed, cross, test_targets.
        """
        return self.submit({"type": "ridge", "matrix": matrix, "ridges": [*ridges], **options})

    def classify(self, matrix: str, ridges: Sequence[float] = (1e-4,), **options: Any) -> Job:
        """Classification by ridge regression on encoded labels.

        `answer` gives what `ridge` does, and `held_out_labels` (m,) and with `cross` `labels`
        (n,). `options`: as of `ridge`, and criterion (error_rate, mean_squared_error).
        """
        return self.submit({"type": "classify", "matrix": matrix, "ridges": [*ridges], **options})

    def posterior(self, matrix: str, cross: str, **options: Any) -> Job:
        """Mean and uncertainty on the rows of a cross-Gram, given the targets.

        `answer` gives `mean` (n, k), and `variance` (n,) or `covariance` (n, n). `options`: model
        (nngp, ensemble), test_matrix, output (mean, variance, covariance), time, ridge,
        ridge_relative, prior, trained, targets, encoding, test_targets.
        """
        return self.submit({"type": "posterior", "matrix": matrix, "cross": cross, **options})

    def dynamics(self, matrix: str, **options: Any) -> Job:
        """Outputs during training, at `times` of gradient flow or after `steps` of descent.

        `answer` gives `train` (m, T, k), and with `cross` `test` (n, T, k). `options`: loss
        (squared, cross_entropy, binary_cross_entropy), learning_rate, ridge, ridge_relative,
        initial, test_initial, array, targets, encoding, cross, test_targets.
        """
        return self.submit({"type": "dynamics", "matrix": matrix, **options})

    def log_marginal_likelihood(self, matrix: str, **options: Any) -> Job:
        """How probable the targets are under a Gaussian process; a summary without arrays.

        `options`: array (nngp), targets, encoding, ridge, ridge_relative, method (auto, cholesky,
        lanczos), probes, lanczos_steps, seed.
        """
        return self.submit({"type": "log_marginal_likelihood", "matrix": matrix, **options})

    def svm(self, matrix: str, **options: Any) -> Job:
        """Support vector classification or regression on a stored Gram matrix.

        `options`: array, targets, kind, cost, epsilon, tolerance, max_iterations, cross,
        test_targets.
        """
        return self.submit({"type": "svm", "matrix": matrix, **options})

    def label_kernel(self, matrix: str, mixing: float, **options: Any) -> Job:
        """A Gram matrix mixed with an estimate of the products of labels, to solve with.

        `options`: array, targets, encoding, bandwidth, cross (then the result is a cross-Gram).
        """
        return self.submit({"type": "label-kernel", "matrix": matrix, "mixing": mixing, **options})

    def spectrum(self, matrix: str, **options: Any) -> Job:
        """Eigenvalues of a stored Gram matrix.

        `options`: array, ridge, ridge_relative, components, centred.
        """
        return self.submit({"type": "spectrum", "matrix": matrix, **options})

    def analysis(self, name: str, **parameters: Any) -> Job:
        """A named analysis (`conditioning`, `kernel_distance`, ...) with its inputs: matrix,
        other, targets, ... as its schema says."""
        return self.submit({"type": "analysis", "analysis": {"name": name, **parameters}})

    def verify(self, matrix: str, *, repair: bool = False) -> Job:
        """Read a whole matrix again and compare it with what was sealed; with `repair`, compute
        damaged tiles of a Gram matrix again, to the same digest."""
        return self.submit({"type": "verify", "matrix": matrix, "repair": repair})
