"""Run a solve from request to result. Called from a thread of the process that owns the job."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client

from storage.blobs import BlobStore, open_blobs
from workers.memory import WORKER_BASE_BYTES
from workers.solves import checkpoint, nystrom
from workers.solves.block_operator import BlockOperator, OperatorSettings
from workers.solves.cg_solver import PreconditionerSettings, choose_preconditioner, solve_ridges
from workers.solves.cg_state import CGProgress, CGSettings, CGState
from workers.solves.cholesky import DirectTask, solve_direct
from workers.solves.dask_tasks import run_to_end
from workers.solves.errors import SolveInterrupted
from workers.solves.memory import (
    cholesky_worker_bytes,
    nystrom_worker_bytes,
    placement_bytes,
)
from workers.solves.operator import LocalOperator, Operator, diagonal_part
from workers.solves.policy import (
    RequestedPlacement,
    check_fits,
    choose_method,
    choose_placement,
)
from workers.solves.predict import predict, score
from workers.solves.prepare import Prepared, prepare
from workers.solves.request import OnProgress, SolveOutcome, SolveRequest
from workers.solves.shares import cut
from workers.solves.solution import Float64, Outcome, Solution, SolveStats
from workers.solves.source import TileSource

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
    "solve", "predict"), "done" and, where it is known, "total"; during CG also "residual"
    (recursive, max over columns) and "certified".

    Mathematical failure is an outcome in the result. Raises InvalidSolveError, NotFoundError,
    NotReadyError before any work; TooLargeError when a worker's memory would not suffice;
    MissingChunkError, CorruptChunkError; ClusterUnavailableError and WorkerMemoryError.
    """
    started = time.monotonic()
    blobs = open_blobs(store_url)
    prepared = prepare(blobs, request)
    run = _Run(
        client,
        blobs,
        prepared,
        on_progress,
        should_stop,
        worker_memory_bytes,
        worker_base_bytes,
        settings or OperatorSettings(),
    )
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
    run.forget_checkpoint(solution.outcome)
    summary = run.summary(solution, scores)
    summary["total_seconds"] = time.monotonic() - started
    return SolveOutcome(solution.outcome, arrays, summary)


PRECONDITIONER = PreconditionerSettings()
_RESUMABLE = frozenset({Outcome.CANCELLED, Outcome.MAX_APPLICATIONS, Outcome.TIME_LIMIT})


