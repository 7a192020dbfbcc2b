"""What a solve is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from workers.solves.policy import (
    FactorPrecision,
    RequestedMethod,
    RequestedPlacement,
    RequestedPreconditioner,
)
from workers.solves.solution import Float64, Outcome
from workers.solves.state_keeper import CHECKPOINT_SECONDS
from workers.solves.targets import Encoding

EXACT_TOLERANCE = 1e-6
PREDICTION_TOLERANCE = 1e-3  # the error of a prediction is 0.6–0.8 of the residual


@dataclass(frozen=True)
class SolveRequest:
    """Ridge regression on a stored Gram matrix K (m, m), and predictions from it.

    targets: labels (m,) or real (m,) or (m, k); `encoding` (targets.py) makes columns of them.
    ridge: λ ≥ 0 added to the diagonal; with `ridge_relative`, λ·tr(K)/m.
    tolerance: certified relative residual. None: 1e-3 when only predictions are wanted (there is a
        cross matrix), else 1e-6.
    inducing_points: for "nystrom" and "falkon"; None: √m·20, at most m. `seed` draws them.
    cross_matrix_id: a sealed K(X*, X) of shape (n, m) with the same array, for predictions.
    test_targets: (n,) labels or (n, k) real, to score the predictions with.
    max_applications, time_limit_seconds: of "cg", "falkon" and "tiled-cholesky".
    checkpoint_id: names the checkpoint of these in the store; None: no checkpoint.
    preconditioner, rank: of "cg" (cg_solver.PreconditionerSettings).
    factor_precision: of "tiled-cholesky" (tiled_solver.py).
    """

    matrix_id: str
    array: str
    targets: NDArray[Any]
    encoding: Encoding = "auto"
    ridge: float = 0.0
    ridge_relative: bool = False
    method: RequestedMethod = "auto"
    tolerance: float | None = None
    inducing_points: int | None = None
    seed: int = 0
    cross_matrix_id: str | None = None
    test_targets: NDArray[Any] | None = None
    max_applications: int = 1000
    time_limit_seconds: float | None = None
    checkpoint_id: str | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    placement: RequestedPlacement = "auto"
    preconditioner: RequestedPreconditioner = "auto"
    rank: int | None = None
    factor_precision: FactorPrecision = "auto"

    @property
    def effective_tolerance(self) -> float:
        if self.tolerance is not None:
            return self.tolerance
        return EXACT_TOLERANCE if self.cross_matrix_id is None else PREDICTION_TOLERANCE


@dataclass(frozen=True)
class SolveOutcome:
    """`arrays`: "dual" (m, k), with a cross matrix "predictions" (n, k); empty if not usable.

    `summary`: JSON-able; outcome, advice, residuals, history, accuracy, costs.
    """

    outcome: Outcome
    arrays: Mapping[str, Float64]
    summary: dict[str, Any]


OnProgress = Callable[[dict[str, Any]], None]
