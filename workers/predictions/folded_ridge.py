"""Ridges of a matrix of any size tried by folds, held out by solving without them.

For each ridge one run of block CG in which all folds share every pass over the stored tiles
(workers/solves/folds.py), and one low-rank basis serves all ridges.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.predictions.ridge import LOST_RESIDUAL, random_folds
from workers.predictions.ridge_trial import LargeRidge, Trial
from workers.solves.cg_solver import PreconditionerSettings, build_low_rank, choose_preconditioner
from workers.solves.cg_state import CGProgress, CGSettings
from workers.solves.errors import SolveFailedError, SolveInterrupted
from workers.solves.folds import held_out_by_solving
from workers.solves.preconditioners import LowRank
from workers.solves.request import OnProgress
from workers.solves.solution import Float64, Outcome
from workers.solves.solve_cluster import SolveCluster

HELD_OUT_TOLERANCE = 1e-4  # relative residual: errors between ridges differ by far more


class FoldTrials:
    """`Trials` by the folds of the request, which are not None. `ridges`: largest first."""

    def __init__(
        self,
        cluster: SolveCluster,
        request: LargeRidge,
        diagonal: Float64,
        ridges: list[float],
        on_progress: OnProgress,
    ) -> None:
        asked, (rows, columns) = request.asked, request.targets.shape
        assert asked.folds is not None
        self._request, self._diagonal, self._on_progress = request, diagonal, on_progress
        self._should_stop, self._least = cluster.should_stop, ridges[-1]
        self._folds = random_folds(rows, asked.folds, asked.seed)
        kind, rank = choose_preconditioner(PreconditionerSettings(), diagonal, self._least)
        self._rank = rank if kind == "rpcholesky" else 0
        self._factor: LowRank | None = None
        self._operator = cluster.operator(
            request.source, len(self._folds) * columns, rank=self._rank
        )

    def __call__(self, ridge: float, place: dict[str, Any]) -> Trial | None:
        def told(progress: CGProgress) -> None:
            self._on_progress(
                {
                    "phase": "folds",
                    "done": progress.applications,
                    "residual": progress.residual,
                    **place,
                }
            )

        if self._factor is None and self._rank:
            self._factor = self._low_rank()
        found = held_out_by_solving(
            self._operator,
            self._request.targets,
            ridge,
            self._folds,
            factor=self._factor,
            settings=CGSettings(tolerance=HELD_OUT_TOLERANCE),
            on_iteration=told,
            should_stop=self._should_stop,
        )
        if found.outcome is Outcome.CANCELLED:
            raise SolveInterrupted
        if found.outcome is Outcome.NOT_POSITIVE_DEFINITE:
            return None
        if found.predictions is None or (found.residual or 0.0) > LOST_RESIDUAL:
            raise lost_digits(ridge, found.outcome, found.residual)
        return Trial(found.predictions)

    def close(self) -> None:
        self._operator.close()

    def _low_rank(self) -> LowRank:
        factor = build_low_rank(
            self._operator, self._diagonal, self._rank, kind="rpcholesky", seed=0, ridge=self._least
        )
        if factor is None:
            raise SolveFailedError(
                "The matrix has entries that are not finite.", advice=Outcome.NON_FINITE.advice
            )
        return factor


def lost_digits(ridge: float, outcome: Outcome, residual: float | None) -> SolveFailedError:
    """Held-out errors for `ridge` that nobody could use."""
    return SolveFailedError(
        f"Held-out errors for the ridge {ridge:.3g} ended as {outcome.value} at a"
        f" residual of {residual or np.nan:.1e}.",
        advice=f"Leave ridges of {ridge:.3g} and less out. {outcome.advice}",
        outcome=outcome.value,
    )