@dataclass
class _Run:
    client: Client | None
    blobs: BlobStore
    prepared: Prepared
    on_progress: OnProgress
    should_stop: Callable[[], bool]
    worker_memory_bytes: int | None
    worker_base_bytes: int
    settings: OperatorSettings
    method: str | None = None
    ridge: float = 0.0
    trace: float | None = None
    diagonal: Float64 | None = None

    def __post_init__(self) -> None:
        self.warnings: list[str] = []
        self._keeper: _CheckpointKeeper | None = None

    def forget_checkpoint(self, outcome: Outcome) -> None:
        """Called when nothing is left to do; a solve that can go on keeps its checkpoint."""
        if self._keeper is not None and outcome not in _RESUMABLE:
            self._keeper.forget()

    @property
    def workers(self) -> int:
        return len(self.client.nthreads()) if self.client is not None else 1

    def solve(self) -> Solution:
        p, request = self.prepared, self.prepared.request
        layout, rhs = p.layout, p.rhs.shape[1]
        direct_bytes = cholesky_worker_bytes(
            rows=p.rows,
            rhs=rhs,
            tile_rows=layout.chunk_shape[0],
            itemsize=layout.itemsize,
            base_bytes=self.worker_base_bytes,
        )
        self.method = choose_method(
            request.method,
            rows=p.rows,
            direct_bytes=direct_bytes,
            worker_memory_bytes=self.worker_memory_bytes,
        )
        self.on_progress({"phase": "prepare", "done": 0, "method": self.method})
        diagonal = self.diagonal = self._diagonal()
        self.trace = float(diagonal.sum())
        self.ridge = request.ridge * (self.trace / p.rows if request.ridge_relative else 1.0)
        stats = SolveStats(method=self.method)
        if not np.isfinite(diagonal).all():
            return Solution(None, Outcome.NON_FINITE, stats)
        if diagonal.min() + self.ridge <= 0:
            stats.details["smallest_diagonal"] = float(diagonal.min())
            return Solution(None, Outcome.NOT_POSITIVE_DEFINITE, stats)
        if self.method == "cholesky":
            return self._cholesky()
        return self._nystrom() if self.method == "nystrom" else self._cg()

    def predict(self, cross: TileSource, dual: Float64) -> Float64:
        self.on_progress({"phase": "predict", "done": 0})
        # One pass: holding the tiles would save nothing.
        operator = self._operator(cross, dual.shape[1], "stream")
        try:
            return predict(operator, dual)
        finally:
            operator.close()

    def summary(self, solution: Solution, scores: dict[str, Any]) -> dict[str, Any]:
        p = self.prepared
        hint = solution.stats.details.get("hint")
        stats = solution.stats.to_json()
        digits = solution.stats.condition_estimate
        epsilon = float(np.finfo(p.layout.dtype).eps)
        if digits is not None and digits * epsilon > 0.1 and solution.outcome.usable:
            self.warnings.append(
                f"The system has a condition number of at least {digits:.1e}: the dual has no"
                f" digits that {p.layout.dtype} entries of K determine. Predictions may still be"
                " right. Raise the ridge or store K in float64."
            )
        return {
            "outcome": solution.outcome.value,
            "advice": " ".join(filter(None, [solution.outcome.advice, hint])),
            "usable": solution.outcome.usable,
            "method": self.method,
            "rows": p.rows,
            "right_hand_sides": p.rhs.shape[1],
            "ridge": self.ridge,
            "trace": self.trace,
            "tolerance": p.request.effective_tolerance,
            "classes": p.classes.tolist() if p.classes is not None else None,
            "warnings": self.warnings,
            **scores,
            "stats": stats,
        }

    def _diagonal(self) -> Float64:
        source, panels = self.prepared.source, self.prepared.layout.grid[0]
        bounds = cut(panels, nystrom.BATCHES_PER_WORKER * self.workers)
        if self.client is None:
            parts = [diagonal_part(source, b.start, b.stop) for b in bounds]
            return np.concatenate(parts)
        futures = [
            self.client.submit(diagonal_part, source, b.start, b.stop, pure=False) for b in bounds
        ]
        joined = self.client.submit(np.concatenate, futures, pure=False)
        result: Float64 = run_to_end(self.client, [*futures, joined], should_stop=self.should_stop)
        return result

    def _cholesky(self) -> Solution:
        p = self.prepared
        task = DirectTask(p.source, p.rhs, self.ridge, p.request.effective_tolerance)
        self.on_progress({"phase": "solve", "done": 0, "total": 1})
        if self.client is None:
            return solve_direct(task, self._check_stop)
        argument = self.client.scatter(task, hash=False)
        future = self.client.submit(solve_direct, argument, pure=False)
        result: Solution = run_to_end(self.client, [future], should_stop=self.should_stop)
        return result

    def _nystrom(self) -> Solution:
        p, request = self.prepared, self.prepared.request
        projected = nystrom_worker_bytes(
            inducing=p.inducing_points,
            rhs=p.rhs.shape[1],
            tile_rows=p.layout.chunk_shape[0],
            itemsize=p.layout.itemsize,
            base_bytes=self.worker_base_bytes,
        )
        check_fits("Method 'nystrom'", projected, self.worker_memory_bytes)
        started = time.monotonic()
        columns = nystrom.choose_inducing(p.rows, p.inducing_points, request.seed)
        tasks = nystrom.panel_tasks(p.source, columns, p.rhs, self.workers)
        options = {
            "rhs": p.rhs.shape[1],
            "ridge": self.ridge,
            "tolerance": request.effective_tolerance,
            "epsilon": float(np.finfo(p.layout.dtype).eps),
        }
        if self.client is None:
            factors = []
            for done, task in enumerate(tasks):
                factors.append(nystrom.fold_panels(task, self._check_stop))
                self.on_progress({"phase": "solve", "done": done + 1, "total": len(tasks)})
            solution = nystrom.finish(nystrom.reduce_tree(factors, nystrom.merge), **options)
        else:
            client = self.client
            futures: list[Any] = [
                client.submit(nystrom.fold_panels, task, pure=False) for task in tasks
            ]

            def merge(left: Any, right: Any) -> Any:
                futures.append(client.submit(nystrom.merge, left, right, pure=False))
                return futures[-1]

            root = nystrom.reduce_tree(list(futures), merge)
            futures.append(client.submit(nystrom.finish, root, **options, pure=False))
            solution = run_to_end(
                client,
                futures,
                should_stop=self.should_stop,
                on_done=lambda done, total: self.on_progress(
                    {"phase": "solve", "done": done, "total": total}
                ),
            )
        solution.stats.details["inducing_points"] = columns.tolist()
        solution.stats.seconds = time.monotonic() - started
        solution.stats.placement = "stream"
        dual = nystrom.embed(solution, columns, p.rows)
        return Solution(dual, solution.outcome, solution.stats)

    def _cg(self) -> Solution:
        p, request = self.prepared, self.prepared.request
        assert self.diagonal is not None
        _, rank = choose_preconditioner(PRECONDITIONER, self.diagonal, self.ridge)
        operator = self._operator(p.source, p.rhs.shape[1], request.placement, rank)
        keeper = self._keeper = _CheckpointKeeper(self, request)
        try:
            return solve_ridges(
                operator,
                p.rhs,
                (self.ridge,),
                diagonal=self.diagonal,
                settings=CGSettings(
                    tolerance=request.effective_tolerance,
                    max_applications=request.max_applications,
                    time_limit_seconds=request.time_limit_seconds,
                ),
                preconditioner=PRECONDITIONER,
                resume=(keeper.load(),),
                on_iteration=lambda _, progress, state: keeper.iterated(progress, state),
                should_stop=self.should_stop,
            )[0]
        finally:
            try:
                keeper.save()  # also when converged: the predictions may yet be interrupted
            finally:
                operator.close()

    def _operator(
        self, source: TileSource, rhs: int, requested: RequestedPlacement, rank: int = 0
    ) -> Operator:
        placement = choose_placement(
            requested,
            projected_bytes=placement_bytes(
                source.layout,
                rhs=rhs,
                rank=rank,
                workers=self.workers,
                base_bytes=self.worker_base_bytes,
            ),
            worker_memory_bytes=self.worker_memory_bytes,
        )
        if self.client is None:
            return LocalOperator(source, placement=placement, should_stop=self.should_stop)
        return BlockOperator(
            self.client,
            source,
            placement=placement,
            should_stop=self.should_stop,
            settings=self.settings,
        )

    def _check_stop(self) -> None:
        if self.should_stop():
            raise SolveInterrupted


