"""`posterior` of a matrix of any size: the covariance is solved for, a batch of test samples at a
time.

The mean is a `solve` (workers/solves/task.py). A column of K(X, X*) for each test sample is then a
right-hand side of the same system: by block CG, or with a tiled factor where the samples are so
many that it is cheaper (workers/solves/policy.py). Batches that are finished are kept in the store
until the job ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from storage.blobs import open_blobs
from storage.matrices import read_slice
from workers.one_worker import Computed
from workers.predictions.posterior import Posterior, clipped
from workers.predictions.stored_posterior import Kernels, PosteriorAsked, report
from workers.solves.block_cg import block_cg
from workers.solves.cg_solver import PreconditionerSettings, build_low_rank, choose_preconditioner
from workers.solves.cg_state import CGSettings
from workers.solves.errors import SolveFailedError, SolveInterrupted, require_usable
from workers.solves.memory import FLOAT64, tiled_worker_bytes
from workers.solves.operator import Operator
from workers.solves.policy import Method, Room, method_for
from workers.solves.request import OnProgress, SolveRequest
from workers.solves.scratch import ROOT, Scratch, sweep_scratch
from workers.solves.solution import Float64, Outcome, Solution
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.task import run_solve
from workers.solves.tiled_cholesky import block_rows
from workers.solves.tiled_solver import solve_tiled

TOLERANCE = 1e-6  # relative residual of every column
LOST_RESIDUAL = 1e-3

Columns = Callable[[Float64], Solution]  # (m, b) -> (K + ridge·I)⁻¹ of it


@dataclass(frozen=True)
class LargePosterior:
    """A request: `asked` with time None. The kernels of `asked` are stored ones.

    batch: test samples solved for at once. name: of this request, unique.
    method: `auto` as in workers/solves/policy.py, for as many right-hand sides as test samples.
    """

    asked: PosteriorAsked
    targets: Float64  # (m, k)
    classes: NDArray[np.int64] | None
    test_targets: NDArray[Any] | None
    batch: int
    name: str
    method: Method | None = None

    @property
    def solved(self) -> Kernels:
        """The kernel whose system is solved: that of training, if there is one."""
        return self.asked.trained or self.asked.prior


def run_large_posterior(
    client: Client | None,
    request: LargePosterior,
    *,
    worker_memory_bytes: int | None,
    on_progress: OnProgress = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Computed | None:
    """The arrays and the summary of `stored_posterior`; None when told to stop.

    Raises SolveFailedError if K + ridge·I is not positive definite or has no digits, TooLargeError,
    and what products raise.
    """
    cluster = SolveCluster(client, should_stop, worker_memory_bytes)
    asked, gram, cross = request.asked, stored(request.solved.gram), stored(request.solved.cross)
    sweep_scratch(open_blobs(gram.store_url))
    kept = Scratch(gram.store_url, f"{ROOT}/{request.name}/batches")
    kept.open()
    try:
        diagonal = cluster.diagonal(gram)
        ridge = asked.ridge * (float(diagonal.mean()) if asked.relative else 1.0)
        solved = run_solve(
            client,
            SolveRequest(
                matrix_id=gram.manifest.id,
                array=gram.array,
                targets=request.targets,
                encoding="real",
                ridge=ridge,
                tolerance=TOLERANCE,
                cross_matrix_id=cross.manifest.id,
                checkpoint_id=request.name,
            ),
            store_url=gram.store_url,
            on_progress=on_progress,
            should_stop=should_stop,
            worker_memory_bytes=worker_memory_bytes,
        )
        certified = solved.summary["stats"]["certified"]
        _check(solved.outcome, max(certified or [0.0]), solved.summary["advice"])
        spread, notes = None, tuple(solved.summary["warnings"])
        if asked.wanted != "mean":
            spread, more = _spread(cluster, request, diagonal, ridge, kept, on_progress)
            notes += more
    except SolveInterrupted:
        return None
    kept.remove()
    found = Posterior(solved.arrays["predictions"], spread, certified, notes)
    return report(found, asked, ridge, request.classes, request.test_targets)


def _spread(
    cluster: SolveCluster,
    request: LargePosterior,
    diagonal: Float64,
    ridge: float,
    kept: Scratch,
    on_progress: OnProgress,
) -> tuple[Float64, tuple[str, ...]]:
    """Variances (n,) or covariance (n, n), and notes. Raises SolveInterrupted, SolveFailedError."""
    asked = request.asked
    assert asked.test is not None
    test = stored(asked.test)
    n, each = test.layout.shape[0], request.batch
    whole = asked.wanted == "covariance"
    parts: list[Float64] = []
    with ExitStack() as stack:
        solve: Columns | None = None
        carry: _Carry | None = None
        for first in range(0, n, each):
            cluster.check_stop()
            rows = slice(first, min(first + each, n))
            shape = (rows.stop - first, n) if whole else (rows.stop - first,)
            part = kept.found(str(first), shape, "float64")
            if part is None:
                if solve is None or carry is None:
                    solve = stack.enter_context(_columns(cluster, request, diagonal, ridge))
                    carry = _Carry(cluster, request, stack)
                part = carry(rows, solve)
                kept.write(str(first), part)
            parts.append(part)
            on_progress({"phase": "spread", "done": rows.stop, "total": n})
    reduction = np.concatenate(parts)
    if whole:
        covariance = _rows(test, slice(0, n)) - reduction
        return 0.5 * (covariance + covariance.T), ()
    prior = cluster.diagonal(test)
    return clipped(prior - reduction, prior)


class _Carry:
    """What the targets take from the prior of some test samples: of each, or with all others."""

    def __init__(self, cluster: SolveCluster, request: LargePosterior, stack: ExitStack) -> None:
        asked = request.asked
        self._solved_cross = stored(request.solved.cross)
        self._prior_cross = stored(asked.prior.cross)
        self._trained = asked.trained is not None
        self._through: Operator | None = None
        source = None
        if self._trained:
            source = stored(asked.prior.gram)  # covariance of what training carries along
        elif asked.wanted == "covariance":
            source = self._prior_cross
        if source is not None:
            operator = cluster.operator(source, request.batch, placement="stream")
            stack.callback(operator.close)
            self._through = operator

    def __call__(self, rows: slice, solve: Columns) -> Float64:
        """(b,) or (b, n) for test samples `rows`."""
        cross = _rows(self._solved_cross, rows)
        solution = solve(np.ascontiguousarray(cross.T))
        _check(solution.outcome, solution.stats.certified_max or 0.0, solution.outcome.advice)
        assert solution.value is not None
        x = solution.value
        if self._through is None:
            taken: Float64 = np.einsum("ij,ji->i", cross, x)
            return taken
        product = self._through.apply(x, precise=True)
        if not self._trained:
            return np.ascontiguousarray(product.T)
        # K_ss − 2 A K_Xs + A K Aᵀ with A = xᵀ (posterior.py)
        prior = _rows(self._prior_cross, rows)
        taken = 2 * np.einsum("ij,ji->i", prior, x)
        taken -= np.einsum("ji,ji->i", x, product)
        return taken


@contextmanager
def _columns(
    cluster: SolveCluster, request: LargePosterior, diagonal: Float64, ridge: float
) -> Iterator[Columns]:
    """How the columns of a batch are solved for; what that builds serves all batches."""
    gram = stored(request.solved.gram)
    blobs = open_blobs(gram.store_url)
    n = stored(request.solved.cross).layout.shape[0]
    method = request.method or method_for(
        gram.layout,
        "auto",
        rhs=n,
        precision="auto",
        base_bytes=cluster.worker_base_bytes,
        room=Room(cluster.worker_memory_bytes, blobs.free_bytes()),
    )
    settings = CGSettings(tolerance=TOLERANCE)
    if method == "cg":
        kind, rank = choose_preconditioner(PreconditionerSettings(), diagonal, ridge)
        rank = rank if kind == "rpcholesky" else 0
        operator = cluster.operator(gram, request.batch, rank=rank)
        try:
            factor = None
            if rank:
                factor = build_low_rank(
                    operator, diagonal, rank, kind="rpcholesky", seed=0, ridge=ridge
                )
            yield lambda b: block_cg(
                operator,
                b,
                ridge=ridge,
                settings=settings,
                preconditioner=None if factor is None else factor.damped(ridge),
                norm_estimate=float(factor.values[0]) if factor and factor.rank else 0.0,
                should_stop=cluster.should_stop,
            )
        finally:
            operator.close()
        return
    block = block_rows(gram.layout)
    reserved = tiled_worker_bytes(
        rows=len(diagonal),
        rhs=request.batch,
        tile_rows=gram.layout.chunk_shape[0],
        itemsize=gram.layout.itemsize,
        block=block,
        factor_itemsize=FLOAT64,
        base_bytes=0,
    )
    operator = cluster.operator(gram, request.batch, reserved_bytes=reserved)
    scratch = Scratch(gram.store_url, f"{ROOT}/{request.name}/spread-factor")
    scratch.open()
    try:
        yield lambda b: solve_tiled(
            cluster.client,
            operator,
            gram,
            b,
            ridge,
            scratch=scratch,
            settings=settings,
            should_stop=cluster.should_stop,
        )
        scratch.remove()
    finally:
        operator.close()


def stored(source: Any) -> StoredTiles:
    """The kernels of this request lie in the store."""
    assert isinstance(source, StoredTiles)
    return source


def _rows(source: StoredTiles, rows: slice) -> Float64:
    blobs = open_blobs(source.store_url)
    return read_slice(blobs, source.manifest, source.array, rows).astype(np.float64)


def _check(outcome: Outcome, residual: float, advice: str) -> None:
    require_usable(outcome, "The posterior", advice)
    if residual > LOST_RESIDUAL:
        raise SolveFailedError(
            f"The posterior ended as {outcome.value} at a residual of {residual:.1e}.",
            advice=advice,
            outcome=outcome.value,
        )
