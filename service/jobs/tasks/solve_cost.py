"""What a solve over stored tiles would cost on the cluster of this service."""

from __future__ import annotations

from service.jobs.context import JobContext
from service.jobs.tasks.solve_estimate import SolveEstimate, estimate_solve
from storage.format import ArrayLayout
from workers.memory import WORKER_BASE_BYTES
from workers.solves.policy import Method, Room, method_for


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