class _CheckpointKeeper:
    """Writes the state of block CG now and then, and whenever the solve ends unfinished."""

    def __init__(self, run: _Run, request: SolveRequest) -> None:
        self._run = run
        self._every_seconds = request.checkpoint_seconds
        self._key: str | None = None
        self._system = ""
        self._state: CGState | None = None
        self._saved = time.monotonic()
        if request.checkpoint_id is not None:
            self._key = checkpoint.checkpoint_key(request.checkpoint_id)
            p = run.prepared
            self._system = checkpoint.fingerprint(p.matrix_digest, request.array, run.ridge, p.rhs)

    def load(self) -> CGState | None:
        if self._key is None:
            return None
        state, reason = checkpoint.load(self._run.blobs, self._key, self._system)
        if reason is not None:
            self._run.warnings.append(reason)
        return state

    def iterated(self, progress: CGProgress, state: CGState) -> None:
        self._state = state
        if time.monotonic() - self._saved >= self._every_seconds:
            self.save()
        self._run.on_progress(
            {
                "phase": "solve",
                "done": progress.applications,
                "total": None,
                "iteration": progress.iteration,
                "residual": progress.residual,
                "certified": progress.certified,
            }
        )

    def save(self) -> None:
        if self._key is not None and self._state is not None:
            checkpoint.save(self._run.blobs, self._key, self._system, self._state)
            self._saved = time.monotonic()

    def forget(self) -> None:
        if self._key is not None:
            self._run.blobs.delete(self._key)
