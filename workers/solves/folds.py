"""Predictions for samples held out in folds, by solving without each of them: any size.

Without a fold I, the dual solves the system of K without the rows and columns I. All folds run in
step (block_cg.py), so each pass over K serves every fold, and share one low-rank basis
(preconditioners.py). Exact to the tolerance; where K can be decomposed the closed form of
workers/predictions/ridge.py gives the same numbers for less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.solves.block_cg import System, solve_in_step
from workers.solves.cg_state import CGProgress, CGSettings, Preconditioner
from workers.solves.errors import SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.preconditioners import LowRank
from workers.solves.solution import Float64, Outcome

# From worst to best: what is said of all folds is what is true of the worst.
_ORDER = (
    Outcome.CANCELLED,
    Outcome.NON_FINITE,
    Outcome.NOT_POSITIVE_DEFINITE,
    Outcome.STAGNATED,
    Outcome.MAX_APPLICATIONS,
    Outcome.TIME_LIMIT,
    Outcome.FLOOR,
    Outcome.CONVERGED,
)


@dataclass(frozen=True)
class HeldOut:
    """`predictions` (m, k): of each sample by the model that has not seen it; None if `outcome`, of
    the worst fold, is not usable. `residual`: certified, the largest. `applications`: passes."""

    predictions: Float64 | None
    outcome: Outcome
    residual: float | None
    applications: int


def held_out_by_solving(
    operator: Operator,
    targets: Float64,
    ridge: float,
    folds: Sequence[NDArray[np.int64]],
    *,
    factor: LowRank | None,
    settings: CGSettings,
    on_iteration: Callable[[CGProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> HeldOut:
    """Solve (K + ridge·I) A = Y, Y (m, k), once without each of `folds`, and predict those.

    `folds`: disjoint, together all samples. `factor`: K ≈ U S Uᵀ for the preconditioner, or None.
    """
    before = operator.traffic.applications
    exact = None if factor is None else factor.exact_enough(ridge)
    systems = [
        System(_zeroed(targets, fold), ridge, _preconditioner(exact, fold, ridge), without=fold)
        for fold in folds
    ]
    residuals = [1.0] * len(folds)

    def told(number: int, progress: CGProgress, _: object) -> None:
        residuals[number] = progress.residual
        if number == len(folds) - 1:  # once a round: those who watch see the slowest fold
            on_iteration(
                CGProgress(
                    progress.iteration, progress.applications, max(residuals), progress.certified
                )
            )

    solutions = solve_in_step(
        operator,
        systems,
        settings=settings,
        norm_estimate=float(factor.values[0]) if factor is not None and factor.rank else 0.0,
        on_iteration=told,
        should_stop=should_stop,
    )
    outcome = min((solution.outcome for solution in solutions), key=_ORDER.index)
    certified = [s.stats.certified_max for s in solutions if s.stats.certified_max is not None]
    residual = max(certified, default=None)
    predictions: Float64 | None = None
    if outcome.usable:
        duals = [
            _zeroed(s.value, f)
            for s, f in zip(solutions, folds, strict=True)
            if s.value is not None
        ]
        try:
            predictions = _predicted(operator, duals, folds)
        except SolveInterrupted:
            outcome = Outcome.CANCELLED
    return HeldOut(predictions, outcome, residual, operator.traffic.applications - before)


def _predicted(
    operator: Operator, duals: Sequence[Float64], folds: Sequence[NDArray[np.int64]]
) -> Float64:
    """Rows `fold` of K A for each fold and its dual, from one pass."""
    values = operator.apply(np.hstack(duals), precise=True)
    columns = duals[0].shape[1]
    predictions = np.empty_like(duals[0])
    for number, fold in enumerate(folds):
        predictions[fold] = values[fold, number * columns : (number + 1) * columns]
    return predictions


def _preconditioner(
    factor: LowRank | None, fold: NDArray[np.int64], ridge: float
) -> Preconditioner | None:
    return None if factor is None else factor.damped_without(fold, ridge)


def _zeroed(values: Float64, rows: NDArray[np.int64]) -> Float64:
    copy = values.copy()
    copy[rows] = 0.0
    return copy
