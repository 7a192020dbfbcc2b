"""How the columns of a batch of test samples become those of A = K_sX g(K): what all batches share.

Trained to the end, and for Gaussian processes, g(K) is the inverse of K + ridge·I: block CG, or a
tiled factor where the samples are so many that it is cheaper (workers/solves/policy.py). At finite
times it is a Chebyshev series (kernel_series.py), with the state of a batch kept in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from storage.blobs import BlobStore, open_blobs
from workers.predictions.kernel_series import KernelSeries, OnPass
from workers.predictions.time_factors import flow_factors
from workers.solves.block_cg import block_cg
from workers.solves.block_lanczos import block_columns
from workers.solves.cg_solver import PreconditionerSettings, build_low_rank, choose_preconditioner
from workers.solves.cg_state import CGSettings
from workers.solves.errors import SolveFailedError, require_usable
from workers.solves.memory import FLOAT64, tiled_worker_bytes
from workers.solves.policy import Method, Room, method_for
from workers.solves.scratch import Scratch
from workers.solves.solution import Float64, Outcome, Solution
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.tiled_cholesky import block_rows
from workers.solves.tiled_solver import solve_tiled

TOLERANCE = 1e-6  # relative residual of every column
LOST_RESIDUAL = 1e-3

Columns = Callable[[Float64], Float64]  # (m, b) -> g(K) times it
_SETTINGS = CGSettings(tolerance=TOLERANCE)


@contextmanager
def columns_in_time(
    cluster: SolveCluster,
    gram: StoredTiles,
    *,
    time: float,
    ridge: float,
    width: int,
    kept: Scratch,
    on_pass: OnPass,
    checkpoint_seconds: float,
    warnings: list[str],
) -> Iterator[Columns]:
    """g(w) of `time_factors.flow_factors` for up to `width` columns at once.

    `warnings` takes what a reader should know in the end. The columns raise SolveInterrupted, and
    SolveFailedError if the time takes too many passes or K is no Gram matrix.
    """
    operator = cluster.operator(gram, max(width, block_columns(1)))
    try:
        series = KernelSeries(
            cluster,
            operator,
            gram,
            kept,
            on_pass=on_pass,
            checkpoint_seconds=checkpoint_seconds,
        )
        factor = partial(flow_factors, time=time)
        yield lambda b: series.apply([factor], b, ridge, what="a `time`")[0]
        warnings += series.keeper.warnings
    finally:
        operator.close()


@contextmanager
def columns_in_the_end(
    cluster: SolveCluster,
    gram: StoredTiles,
    *,
    method: Method | None,
    samples: int,
    ridge: float,
    diagonal: Float64,
    width: int,
    scratch: Scratch,
) -> Iterator[Columns]:
    """(K + ridge·I)⁻¹ for up to `width` columns at once, `samples` in all.

    method None: `auto` as in workers/solves/policy.py. scratch: for a factor. The columns raise
    SolveInterrupted, and SolveFailedError where there is no answer with digits.
    """
    blobs = open_blobs(gram.store_url)
    chosen = method or _method(cluster, gram, samples, blobs)
    if chosen == "cg":
        yield from _by_cg(cluster, gram, ridge, diagonal, width)
    else:
        yield from _by_factor(cluster, gram, ridge, width, scratch)


def check_digits(outcome: Outcome, residual: float, advice: str) -> None:
    """Raises SolveInterrupted, SolveFailedError unless there is an answer with digits."""
    require_usable(outcome, "The posterior", advice)
    if residual > LOST_RESIDUAL:
        raise SolveFailedError(
            f"The posterior ended as {outcome.value} at a residual of {residual:.1e}.",
            advice=advice,
            outcome=outcome.value,
        )


def _method(cluster: SolveCluster, gram: StoredTiles, samples: int, blobs: BlobStore) -> Method:
    return method_for(
        gram.layout,
        "auto",
        rhs=samples,
        precision="auto",
        base_bytes=cluster.worker_base_bytes,
        room=Room(cluster.worker_memory_bytes, blobs.free_bytes()),
    )


def _by_cg(
    cluster: SolveCluster, gram: StoredTiles, ridge: float, diagonal: Float64, width: int
) -> Iterator[Columns]:
    kind, rank = choose_preconditioner(PreconditionerSettings(), diagonal, ridge)
    rank = rank if kind == "rpcholesky" else 0
    operator = cluster.operator(gram, width, rank=rank)
    try:
        factor = None
        if rank:
            factor = build_low_rank(
                operator, diagonal, rank, kind="rpcholesky", seed=0, ridge=ridge
            )
        yield lambda b: _value(
            block_cg(
                operator,
                b,
                ridge=ridge,
                settings=_SETTINGS,
                preconditioner=None if factor is None else factor.damped(ridge),
                norm_estimate=float(factor.values[0]) if factor and factor.rank else 0.0,
                should_stop=cluster.should_stop,
            )
        )
    finally:
        operator.close()


def _by_factor(
    cluster: SolveCluster, gram: StoredTiles, ridge: float, width: int, scratch: Scratch
) -> Iterator[Columns]:
    reserved = tiled_worker_bytes(
        rows=gram.layout.shape[0],
        rhs=width,
        tile_rows=gram.layout.chunk_shape[0],
        itemsize=gram.layout.itemsize,
        block=block_rows(gram.layout),
        factor_itemsize=FLOAT64,
        base_bytes=0,
    )
    operator = cluster.operator(gram, width, reserved_bytes=reserved)
    scratch.open()
    try:
        yield lambda b: _value(
            solve_tiled(
                cluster.client,
                operator,
                gram,
                b,
                ridge,
                scratch=scratch,
                settings=_SETTINGS,
                should_stop=cluster.should_stop,
            )
        )
        scratch.remove()
    finally:
        operator.close()


def _value(solution: Solution) -> Float64:
    check_digits(solution.outcome, solution.stats.certified_max or 0.0, solution.outcome.advice)
    assert solution.value is not None
    return solution.value
