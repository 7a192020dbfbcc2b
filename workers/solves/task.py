"""Run a solve from request to result. Called from a thread of the process that owns the job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from distributed import Client

from storage.blobs import open_blobs
from workers.memory import WORKER_BASE_BYTES
from workers.solves.block_operator import OperatorSettings
from workers.solves.errors import SolveInterrupted
from workers.solves.history import RESULT_POINTS, residual_plot
from workers.solves.predict import score
from workers.solves.prepare import prepare
from workers.solves.request import OnProgress, SolveOutcome, SolveRequest
from workers.solves.run import Run
from workers.solves.solution import Float64, Outcome, Solution, SolveStats
from workers.solves.solve_cluster import SolveCluster

__all__ = ["SolveOutcome", "SolveRequest", "run_solve"]


def run_solve(
    client: Client | None,
    request: SolveRequest,
    *,
    store_url: str,
    on_progress: OnProgress = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    worker_memory_bytes: int | None = None,
    worker_base_bytes: int = WORKER_BASE_BYTES,
    settings: OperatorSettings | None = None,
) -> SolveOutcome:
    """Solve, certify, predict and score.

    Without a client everything runs in this process. Progress is a dict with "phase" ("prepare",
    "factor" or "gather" where a method does that, "solve", "predict"), "done" and, where it is
    known, "total"; during CG also "residual" (recursive, max over columns), "certified" and
    "history" ([iteration, residual] points, thinned).

    Mathematical failure is an outcome in the result. Raises InvalidSolveError, NotFoundError,
    NotReadyError before any work; TooLargeError when a worker's memory would not suffice;
    MissingChunkError, CorruptChunkError; ClusterUnavailableError and WorkerMemoryError.
    """
    started = time.monotonic()
    blobs = open_blobs(store_url)
    prepared = prepare(blobs, request)
    cluster = SolveCluster(
        client,
        should_stop,
        worker_memory_bytes,
        worker_base_bytes,
        settings or OperatorSettings(),
    )
    run = Run(cluster, blobs, prepared, on_progress)
    arrays: dict[str, Float64] = {}
    scores: dict[str, Any] = {}
    try:
        solution = run.solve()
        if solution.outcome.usable and solution.value is not None:
            arrays["dual"] = solution.value
            if prepared.cross is not None:
                arrays["predictions"] = run.predict(prepared.cross, solution.value)
                classes = prepared.classes
                scores = score(arrays["predictions"], prepared.test_targets, classes)
    except SolveInterrupted:
        arrays, scores = {}, {}
        solution = Solution(None, Outcome.CANCELLED, SolveStats(method=run.method or "none"))
    except BaseException:
        run.abandon()
        raise
    run.finish(solution.outcome)
    summary = _summary(run, solution, scores)
    summary["total_seconds"] = time.monotonic() - started
    return SolveOutcome(solution.outcome, arrays, summary)


def _summary(run: Run, solution: Solution, scores: dict[str, Any]) -> dict[str, Any]:
    p = run.prepared
    hint = solution.stats.details.get("hint")
    tolerance = p.request.effective_tolerance
    stats = solution.stats.to_json()
    for name in ("residual_history", "certified_history"):
        stats[name] = stats[name][-RESULT_POINTS:]
    condition = solution.stats.condition_estimate
    epsilon = float(np.finfo(p.layout.dtype).eps)
    if condition is not None and condition * epsilon > 0.1 and solution.outcome.usable:
        run.warnings.append(
            f"The system has a condition number of at least {condition:.1e}: the dual has no"
            f" digits that {p.layout.dtype} entries of K determine. Predictions may still be"
            " right. Raise the ridge or store K in float64."
        )
    return {
        "outcome": solution.outcome.value,
        "advice": " ".join(filter(None, [solution.outcome.advice, hint])),
        "usable": solution.outcome.usable,
        "method": run.method,
        "rows": p.rows,
        "right_hand_sides": p.rhs.shape[1],
        "ridge": run.ridge,
        "trace": run.trace,
        "tolerance": tolerance,
        "classes": p.classes.tolist() if p.classes is not None else None,
        "warnings": run.warnings,
        **scores,
        "stats": stats,
        "residual_plot": residual_plot(solution.stats, tolerance),
    }
