"""The task type `log_marginal_likelihood`: how probable the targets are under a kernel."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import (
    DenseCost,
    ResultTask,
    Running,
    Work,
    in_one_worker,
    progress_of_parts,
)
from service.jobs.tasks.inputs import (
    check_columns,
    fits_one_worker,
    right_hand_sides,
    rows_dataset,
    symmetric_gram,
)
from service.jobs.tasks.solve_cost import solve_cost
from service.jobs.tasks.training import OnTraining
from service.schemas.common import EXAMPLE_MATRIX
from service.schemas.tasks import ArrayName
from workers.one_worker import Written
from workers.predictions.likelihood import log_marginals, stored_likelihood
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError, require_usable
from workers.solves.lanczos_quadrature import lanczos_quadrature
from workers.solves.policy import RequestedMethod
from workers.solves.request import SolveOutcome, SolveRequest
from workers.solves.solution import Float64, Outcome
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.targets import Encoding
from workers.solves.task import run_solve

DENSE_COPIES = 4  # float64 squares alive at once while a Gram is checked and factored
SOLVE_TOLERANCE = 1e-8  # relative residual of the dual, whose product with the targets is the fit
_READ_BYTES_PER_SECOND = 0.5e9


class LikelihoodTask(OnTraining):
    """Log marginal likelihood of the targets under a Gaussian process with this kernel and noise,
    summed over outputs: exactly, or estimated with an error bar."""

    type: Literal["log_marginal_likelihood"]
    array: ArrayName = Field(default="nngp", description="Which array of the matrix to use.")
    ridge: float = Field(default=1e-4, ge=0, le=1e12, description="Variance of the noise.")
    ridge_relative: bool = Field(
        default=True, description="True: the ridge is multiplied by trace(K)/m."
    )
    encoding: Encoding = Field(default="auto", description="How labels become numbers.")
    method: Literal["auto", "cholesky", "lanczos"] = Field(
        default="auto",
        description="cholesky: exact; beyond one worker by a factor in blocks in the store."
        " lanczos: an estimate with an error bar, in passes over the matrix. auto: cholesky up to"
        " the service's max_dense_rows while it fits one worker, else lanczos.",
    )
    probes: int = Field(
        default=16, ge=2, le=1024, description="Random vectors of lanczos: more, smaller error bar."
    )
    lanczos_steps: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Passes of lanczos over the matrix: too few bias it beyond its error bar, more"
        " so for a small ridge.",
    )
    seed: int = Field(default=0, ge=0, lt=2**53, description="Draws the probes.")


def prepare(context: JobContext, task: LikelihoodTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    source = symmetric_gram(context, task.matrix, task.array)
    rows = source.layout.shape[0]
    method = task.method
    dataset_id = task.targets or rows_dataset(source.manifest)
    targets, _ = right_hand_sides(context, dataset_id, rows, task.encoding)
    dense = _dense_cost(source, targets)
    fits = fits_one_worker(context, rows, dense.peak_bytes_per_worker)
    if method == "auto":
        method = "cholesky" if fits else "lanczos"
    determines: dict[str, Any] = {
        "matrix": task.matrix,
        "array": task.array,
        "targets": dataset_id,
        "encoding": task.encoding,
        "ridge": task.ridge,
        "ridge_relative": task.ridge_relative,
        "method": method,
    }
    if method == "cholesky" and fits:
        return Work(
            determines=determines,
            cost=dense.to_json(),
            run=in_one_worker(stored_likelihood, source, targets, task.ridge, task.ridge_relative),
        )
    if method == "cholesky":
        check_columns(context, rows, targets.shape[1], f"{targets.shape[1]} targets")
        cost = solve_cost(
            context,
            source.layout,
            columns=targets.shape[1],
            tolerance=SOLVE_TOLERANCE,
            method="tiled-cholesky",
        )
        return Work(
            determines={**determines, "factored_in": "blocks"},  # other last digits
            cost=cost.to_json(),
            memory_advice="Use method 'lanczos', or give the workers more memory.",
            run=lambda running: _in_blocks(running, task, targets),
        )
    if task.ridge == 0:
        raise InvalidSolveError(
            "The estimate of a log-determinant needs a ridge: without one it has no digits.",
            advice="Give a ridge above 0, or use method 'cholesky'.",
        )
    determines |= {"probes": task.probes, "lanczos_steps": task.lanczos_steps, "seed": task.seed}
    return Work(
        determines=determines,
        cost=_iterative_cost(context, source, task, targets),
        run=lambda running: _estimate(running, source, task, targets),
    )


def _dense_cost(source: StoredTiles, targets: Float64) -> DenseCost:
    m, k = targets.shape
    return DenseCost(
        flops=m**3 / 3 + 6.0 * m * m * k,
        bytes_read=source.layout.stored_bytes,
        peak_bytes_per_worker=dense_worker_bytes(source, DENSE_COPIES * m * m + 4 * m * k),
    )


def _iterative_cost(
    context: JobContext, source: StoredTiles, task: LikelihoodTask, targets: Float64
) -> dict[str, Any]:
    workers = context.compute.expected_workers()
    estimate = solve_cost(
        context,
        source.layout,
        columns=max(targets.shape[1], task.probes),
        tolerance=SOLVE_TOLERANCE,
        method="cg",
    )
    passes = task.lanczos_steps * source.layout.stored_bytes / _READ_BYTES_PER_SECOND
    seconds = estimate.seconds + passes / max(workers, 1)
    return {**estimate.to_json(), "seconds": seconds}


def _solve(
    running: Running, task: LikelihoodTask, targets: Float64, method: RequestedMethod
) -> SolveOutcome | None:
    """The certified dual of the targets; None when told to stop. Raises SolveFailedError."""
    context = running.context
    solved = run_solve(
        context.compute.client(),
        SolveRequest(
            matrix_id=task.matrix,
            array=task.array,
            targets=targets,
            encoding="real",
            ridge=task.ridge,
            ridge_relative=task.ridge_relative,
            method=method,
            tolerance=SOLVE_TOLERANCE,
            factor_precision="auto" if method == "cg" else "float64",
        ),
        store_url=context.blobs.url,
        on_progress=progress_of_parts(running.reporter),
        should_stop=running.should_stop,
        worker_memory_bytes=context.compute.limit_bytes(),
    )
    if solved.outcome is Outcome.CANCELLED:
        return None
    require_usable(solved.outcome, "The likelihood", solved.summary["advice"])
    return solved


def _in_blocks(running: Running, task: LikelihoodTask, targets: Float64) -> Written | None:
    """Exactly, from a float64 factor in blocks in the store, which knows the log-determinant."""
    solved = _solve(running, task, targets, "tiled-cholesky")
    if solved is None:
        return None
    log_determinant = solved.summary["stats"]["details"]["factor"]["log_determinant"]
    summary = {
        **log_marginals(targets, solved.arrays["dual"], log_determinant),
        **_facts(solved),
        "method": "cholesky",
    }
    return Written(summary, {})


def _facts(solved: SolveOutcome) -> dict[str, Any]:
    return {
        "ridge": float(solved.summary["ridge"]),
        "residual": max(solved.summary["stats"]["certified"]),
        "outcome": solved.outcome.value,
        "warnings": solved.summary["warnings"],
    }


def _estimate(
    running: Running, source: StoredTiles, task: LikelihoodTask, targets: Float64
) -> Written | None:
    """A certified solve, then the log-determinant: both in passes over the stored tiles."""
    solved = _solve(running, task, targets, "cg")
    if solved is None:
        return None
    compute, ridge = running.context.compute, float(solved.summary["ridge"])
    cluster = SolveCluster(compute.client(), running.should_stop, compute.limit_bytes())
    operator = cluster.operator(source, task.probes)
    try:
        quadrature = lanczos_quadrature(
            operator,
            probes=task.probes,
            steps=task.lanczos_steps,
            seed=task.seed,
            on_progress=lambda done, total: running.reporter.report(
                {"phase": "log-determinant", "fraction": done / total}
            ),
            should_stop=running.should_stop,
        )
    finally:
        operator.close()
    if quadrature.outcome is Outcome.CANCELLED:
        return None
    require_usable(quadrature.outcome, "The likelihood")
    found = quadrature.log_determinant(ridge)
    if found is None:
        require_usable(Outcome.NOT_POSITIVE_DEFINITE, "The likelihood")
        raise AssertionError("unreachable: that outcome has no usable value")
    summary = {
        **log_marginals(targets, solved.arrays["dual"], found.value, found.standard_error),
        **_facts(solved),
        "method": "lanczos",
        "probes": task.probes,
        "lanczos_steps": task.lanczos_steps,
    }
    return Written(summary, {})


LIKELIHOOD = ResultTask(
    name="log_marginal_likelihood",
    schema=LikelihoodTask,
    examples={
        "log-marginal-likelihood": {
            "summary": "How probable the targets are under the NNGP with 1 % noise",
            "value": {"matrix": EXAMPLE_MATRIX, "array": "nngp", "ridge": 1e-2},
        },
    },
    prepare=prepare,
    matrix_kind="likelihood",
)
