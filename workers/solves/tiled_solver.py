"""Direct solve of a system of any size: a tiled Cholesky factor, then CG with float64 residuals.

A float32 factor takes half the memory and half the time of a float64 one, and as the
preconditioner of conjugate gradients with float64 products it gives float64 accuracy in 2 to 4
passes where float32 has digits at all, in a dozen or so where it nearly has none. Where it breaks
down (a pivot is not positive), the factorisation is done again in float64, unless that was
excluded. So this is iterative refinement, except that it also converges where plain refinement
does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Client

from workers.solves.block_cg import block_cg
from workers.solves.cg_state import CGProgress, CGSettings, CGState
from workers.solves.errors import SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.policy import FactorPrecision
from workers.solves.scratch import Scratch
from workers.solves.solution import Float64, Outcome, Solution, SolveStats
from workers.solves.source import TileSource
from workers.solves.tiled_cholesky import BLOCK_ROWS, Done, Factoring, block_rows, factorise
from workers.solves.tiled_factor import TiledFactor, factor_preconditioner

METHOD = "tiled-cholesky"


@dataclass(frozen=True)
class TiledSettings:
    """precision: of the factor; `auto` is float32, and float64 where that breaks down.
    block_rows: least edge of a block of the factor."""

    precision: FactorPrecision = "auto"
    block_rows: int = BLOCK_ROWS


def solve_tiled(
    client: Client | None,
    operator: Operator,
    source: TileSource,
    rhs: Float64,
    ridge: float,
    *,
    scratch: Scratch,
    tiled: TiledSettings | None = None,
    settings: CGSettings | None = None,
    resume: CGState | None = None,
    on_factor: Callable[[int, int], None] = lambda done, total: None,
    on_iteration: Callable[[CGProgress, CGState], None] = lambda progress, state: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Solution:
    """Solve (K + ridge·I) X = B, certified. `operator` multiplies with the matrix of `source`.

    `scratch` takes the factor; whatever is there already is used, so it must belong to this matrix
    and ridge. The caller removes it. Ends as
    NOT_POSITIVE_DEFINITE when a float64 pivot (or that of the only precision allowed) fails.
    """
    wanted, limits = tiled or TiledSettings(), settings or CGSettings()
    started = time.monotonic()
    facts: dict[str, Any] = {}
    stats = SolveStats(method=METHOD, placement=operator.placement)
    stats.details["factor"] = facts
    outcome: Outcome | None = None

    def late() -> bool:
        limit = limits.time_limit_seconds
        return limit is not None and time.monotonic() - started > limit

    def check() -> None:
        if should_stop() or late():
            raise SolveInterrupted

    scratch.open()
    precisions = ("float32", "float64") if wanted.precision == "auto" else (wanted.precision,)
    for precision in precisions:
        factor = factor_in(scratch, source, precision, wanted.block_rows)
        try:
            done = factorise(
                client,
                Factoring(source, factor, ridge),
                should_stop=lambda: should_stop() or late(),
                check_stop=check,
                on_done=on_factor,
            )
        except SolveInterrupted:
            outcome = Outcome.TIME_LIMIT if not should_stop() else Outcome.CANCELLED
            break
        facts |= _facts(factor, done)
        if done.ok:
            break
        factor.scratch.remove()
        if not done.finite:
            outcome = Outcome.NON_FINITE
            break
        facts[f"breakdown_{precision}"] = done.failed_row
        outcome = Outcome.NOT_POSITIVE_DEFINITE if precision == precisions[-1] else None
    facts["seconds"] = time.monotonic() - started
    if outcome is not None:
        stats.seconds = facts["seconds"]
        return Solution(None, outcome, stats)
    if limits.time_limit_seconds is not None:
        limits = replace(
            limits, time_limit_seconds=max(limits.time_limit_seconds - facts["seconds"], 0.0)
        )
    try:
        solution = block_cg(
            operator,
            rhs,
            ridge=ridge,
            settings=replace(limits, precise=True),
            preconditioner=factor_preconditioner(factor, client, should_stop),
            resume=resume,
            on_iteration=on_iteration,
            should_stop=should_stop,
        )
    except SolveInterrupted:  # inside the first application of the factor
        return Solution(None, Outcome.CANCELLED, stats)
    found = solution.stats
    found.method = METHOD
    found.details["factor"] = facts
    found.seconds += facts["seconds"]
    found.largest_ritz = max(found.largest_ritz or 0.0, done.largest)
    found.smallest_ritz = min(found.smallest_ritz or np.inf, done.smallest)
    found.condition_estimate = found.largest_ritz / found.smallest_ritz
    return solution


def factor_in(
    scratch: Scratch, source: TileSource, precision: str, least_rows: int = BLOCK_ROWS
) -> TiledFactor:
    """Where `solve_tiled` keeps the factor of this precision."""
    block = block_rows(source.layout, least_rows)
    place = replace(scratch, folder=f"{scratch.folder}/factor-{precision}-{block}")
    return TiledFactor(place, source.layout.shape[0], block, precision)


def _facts(factor: TiledFactor, done: Done) -> dict[str, Any]:
    return {
        "precision": factor.dtype,
        "block_rows": factor.block_rows,
        "bytes_read": done.bytes_read,
        "bytes_written": done.bytes_written,
        "log_determinant": done.log_determinant if done.ok else None,
    }
