"""One solve over what `prepare` found: choose, run and clean up. Used by task.py."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from distributed import Client

from storage.blobs import BlobStore
from workers.solves import checkpoint
from workers.solves.block_operator import BlockOperator
from workers.solves.cg_solver import PreconditionerSettings, choose_preconditioner, solve_ridges
from workers.solves.cg_state import CGSettings
from workers.solves.checkpoint_keeper import CheckpointKeeper
from workers.solves.cholesky import DirectTask, solve_direct
from workers.solves.dask_tasks import run_to_end
from workers.solves.diagnosis import diagnose
from workers.solves.inducing import solve_falkon, solve_nystrom
from workers.solves.memory import FLOAT64, tiled_worker_bytes
from workers.solves.operator import LocalOperator, Operator
from workers.solves.policy import Room, method_for, patience
from workers.solves.prepare import Prepared
from workers.solves.request import OnProgress
from workers.solves.scratch import ROOT, Scratch, sweep_scratch
from workers.solves.solution import Float64, Outcome, Solution, SolveStats
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import TileSource
from workers.solves.tiled_cholesky import block_rows
from workers.solves.tiled_solver import TiledSettings, solve_tiled

RESUMABLE = frozenset({Outcome.CANCELLED, Outcome.MAX_APPLICATIONS, Outcome.TIME_LIMIT})


@dataclass
class Run:
    """`solve` and `predict`, then `finish` with the outcome."""

    cluster: SolveCluster
    blobs: BlobStore
    prepared: Prepared
    on_progress: OnProgress
    method: str | None = None
    ridge: float = 0.0
    trace: float | None = None
    diagonal: Float64 | None = None
    warnings: list[str] = field(default_factory=list)
    _keeper: CheckpointKeeper | None = None
    _scratch: Scratch | None = None

    @property
    def client(self) -> Client | None:
        return self.cluster.client

    @property
    def should_stop(self) -> Callable[[], bool]:
        return self.cluster.should_stop

    @property
    def cg_settings(self) -> CGSettings:
        request = self.prepared.request
        return CGSettings(
            tolerance=request.effective_tolerance,
            max_applications=request.max_applications,
            time_limit_seconds=request.time_limit_seconds,
        )

    @property
    def preconditioner(self) -> PreconditionerSettings:
        request = self.prepared.request
        return PreconditionerSettings(request.preconditioner, request.rank, seed=request.seed)

    def solve(self) -> Solution:
        p, request = self.prepared, self.prepared.request
        self.method = method_for(p.layout, request.method, **self._sizes())
        self.on_progress({"phase": "prepare", "done": 0, "method": self.method})
        diagonal = self.diagonal = self.cluster.diagonal(p.source)
        self.trace = float(diagonal.sum())
        self.ridge = request.ridge * (self.trace / p.rows if request.ridge_relative else 1.0)
        stats = SolveStats(method=self.method)
        if not np.isfinite(diagonal).all():
            return Solution(None, Outcome.NON_FINITE, stats)
        if diagonal.min() + self.ridge <= 0:
            needed = -float(diagonal.min())
            stats.details |= {
                "smallest_diagonal": -needed,
                "suggested_ridge": 2 * needed,
                "hint": f"A diagonal entry of K is {-needed:.3g}: a ridge above {needed:.3g} is"
                " needed, and a Gram matrix has none below 0.",
            }
            return Solution(None, Outcome.NOT_POSITIVE_DEFINITE, stats)
        if self.method == "cholesky":
            return self._cholesky()
        if self.method == "tiled-cholesky":
            return self._tiled(self.cg_settings)
        if self.method == "cg":
            return self._cg_or_factor() if request.method == "auto" else self._cg(self.cg_settings)
        return solve_nystrom(self) if self.method == "nystrom" else solve_falkon(self)

    def predict(self, cross: TileSource, dual: Float64) -> Float64:
        self.on_progress({"phase": "predict", "done": 0})
        return self.cluster.multiply_once(cross, dual)

    def finish(self, outcome: Outcome) -> None:
        """Remove the checkpoint and the scratch blocks, unless the solve can go on from them."""
        unfinished = outcome in RESUMABLE and self.prepared.request.checkpoint_id is not None
        if unfinished:
            return
        if self._keeper is not None:
            self._keeper.forget()
        if self._scratch is not None:
            self._scratch.remove()

    def abandon(self) -> None:
        """After an error: scratch blocks that no later run could find are removed."""
        if self._scratch is not None and self.prepared.request.checkpoint_id is None:
            self._scratch.remove()

    def keeper(self, rhs: Float64, method: str) -> CheckpointKeeper:
        """The one of this solve; `rhs` of the system that CG is given."""
        p = self.prepared
        system = checkpoint.fingerprint(
            p.matrix_digest, p.request.array, self.ridge, rhs, method=method
        )
        self._keeper = CheckpointKeeper(self.blobs, p.request, system, self.on_progress)
        return self._keeper

    def scratch(self, what: str) -> Scratch:
        """Where this solve may keep blocks; `what` and the ridge tell apart what they are of."""
        sweep_scratch(self.blobs)
        solve_id, name = self.prepared.request.checkpoint_id, self._scratch_name(what)
        folder = f"{solve_id}/{name}" if solve_id else f"once/{secrets.token_hex(8)}-{name}"
        self._scratch = Scratch(self.blobs.url, f"{ROOT}/{folder}")
        self._scratch.open()
        return self._scratch

    def operator(
        self, rhs: int, *, rank: int = 0, reserved_bytes: int = 0
    ) -> LocalOperator | BlockOperator:
        """Multiplies with K, placed as the request says."""
        return self.cluster.operator(
            self.prepared.source,
            rhs,
            placement=self.prepared.request.placement,
            rank=rank,
            reserved_bytes=reserved_bytes,
        )

    def _cholesky(self) -> Solution:
        p = self.prepared
        task = DirectTask(p.source, p.rhs, self.ridge, p.request.effective_tolerance)
        self.on_progress({"phase": "solve", "done": 0, "total": 1})
        if self.client is None:
            return solve_direct(task, self.cluster.check_stop)
        argument = self.client.scatter(task, hash=False)
        future = self.client.submit(solve_direct, argument, pure=False)
        result: Solution = run_to_end(self.client, [future], should_stop=self.should_stop)
        return result

    def _sizes(self) -> dict[str, Any]:
        """What policy.py asks about a tiled factor."""
        return {
            "rhs": self.prepared.rhs.shape[1],
            "precision": self.prepared.request.factor_precision,
            "base_bytes": self.cluster.worker_base_bytes,
            "room": Room(self.cluster.worker_memory_bytes, self.blobs.free_bytes()),
        }

    def _cg_or_factor(self) -> Solution:
        """CG, and a factorisation if CG stagnates or has cost as much as that would (policy.py).

        A solve that was interrupted in the factorisation goes on there.
        """
        settings, started = self.cg_settings, time.monotonic()
        tried: dict[str, Any] = {}
        if not self._factor_begun():
            passes = patience(self.prepared.layout, **self._sizes())
            limit = settings.max_applications
            solution = self._cg(replace(settings, max_applications=min(passes or limit, limit)))
            stats, outcome = solution.stats, solution.outcome
            impatient = outcome is Outcome.MAX_APPLICATIONS and stats.applications < limit
            if passes is None or not (impatient or outcome is Outcome.STAGNATED):
                return solution
            if self._keeper is not None:
                self._keeper.forget()  # the factor is what to go on from
            tried = {"outcome": outcome.value, "passes": stats.applications}
            self.warnings.append(
                f"Conjugate gradients were given up after {stats.applications} passes at a residual"
                f" of {stats.certified_max:.1e}, and K was factored. Ask for method"
                " 'tiled-cholesky' to save those passes next time."
            )
            settings = replace(settings, max_applications=max(limit - stats.applications, 1))
            if settings.time_limit_seconds is not None:
                left = settings.time_limit_seconds - (time.monotonic() - started)
                settings = replace(settings, time_limit_seconds=max(left, 0.0))
        self.method = "tiled-cholesky"
        solution = self._tiled(settings)
        if tried:
            solution.stats.details["tried_first"] = tried
        return solution

    def _factor_begun(self) -> bool:
        solve_id = self.prepared.request.checkpoint_id
        folder = self._scratch_name("factor")
        return solve_id is not None and folder in self.blobs.folders(f"{ROOT}/{solve_id}")

    def _scratch_name(self, what: str) -> str:
        return f"{what}-{self.ridge.hex()}".replace("+", "")

    def _cg(self, settings: CGSettings) -> Solution:
        p = self.prepared
        assert self.diagonal is not None
        _, rank = choose_preconditioner(self.preconditioner, self.diagonal, self.ridge)
        operator = self.operator(p.rhs.shape[1], rank=rank)
        keeper = self.keeper(p.rhs, "cg")
        state, reason = keeper.load()
        self._warn(reason)
        try:
            solution = solve_ridges(
                operator,
                p.rhs,
                (self.ridge,),
                diagonal=self.diagonal,
                settings=settings,
                preconditioner=self.preconditioner,
                resume=(state,),
                on_iteration=lambda _, progress, state: keeper.iterated(progress, state),
                should_stop=self.should_stop,
            )[0]
            self._advise(operator, solution)
        finally:
            try:
                keeper.save()  # also when converged: the predictions may yet be interrupted
            finally:
                operator.close()
        return _with_throughput(operator, solution)

    def _tiled(self, settings: CGSettings) -> Solution:
        p, request = self.prepared, self.prepared.request
        tiled = TiledSettings(request.factor_precision)
        factor_itemsize = 4 if request.factor_precision == "float32" else FLOAT64
        reserved = tiled_worker_bytes(
            rows=p.rows,
            rhs=p.rhs.shape[1],
            tile_rows=p.layout.chunk_shape[0],
            itemsize=p.layout.itemsize,
            block=block_rows(p.layout),
            factor_itemsize=factor_itemsize,
            base_bytes=0,
        )
        operator = self.operator(p.rhs.shape[1], reserved_bytes=reserved)
        keeper = self.keeper(p.rhs, "tiled-cholesky")
        state, reason = keeper.load()
        self._warn(reason)
        try:
            solution = solve_tiled(
                self.client,
                operator,
                p.source,
                p.rhs,
                self.ridge,
                scratch=self.scratch("factor"),
                tiled=tiled,
                settings=settings,
                resume=state,
                on_factor=lambda done, total: self.on_progress(
                    {"phase": "factor", "done": done, "total": total}
                ),
                on_iteration=keeper.iterated,
                should_stop=self.should_stop,
            )
            self._advise(operator, solution)
        finally:
            try:
                keeper.save()
            finally:
                operator.close()
        return _with_throughput(operator, solution)

    def _advise(self, operator: Operator, solution: Solution) -> None:
        stats = solution.stats
        stats.details |= diagnose(operator, solution.outcome, stats, self.ridge, self.should_stop)

    def _warn(self, reason: str | None) -> None:
        if reason is not None:
            self.warnings.append(reason)


def _with_throughput(operator: LocalOperator | BlockOperator, solution: Solution) -> Solution:
    """Measured after the tiles were freed: it takes memory itself."""
    if solution.outcome is not Outcome.CANCELLED and operator.traffic.applications:
        solution.stats.details["throughput"] = operator.throughput().to_json()
    return solution
