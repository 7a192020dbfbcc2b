"""`ridge` and `classify` of a matrix of any size, on all workers.

Each ridge is tried, largest first, by folds (folded_ridge.py) or leaving one out
(left_out_ridge.py). What a finished ridge has found is kept in the store, so a job that dies goes
on with the next one. The dual of the chosen ridge is that of its trial, or is solved for like any
`solve` (workers/solves/task.py), with its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from distributed import Client

from storage.blobs import open_blobs
from workers.one_worker import Computed
from workers.predictions.eigensystem import kernel_rounding, rounding_note
from workers.predictions.folded_ridge import FoldTrials
from workers.predictions.left_out_ridge import LeftOutTrials
from workers.predictions.ridge import (
    Candidate,
    RidgeFit,
    best_of,
    candidate,
    selection_notes,
)
from workers.predictions.ridge_trial import Fit, LargeRidge, Trial, Trials, found, keep
from workers.predictions.stored_ridge import report
from workers.solves.errors import SolveFailedError, SolveInterrupted, require_usable
from workers.solves.request import OnProgress, SolveRequest
from workers.solves.scratch import ROOT, Scratch, sweep_scratch
from workers.solves.solution import Float64
from workers.solves.solve_cluster import SolveCluster
from workers.solves.task import run_solve

DUAL_TOLERANCE = 1e-6


def run_large_ridge(
    client: Client | None,
    request: LargeRidge,
    *,
    worker_memory_bytes: int | None,
    on_progress: OnProgress = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Computed | None:
    """The arrays and the summary of `stored_ridge`; None when told to stop.

    Raises SolveFailedError if K + ridge·I is positive definite for no ridge or a solve fails,
    TooLargeError, and what products raise.
    """
    cluster = SolveCluster(client, should_stop, worker_memory_bytes)
    source, asked = request.source, request.asked
    sweep_scratch(open_blobs(source.store_url))
    kept = Scratch(source.store_url, f"{ROOT}/{request.name}/held-out")
    kept.open()
    try:
        diagonal = cluster.diagonal(source)
        unit = float(diagonal.mean()) if asked.relative else 1.0
        ridges = sorted((unit * ridge for ridge in asked.ridges), reverse=True)
        kind = LeftOutTrials if asked.folds is None else FoldTrials
        open_trials = partial(kind, cluster, request, diagonal, ridges, on_progress)
        curve, trial = _select(open_trials, request, ridges, kept)
        best = best_of(curve, asked.criterion)
        if best is None or trial is None:
            raise _failed(curve)
        if trial.fit is None:
            fit, predictions = _solved(cluster, request, best, trial, curve, on_progress)
            rounding = None
        else:
            fit, rounding = _fitted(request, best, trial.held_out, trial.fit, curve)
            predictions = _predicted(cluster, request, fit.dual, on_progress)
    except SolveInterrupted:
        return None
    kept.remove()
    return report(
        fit,
        asked,
        request.targets,
        request.classes,
        unit=unit,
        rounding=rounding,
        predictions=predictions,
        test_targets=request.test_targets,
    )


def _select(
    open_trials: Callable[[], Trials], request: LargeRidge, ridges: list[float], kept: Scratch
) -> tuple[list[Candidate], Trial | None]:
    """All candidates, largest ridge first, and the trial of the best so far.

    Raises SolveInterrupted.
    """
    asked, shape = request.asked, request.targets.shape
    curve: list[Candidate] = []
    best: Trial | None = None
    trials: Trials | None = None
    try:
        for number, ridge in enumerate(ridges):
            trial = found(kept, ridge, (shape[0], shape[1]), with_fit=asked.folds is None)
            if trial is None:
                trials = open_trials() if trials is None else trials
                trial = trials(ridge, {"ridges_done": number, "ridges_total": len(ridges)})
                if trial is not None:
                    keep(kept, ridge, trial)
            if trial is None:
                curve.append(Candidate(ridge, None, None, None))
                continue
            fit = trial.fit
            curve.append(
                candidate(
                    ridge,
                    trial.held_out,
                    request.targets,
                    classes=request.classes is not None,
                    condition=None if fit is None else fit.largest / fit.smallest,
                )
            )
            if best_of(curve, asked.criterion) is curve[-1]:
                best = trial
    finally:
        if trials is not None:
            trials.close()
    return curve, best


def _fitted(
    request: LargeRidge, best: Candidate, held_out: Float64, fit: Fit, curve: list[Candidate]
) -> tuple[RidgeFit, float]:
    """The chosen ridge and the rounding of the matrix, both from what its trial has found."""
    layout = request.source.layout
    epsilon = float(np.finfo(layout.dtype).eps)
    rounding = kernel_rounding(epsilon, layout.shape[0], fit.largest)
    notes = rounding_note(fit.smallest, rounding, best.ridge) + selection_notes(curve, best)
    chosen = RidgeFit(
        best.ridge, fit.dual, held_out, fit.residuals, tuple(reversed(curve)), tuple(notes)
    )
    return chosen, rounding


def _predicted(
    cluster: SolveCluster, request: LargeRidge, dual: Float64, on_progress: OnProgress
) -> Float64 | None:
    if request.cross is None:
        return None
    on_progress({"phase": "predict", "done": 0})
    return cluster.multiply_once(request.cross, dual)


def _solved(
    cluster: SolveCluster,
    request: LargeRidge,
    best: Candidate,
    trial: Trial,
    curve: list[Candidate],
    on_progress: OnProgress,
) -> tuple[RidgeFit, Float64 | None]:
    """The chosen ridge solved for all samples, and predictions through the cross-Gram."""
    source = request.source
    solved = run_solve(
        cluster.client,
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
        should_stop=cluster.should_stop,
        worker_memory_bytes=cluster.worker_memory_bytes,
    )
    what = f"The solve with the chosen ridge {best.ridge:.3g}"
    require_usable(solved.outcome, what, solved.summary["advice"])
    stats = solved.summary["stats"]
    conditioned = replace(best, condition=stats["condition_estimate"])
    fit = RidgeFit(
        best.ridge,
        solved.arrays["dual"],
        trial.held_out,
        stats["certified"],
        tuple(conditioned if one is best else one for one in reversed(curve)),
        (*solved.summary["warnings"], *selection_notes(curve, best)),
    )
    return fit, solved.arrays.get("predictions")


def _failed(curve: list[Candidate]) -> SolveFailedError:
    largest = max(one.ridge for one in curve)
    return SolveFailedError(
        f"K + ridge I is not positive definite for any of the ridges up to {largest:.3g}.",
        advice=f"Ask for ridges above {10 * largest:.3g}, or store the Gram matrix in float64.",
    )
