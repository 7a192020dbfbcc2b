"""`ridge` and `classify` of a matrix of any size: folds are held out by solving without them.

For each ridge, largest first, one run of block CG in which all folds share every pass over the
stored tiles (workers/solves/folds.py). The held-out predictions of a finished ridge are kept in
the store, so a job that dies goes on with the next one; the chosen ridge is then solved for all
samples like any `solve` (workers/solves/task.py), with its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from storage.blobs import open_blobs
from workers.one_worker import Computed
from workers.predictions.ridge import (
    LOST_RESIDUAL,
    Candidate,
    RidgeFit,
    best_of,
    candidate,
    random_folds,
    selection_notes,
)
from workers.predictions.stored_ridge import RidgeAsked, report
from workers.solves.cg_solver import PreconditionerSettings, build_low_rank, choose_preconditioner
from workers.solves.cg_state import CGProgress, CGSettings
from workers.solves.errors import SolveFailedError, SolveInterrupted, require_usable
from workers.solves.folds import held_out_by_solving
from workers.solves.operator import Operator
from workers.solves.preconditioners import LowRank
from workers.solves.request import OnProgress, SolveRequest
from workers.solves.scratch import ROOT, Scratch, sweep_scratch
from workers.solves.solution import Float64, Outcome
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.task import run_solve

HELD_OUT_TOLERANCE = 1e-4  # relative residual: errors between ridges differ by far more
DUAL_TOLERANCE = 1e-6


@dataclass(frozen=True)
class FoldedRidge:
    """A request: (K + ridge·I) A = Y for each ridge of `asked`, whose `folds` are not None.

    classes (k,): of the columns, if the targets encode labels. cross: K(X*, X) for predictions.
    name: of this request, unique; what is kept of it lies under that name.
    """

    source: StoredTiles
    targets: Float64  # (m, k)
    classes: NDArray[np.int64] | None
    asked: RidgeAsked
    cross: StoredTiles | None
    test_targets: NDArray[Any] | None
    name: str


def run_folded_ridge(
    client: Client | None,
    request: FoldedRidge,
    *,
    worker_memory_bytes: int | None,
    on_progress: OnProgress = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Computed | None:
    """The arrays and the summary of `stored_ridge`; None when told to stop.

    Raises SolveFailedError if K + ridge·I is positive definite for no ridge or the last solve
    fails, TooLargeError, and what products raise.
    """
    cluster = SolveCluster(client, should_stop, worker_memory_bytes)
    source, asked = request.source, request.asked
    sweep_scratch(open_blobs(source.store_url))
    kept = Scratch(source.store_url, f"{ROOT}/{request.name}/held-out")
    kept.open()
    try:
        diagonal = cluster.diagonal(source)
        unit = float(diagonal.mean()) if asked.relative else 1.0
        curve, held_out = _select(cluster, request, diagonal, unit, kept, on_progress)
        best = best_of(curve, asked.criterion)
        if best is None or held_out is None:
            raise _failed(curve)
        solved = run_solve(
            client,
            SolveRequest(
                matrix_id=source.manifest.id,
                array=source.array,
                targets=request.targets,
                encoding="real",
                ridge=best.ridge,
                tolerance=DUAL_TOLERANCE,
                cross_matrix_id=None if request.cross is None else request.cross.manifest.id,
                checkpoint_id=request.name,
            ),
            store_url=source.store_url,
            on_progress=on_progress,
            should_stop=should_stop,
            worker_memory_bytes=worker_memory_bytes,
        )
        what = f"The solve with the chosen ridge {best.ridge:.3g}"
        require_usable(solved.outcome, what, solved.summary["advice"])
    except SolveInterrupted:
        return None
    stats = solved.summary["stats"]
    kept.remove()
    conditioned = replace(best, condition=stats["condition_estimate"])
    fit = RidgeFit(
        best.ridge,
        solved.arrays["dual"],
        held_out,
        stats["certified"],
        tuple(conditioned if one is best else one for one in reversed(curve)),
        (*solved.summary["warnings"], *selection_notes(curve, best)),
    )
    return report(
        fit,
        asked,
        request.targets,
        request.classes,
        unit=unit,
        rounding=None,
        predictions=solved.arrays.get("predictions"),
        test_targets=request.test_targets,
    )


def _select(
    cluster: SolveCluster,
    request: FoldedRidge,
    diagonal: Float64,
    unit: float,
    kept: Scratch,
    on_progress: OnProgress,
) -> tuple[list[Candidate], Float64 | None]:
    """All candidates, largest ridge first, and the held-out predictions of the best so far.

    Raises SolveInterrupted.
    """
    asked, rows = request.asked, len(request.targets)
    assert asked.folds is not None
    folds = random_folds(rows, asked.folds, asked.seed)
    ridges = sorted((unit * ridge for ridge in asked.ridges), reverse=True)
    kind, rank = choose_preconditioner(PreconditionerSettings(), diagonal, ridges[-1])
    rank = rank if kind == "rpcholesky" else 0
    columns = len(folds) * request.targets.shape[1]
    operator = cluster.operator(request.source, columns, rank=rank)
    curve: list[Candidate] = []
    best: Float64 | None = None
    try:
        factor: LowRank | None = None
        for number, ridge in enumerate(ridges):
            values = kept.found(_name(ridge), request.targets.shape, "float64")
            if values is None:
                if factor is None and rank:
                    factor = _low_rank(operator, diagonal, rank, ridges[-1])
                place = {"ridges_done": number, "ridges_total": len(ridges)}
                values = _solved(
                    cluster, operator, request, folds, ridge, factor, place, on_progress
                )
                if values is not None:
                    kept.write(_name(ridge), values)
            if values is None:
                curve.append(Candidate(ridge, None, None, None))
                continue
            classes = request.classes is not None
            curve.append(candidate(ridge, values, request.targets, classes=classes, condition=None))
            if best_of(curve, asked.criterion) is curve[-1]:
                best = values
    finally:
        operator.close()
    return curve, best


def _solved(
    cluster: SolveCluster,
    operator: Operator,
    request: FoldedRidge,
    folds: list[NDArray[np.int64]],
    ridge: float,
    factor: LowRank | None,
    place: dict[str, Any],
    on_progress: OnProgress,
) -> Float64 | None:
    """Held-out predictions for one ridge; None where K + ridge·I is not positive definite.

    Raises SolveInterrupted, and SolveFailedError where the answer would have no digits.
    """

    def told(progress: CGProgress) -> None:
        on_progress(
            {
                "phase": "folds",
                "done": progress.applications,
                "residual": progress.residual,
                **place,
            }
        )

    found = held_out_by_solving(
        operator,
        request.targets,
        ridge,
        folds,
        factor=factor,
        settings=CGSettings(tolerance=HELD_OUT_TOLERANCE),
        on_iteration=told,
        should_stop=cluster.should_stop,
    )
    if found.outcome is Outcome.CANCELLED:
        raise SolveInterrupted
    if found.outcome is Outcome.NOT_POSITIVE_DEFINITE:
        return None
    if found.predictions is None or (found.residual or 0.0) > LOST_RESIDUAL:
        raise SolveFailedError(
            f"Held-out errors for the ridge {ridge:.3g} ended as {found.outcome.value} at a"
            f" residual of {found.residual or np.nan:.1e}.",
            advice=f"Leave ridges of {ridge:.3g} and less out. {found.outcome.advice}",
            outcome=found.outcome.value,
        )
    return found.predictions


def _low_rank(operator: Operator, diagonal: Float64, rank: int, ridge: float) -> LowRank:
    factor = build_low_rank(operator, diagonal, rank, kind="rpcholesky", seed=0, ridge=ridge)
    if factor is None:
        raise SolveFailedError(
            "The matrix has entries that are not finite.", advice=Outcome.NON_FINITE.advice
        )
    return factor


def _name(ridge: float) -> str:
    return ridge.hex().replace("+", "")


def _failed(curve: list[Candidate]) -> SolveFailedError:
    largest = max(one.ridge for one in curve)
    return SolveFailedError(
        f"K + ridge I is not positive definite for any of the ridges up to {largest:.3g}.",
        advice=f"Ask for ridges above {10 * largest:.3g}, or store the Gram matrix in float64.",
    )
