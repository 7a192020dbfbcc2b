"""Block CG with the preconditioner that the matrix asks for, for one ridge or several.

A preconditioner never changes the answer: the certificate is that of the system itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workers.solves.block_cg import block_cg_ridges
from workers.solves.cg_state import CGProgress, CGSettings, CGState, Preconditioner
from workers.solves.errors import SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.pivoted_columns import aligned_pool, pivoted_columns
from workers.solves.policy import (
    LEAST_PRECONDITIONED_ROWS,
    PRECONDITIONER_MEMORY_BYTES,
    RequestedPreconditioner,
    preconditioner_rank,
)
from workers.solves.preconditioners import LowRank, jacobi, low_rank
from workers.solves.solution import Float64, Outcome, Solution, SolveStats

PreconditionerKind = Literal["none", "jacobi", "nystrom", "rpcholesky"]

UNEVEN_DIAGONAL = 10.0  # largest over smallest diagonal entry from which Jacobi helps
ROUNDS = 2  # blocks of pivots; each costs a pass over the stored tiles
# No further block of pivots once the trace that is left out is below this many ridges: the
# condition number is then at most one more, and CG needs about ten iterations.
ENOUGH_RIDGES = 9.0


@dataclass(frozen=True)
class PreconditionerSettings:
    """What to build, and from how much.

    kind: "rpcholesky" draws columns from all of K in ROUNDS blocks, the second where the first left
        most; "nystrom" draws them from a few tiles at once, which reads only those; both are damped
        low-rank approximations. "jacobi" is the diagonal. "auto" is rpcholesky from
        LEAST_PRECONDITIONED_ROWS on, below jacobi if the diagonal is uneven, else none.
    rank: columns of the low-rank factor; None: m/8 between 500 and 2000. Never more than m/3, nor
        than `memory_bytes` of the coordinator hold.
    seed: of the columns drawn.
    """

    kind: RequestedPreconditioner = "auto"
    rank: int | None = None
    memory_bytes: int = PRECONDITIONER_MEMORY_BYTES
    seed: int = 0


def solve_ridges(
    operator: Operator,
    rhs: Float64,
    ridges: Sequence[float],
    *,
    diagonal: Float64,
    settings: CGSettings | None = None,
    preconditioner: PreconditionerSettings | None = None,
    resume: Sequence[CGState | None] | None = None,
    on_iteration: Callable[[int, CGProgress, CGState], None] = lambda number, progress, state: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Solution]:
    """Solve (K + λI) X = B for each λ of `ridges`, in their order; `diagonal` (m,) is that of K.

    All ridges share the columns and the eigendecomposition of one preconditioner and, pass by
    pass, the applications of K. `stats.details["preconditioner"]` says what was built and
    `stats.details["shared_applications"]` how many passes all ridges took together.
    """
    wanted = preconditioner or PreconditionerSettings()
    kind, rank = choose_preconditioner(wanted, diagonal, min(ridges))
    facts: dict[str, Any] = {"kind": kind}
    started, before = time.monotonic(), operator.traffic.applications
    make: Callable[[float], Preconditioner] | None = None
    norm_estimate = 0.0
    if kind == "jacobi":
        make = lambda ridge: jacobi(diagonal, ridge)  # noqa: E731
    elif kind != "none":
        try:
            factor = build_low_rank(
                operator, diagonal, rank, kind=kind, seed=wanted.seed, ridge=min(ridges)
            )
        except SolveInterrupted:
            stats = SolveStats(method="cg", placement=operator.placement)
            return [Solution(None, Outcome.CANCELLED, stats) for _ in ridges]
        if factor is None:
            stats = SolveStats(method="cg", placement=operator.placement)
            return [Solution(None, Outcome.NON_FINITE, stats) for _ in ridges]
        facts |= {
            "rank": factor.rank,
            "columns": rank,
            "remainder": factor.remainder,
            "precision": str(factor.basis.dtype),
        }
        norm_estimate = float(factor.values[0]) if factor.rank else 0.0
        make = factor.damped
    facts["build_seconds"] = time.monotonic() - started
    solutions = block_cg_ridges(
        operator,
        rhs,
        ridges,
        settings=settings,
        preconditioner=make,
        norm_estimate=norm_estimate,
        resume=resume,
        on_iteration=on_iteration,
        should_stop=should_stop,
    )
    for solution, ridge in zip(solutions, ridges, strict=True):
        _widen_condition(solution.stats, diagonal, norm_estimate, ridge)
        solution.stats.details["preconditioner"] = facts
        solution.stats.details["shared_applications"] = operator.traffic.applications - before
    return solutions


def _widen_condition(
    stats: SolveStats, diagonal: Float64, norm_estimate: float, ridge: float
) -> None:
    """Take in the diagonal, Rayleigh quotients too: preconditioned CG sees few extreme ones."""
    if stats.largest_ritz is None or stats.smallest_ritz is None:
        return
    stats.largest_ritz = max(
        stats.largest_ritz, norm_estimate + ridge, float(diagonal.max()) + ridge
    )
    if float(diagonal.min()) + ridge > 0:
        stats.smallest_ritz = min(stats.smallest_ritz, float(diagonal.min()) + ridge)
    stats.condition_estimate = stats.largest_ritz / stats.smallest_ritz


def build_low_rank(
    operator: Operator,
    diagonal: Float64,
    rank: int,
    *,
    kind: PreconditionerKind,
    seed: int,
    ridge: float,
) -> LowRank | None:
    """The approximation from at most `rank` columns of K; None if they are not finite."""
    aligned = kind == "nystrom"
    factor, _ = pivoted_columns(
        operator.columns,
        diagonal,
        rank,
        rounds=1 if aligned else ROUNDS,
        seed=seed,
        epsilon=operator.epsilon,
        pool=aligned_pool(diagonal.size, operator.tile_rows, rank, seed=seed) if aligned else None,
        enough=ENOUGH_RIDGES * ridge,
    )
    if not np.isfinite(factor).all():
        return None
    return low_rank(factor, float(diagonal.sum()), smallest_ridge=ridge)


def choose_preconditioner(
    wanted: PreconditionerSettings, diagonal: Float64, ridge: float
) -> tuple[PreconditionerKind, int]:
    """What is built, and the number of columns it may take."""
    rows = diagonal.size
    if wanted.kind in ("auto", "nystrom", "rpcholesky"):
        least = LEAST_PRECONDITIONED_ROWS if wanted.kind == "auto" else 1
        rank = preconditioner_rank(rows, wanted.rank, wanted.memory_bytes, least_rows=least)
        if rank > 0:
            return ("rpcholesky" if wanted.kind == "auto" else wanted.kind), rank
    smallest = float(diagonal.min(initial=np.inf)) + ridge
    uneven = smallest > 0 and float(diagonal.max()) + ridge > UNEVEN_DIAGONAL * smallest
    if smallest > 0 and (wanted.kind == "jacobi" or (wanted.kind != "none" and uneven)):
        return "jacobi", 0
    return "none", 0
