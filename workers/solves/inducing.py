"""Solves with inducing points as the model: tasks, limits and what the result says about itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import LinAlgError

from storage.errors import TooLargeError
from workers.solves import falkon, nystrom
from workers.solves.block_cg import block_cg
from workers.solves.cg_state import CGState
from workers.solves.dask_tasks import run_to_end
from workers.solves.distance import distance_bound
from workers.solves.memory import (
    falkon_coordinator_bytes,
    falkon_worker_bytes,
    nystrom_worker_bytes,
)
from workers.solves.policy import PRECONDITIONER_MEMORY_BYTES, check_fits
from workers.solves.shares import cut
from workers.solves.solution import Float64, Outcome, Solution, SolveStats

if TYPE_CHECKING:
    from workers.solves.run import Run

# The certificate is of the normal equations, CG's residual of the preconditioned ones. Where they
# differ, CG goes on with a tolerance this much smaller, at most so many times.
TIGHTEN_FACTOR = 0.1
TIGHTEN_TIMES = 4


def solve_nystrom(run: Run) -> Solution:
    """The direct way: QR of row panels (nystrom.py). Raises TooLargeError and what tasks raise."""
    p, request = run.prepared, run.prepared.request
    _check_worker(run, nystrom_worker_bytes, "Method 'nystrom'")
    started = time.monotonic()
    columns = nystrom.choose_inducing(p.rows, p.inducing_points, request.seed)
    tasks = nystrom.panel_tasks(p.source, columns, p.rhs, run.cluster.workers)
    options = {
        "rhs": p.rhs.shape[1],
        "ridge": run.ridge,
        "tolerance": request.effective_tolerance,
        "epsilon": float(np.finfo(p.layout.dtype).eps),
    }
    if run.client is None:
        factors = []
        for done, task in enumerate(tasks):
            factors.append(nystrom.fold_panels(task, run.cluster.check_stop))
            run.on_progress({"phase": "solve", "done": done + 1, "total": len(tasks)})
        solution = nystrom.finish(nystrom.reduce_tree(factors, nystrom.merge), **options)
    else:
        client = run.client
        futures: list[Any] = [
            client.submit(nystrom.fold_panels, task, pure=False) for task in tasks
        ]

        def merge(left: Any, right: Any) -> Any:
            futures.append(client.submit(nystrom.merge, left, right, pure=False))
            return futures[-1]

        root = nystrom.reduce_tree(list(futures), merge)
        futures.append(client.submit(nystrom.finish, root, **options, pure=False))
        solution = run_to_end(
            client, futures, should_stop=run.should_stop, on_done=_reporting(run, "solve")
        )
    return _as_dual(run, solution, columns, started)


def solve_falkon(run: Run) -> Solution:
    """The iterative way: FALKON (falkon.py), checkpointed like CG. Raises as `solve_nystrom`."""
    p, request = run.prepared, run.prepared.request
    _check_worker(run, falkon_worker_bytes, "Method 'falkon'")
    needed = falkon_coordinator_bytes(inducing=p.inducing_points)
    if needed > PRECONDITIONER_MEMORY_BYTES:
        raise TooLargeError(
            f"FALKON with {p.inducing_points} inducing points takes {needed} bytes of the"
            f" coordinator, which may use {PRECONDITIONER_MEMORY_BYTES} for that.",
            advice="Use fewer inducing points, or method 'nystrom' or 'cg'.",
            projected_bytes=needed,
            limit_bytes=PRECONDITIONER_MEMORY_BYTES,
        )
    started = time.monotonic()
    columns = nystrom.choose_inducing(p.rows, p.inducing_points, request.seed)
    scratch = run.scratch(f"panels-{request.seed}-{columns.size}")
    panels = falkon.Panels(p.source, scratch, columns)
    stats = SolveStats(method="falkon", placement="stream")
    kernel = np.empty((columns.size, columns.size))
    finite = True
    for part in _gather(run, panels):
        kernel[part.index] = part.kernel_rows
        stats.bytes_read += part.bytes_read
        finite = finite and part.finite
    if not finite:
        return Solution(None, Outcome.NON_FINITE, stats)
    try:
        operator = falkon.FalkonOperator(
            run.client,
            panels,
            kernel,
            run.ridge,
            workers=run.cluster.workers,
            should_stop=run.should_stop,
        )
    except LinAlgError:
        stats.details["hint"] = "K_SS is indefinite beyond the rounding of the stored entries."
        return Solution(None, Outcome.NOT_POSITIVE_DEFINITE, stats)
    targets, rhs = operator.right_hand_sides(p.rhs)
    solution = _iterate(run, operator, kernel, targets, rhs)
    solution.stats.details["jitter"] = operator.jitter
    solution.stats.bytes_read += stats.bytes_read
    return _as_dual(run, solution, columns, started)


def _iterate(
    run: Run, operator: falkon.FalkonOperator, kernel: Float64, targets: Float64, rhs: Float64
) -> Solution:
    """Block CG until the residual of the normal equations is within the tolerance."""
    keeper = run.keeper(rhs, f"falkon-{run.prepared.request.seed}")
    state, reason = keeper.load()
    if reason is not None:
        run.warnings.append(reason)
    limits = run.cg_settings
    latest: list[CGState] = [] if state is None else [state]

    def iterated(progress: Any, state: CGState) -> None:
        latest[:] = [state]
        keeper.iterated(progress, state)

    try:
        for _ in range(TIGHTEN_TIMES):
            solution = block_cg(
                operator,
                rhs,
                settings=limits,
                resume=latest[0] if latest else None,
                on_iteration=iterated,
                should_stop=run.should_stop,
            )
            assert solution.value is not None
            alpha = operator.coefficients(solution.value)
            stats = solution.stats
            stats.method = "falkon"
            if not solution.outcome.usable:
                return Solution(None, solution.outcome, stats)
            residual = targets - operator.normal(alpha) - run.ridge * (kernel @ alpha)
            norms = np.linalg.norm(targets, axis=0)
            relative = np.linalg.norm(residual, axis=0) / np.where(norms > 0, norms, 1.0)
            stats.applications += 1
            stats.certified = relative.tolist()
            worst = float(relative.max(initial=0.0))
            stats.certified_history.append((stats.iterations, worst))
            within = worst <= run.prepared.request.effective_tolerance
            if within or solution.outcome is not Outcome.CONVERGED:
                break
            limits = replace(limits, tolerance=limits.tolerance * TIGHTEN_FACTOR)
    finally:
        keeper.save()
    outcome = solution.outcome
    if outcome is Outcome.CONVERGED and not within:
        outcome = Outcome.FLOOR
    fit = operator.fit(alpha)
    y = run.prepared.rhs
    size = np.linalg.norm(y, axis=0)
    stats.details["training_residual"] = (
        np.linalg.norm(y - fit, axis=0) / np.where(size > 0, size, 1.0)
    ).tolist()
    return Solution(alpha, outcome, stats)


def _gather(run: Run, panels: falkon.Panels) -> list[falkon.Gathered]:
    bounds = cut(panels.count, nystrom.BATCHES_PER_WORKER * run.cluster.workers)
    report = _reporting(run, "gather")
    if run.client is None:
        parts = []
        for done, b in enumerate(bounds):
            parts.append(falkon.gather_panels(panels, b.start, b.stop, run.cluster.check_stop))
            report(done + 1, len(bounds))
        return parts
    futures: list[Any] = [
        run.client.submit(falkon.gather_panels, panels, b.start, b.stop, pure=False) for b in bounds
    ]
    futures.append(run.client.submit(list, list(futures), pure=False))
    result: list[falkon.Gathered] = run_to_end(
        run.client, futures, should_stop=run.should_stop, on_done=report
    )
    return result


def _as_dual(
    run: Run, solution: Solution, columns: np.typing.NDArray[np.int64], started: float
) -> Solution:
    """The coefficients as a dual over all rows, with what is known of their distance to the exact
    solution."""
    stats = solution.stats
    stats.details["inducing_points"] = columns.tolist()
    stats.placement = "stream"
    dual = nystrom.embed(solution, columns, run.prepared.rows)
    if dual is not None and solution.outcome.usable and run.ridge > 0:
        operator = run.cluster.operator(run.prepared.source, 2 * dual.shape[1], placement="stream")
        try:
            bound = distance_bound(operator, run.prepared.rhs, dual, run.ridge)
        finally:
            operator.close()
        stats.applications += operator.traffic.applications
        stats.precise_applications += operator.traffic.precise_applications
        stats.bytes_read += operator.traffic.bytes_read
        stats.details["distance_to_exact_at_most"] = bound.tolist()
    stats.seconds = time.monotonic() - started
    return Solution(dual, solution.outcome, stats)


def _check_worker(run: Run, project: Callable[..., int], what: str) -> None:
    p = run.prepared
    projected = project(
        inducing=p.inducing_points,
        rhs=p.rhs.shape[1],
        tile_rows=p.layout.chunk_shape[0],
        itemsize=p.layout.itemsize,
        base_bytes=run.cluster.worker_base_bytes,
    )
    instead = "use fewer inducing points, or method 'cg'"
    check_fits(what, projected, run.cluster.worker_memory_bytes, instead)


def _reporting(run: Run, phase: str) -> Callable[[int, int], None]:
    return lambda done, total: run.on_progress({"phase": phase, "done": done, "total": total})
