"""What a solve over stored tiles would cost on the cluster of this service."""

from __future__ import annotations

from typing import Any

from service.jobs.context import JobContext
from service.jobs.tasks.solve_estimate import (
    FLOPS_PER_SECOND,
    HELD_BYTES_PER_SECOND,
    SolveEstimate,
    estimate_solve,
)
from storage.format import ArrayLayout
from workers.memory import WORKER_BASE_BYTES
from workers.predictions.left_out_ridge import DUAL_TOLERANCE
from workers.solves.inverse_diagonal import read_bytes
from workers.solves.memory import FLOAT64
from workers.solves.policy import Method, Room, left_out_worker_bytes, method_for
from workers.solves.tiled_cholesky import block_rows


def solve_cost(
    context: JobContext, layout: ArrayLayout, *, columns: int, tolerance: float, method: Method
) -> SolveEstimate:
    """Of `columns` right-hand sides at once, to a relative residual of `tolerance`."""
    return estimate_solve(
        layout,
        method=method,
        placement="auto",
        rhs=columns,
        inducing=1,
        tolerance=tolerance,
        workers=context.compute.expected_workers(),
        base_bytes=WORKER_BASE_BYTES,
        limit_bytes=context.compute.limit_bytes(),
    )


def auto_method(context: JobContext, layout: ArrayLayout, *, columns: int) -> Method:
    """What method `auto` means for `columns` right-hand sides."""
    return method_for(
        layout,
        "auto",
        rhs=columns,
        precision="auto",
        base_bytes=WORKER_BASE_BYTES,
        room=Room(context.compute.limit_bytes(), context.blobs.free_bytes()),
    )


def left_out_cost(
    context: JobContext, layout: ArrayLayout, *, columns: int, ridges: int
) -> dict[str, Any]:
    """Of leave-one-out errors of a matrix of any size, for each of `ridges`: a float64 factor, a
    solve with it and the diagonal of its inverse."""
    m, block = layout.shape[0], block_rows(layout)
    workers = max(context.compute.expected_workers(), 1)
    solve = solve_cost(
        context, layout, columns=columns, tolerance=DUAL_TOLERANCE, method="tiled-cholesky"
    )
    inverse_flops = m**3 / 3
    seconds = inverse_flops / FLOPS_PER_SECOND + (
        read_bytes(m, block, FLOAT64) / HELD_BYTES_PER_SECOND
    )
    return {
        **solve.to_json(),
        "applications": ridges * solve.applications,
        "flops": ridges * (solve.flops + inverse_flops),
        "bytes_read": ridges * solve.bytes_read,
        "peak_bytes_per_worker": left_out_worker_bytes(
            layout, rhs=columns, base_bytes=WORKER_BASE_BYTES
        ),
        "seconds": ridges * (solve.seconds + seconds / workers),
    }
