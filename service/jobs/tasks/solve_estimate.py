"""What a solve would cost, from sizes alone. Pure; all sizes in bytes.

Times rest on rates measured on one core of a 2025 server (Zen 4): they are there to tell seconds
from hours, and say so with `basis: "model"`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from storage.format import ArrayLayout
from workers.solves.memory import (
    FLOAT64,
    cholesky_worker_bytes,
    falkon_worker_bytes,
    nystrom_worker_bytes,
    placement_bytes,
    tiled_worker_bytes,
)
from workers.solves.policy import (
    FactorPrecision,
    Method,
    RequestedPlacement,
    preconditioner_rank,
)
from workers.solves.tiled_cholesky import block_rows, factor_bytes, read_bytes

FLOPS_PER_SECOND = 4e10  # float64 factorisations
HELD_BYTES_PER_SECOND = 5e9  # products with tiles in memory
_STREAMED_BYTES_PER_SECOND = 0.5e9  # products with tiles read and checked at each pass
# Block CG on ReLU kernels of real data needs about 5 sqrt(m/rank) passes per factor of 1000 with a
# preconditioner and 0.45 sqrt(m) without.
_PASSES_PER_SPREAD = 5.0
_UNPRECONDITIONED = 0.09
_REFINING_PASSES = 6  # of CG with a float32 factor: 3 on easy systems, 13 on hard ones
_FALKON_ITERATIONS_PER_DIGIT = 5.0


@dataclass(frozen=True)
class SolveEstimate:
    """Projected cost of a solve over an (m, m) matrix with k right-hand sides."""

    method: Method
    rows: int
    right_hand_sides: int
    applications: int  # expected passes over the matrix
    flops: float
    bytes_read: int
    scratch_bytes: int  # of the store while the solve runs
    peak_bytes_per_worker: int
    seconds: float
    workers: int
    basis: Literal["model"] = "model"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate_solve(
    layout: ArrayLayout,
    *,
    method: Method,
    placement: RequestedPlacement,
    rhs: int,
    inducing: int,
    rank: int | None = None,
    precision: FactorPrecision = "auto",
    tolerance: float,
    workers: int,
    base_bytes: int,
    limit_bytes: int,
) -> SolveEstimate:
    """Cost of solving with the symmetric array `layout`.

    For "cg" with placement "auto" the memory is that of the first placement (triangle in memory,
    streaming) that fits `limit_bytes`.
    """
    m, tile_rows = layout.shape[0], layout.chunk_shape[0]
    tile = {"tile_rows": tile_rows, "itemsize": layout.itemsize, "base_bytes": base_bytes}
    seconds_to_stream = layout.stored_bytes / _STREAMED_BYTES_PER_SECOND / workers
    scratch = 0
    if method == "cholesky":
        applications = 2
        flops = m**3 / 3 + 2.0 * m * m * rhs
        peak = cholesky_worker_bytes(rows=m, rhs=rhs, **tile)
        seconds = flops / FLOPS_PER_SECOND + seconds_to_stream * workers
    elif method == "tiled-cholesky":
        itemsize = 4 if precision == "float32" else FLOAT64
        block = block_rows(layout)
        applications = _REFINING_PASSES
        flops = m**3 / 3 + 4.0 * m * m * rhs * applications
        peak = tiled_worker_bytes(rows=m, rhs=rhs, block=block, factor_itemsize=itemsize, **tile)
        scratch = factor_bytes(m, block, itemsize)
        # Of the factor: written once, read while it is made and twice in each application.
        moved = 2 * scratch * applications + read_bytes(m, block, itemsize) + scratch
        seconds = flops / FLOPS_PER_SECOND / workers
        seconds += seconds_to_stream * (applications + 1) + moved / HELD_BYTES_PER_SECOND
    elif method in ("nystrom", "falkon"):
        # Two passes say how far the model is from the exact solution.
        applications = 3
        flops = 2.0 * m * inducing**2
        peak = nystrom_worker_bytes(inducing=inducing, rhs=rhs, **tile)
        if method == "falkon":
            iterations = math.ceil(_FALKON_ITERATIONS_PER_DIGIT * max(1, -math.log10(tolerance)))
            flops = 4.0 * m * inducing * rhs * iterations + inducing**3
            peak = falkon_worker_bytes(inducing=inducing, rhs=rhs, **tile)
            scratch = m * inducing * layout.itemsize
        seconds = flops / FLOPS_PER_SECOND / workers + applications * seconds_to_stream
    else:
        digits = max(1.0, -math.log10(tolerance))
        rank = preconditioner_rank(m, rank)
        spread = math.sqrt(m / rank) if rank else math.sqrt(m) * _UNPRECONDITIONED
        # Two passes read the columns of the preconditioner, two certify.
        applications = math.ceil(_PASSES_PER_SPREAD * spread * digits / 3) + 4
        flops = 2.0 * m * m * rhs * applications
        peaks = placement_bytes(layout, rhs=rhs, rank=rank, workers=workers, base_bytes=base_bytes)
        if placement != "auto":
            chosen = placement
        else:
            chosen = "memory" if peaks["memory"] <= limit_bytes else "stream"
        peak = peaks[chosen]
        rate = _STREAMED_BYTES_PER_SECOND if chosen == "stream" else HELD_BYTES_PER_SECOND
        seconds = seconds_to_stream + applications * layout.stored_bytes / rate / workers
    return SolveEstimate(
        method=method,
        rows=m,
        right_hand_sides=rhs,
        applications=applications,
        flops=flops,
        bytes_read=layout.stored_bytes * applications,
        scratch_bytes=scratch,
        peak_bytes_per_worker=peak,
        seconds=seconds,
        workers=workers,
    )
