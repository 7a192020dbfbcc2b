"""Solve jobs: kernel ridge regression over a stored Gram matrix, results stored like any matrix."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import ResultTask, Running, Work, write_arrays
from service.jobs.tasks.inputs import own_targets, required_targets, rows_dataset, targets_of
from service.jobs.tasks.solve_estimate import estimate_solve
from service.schemas.common import EXAMPLE_CROSS, EXAMPLE_MATRIX, DatasetId, MatrixId
from service.schemas.tasks import OnGram
from storage.format import MatrixManifest
from workers.gram import request_digest
from workers.memory import WORKER_BASE_BYTES
from workers.one_worker import Computed, Written
from workers.solves.errors import InvalidSolveError, require_usable
from workers.solves.policy import Room, method_for
from workers.solves.prepare import Prepared, prepare
from workers.solves.request import SolveRequest
from workers.solves.solution import Outcome
from workers.solves.task import run_solve


class SolveTask(OnGram):
    """Kernel ridge regression over a stored symmetric Gram: solve (K + ridge I) A = Y, and
    predict through a stored cross-Gram when one is named."""

    type: Literal["solve"]
    targets: DatasetId | None = Field(
        default=None, description="Data set whose targets are Y; null: the Gram's own x1."
    )
    encoding: Literal["auto", "one_hot", "real"] = Field(
        default="auto",
        description="How targets become right-hand sides. `one_hot` (labels only): 0.9 for the"
        " class, -0.1 elsewhere. `real`: the numbers themselves. `auto`: one_hot for labels.",
    )
    ridge: float = Field(
        default=1e-4, ge=0, le=1e12, description="Added to the diagonal; see ridge_relative."
    )
    ridge_relative: bool = Field(
        default=True, description="True: the ridge is multiplied by trace(K)/m."
    )
    method: Literal["auto", "cg", "nystrom", "falkon", "cholesky", "tiled-cholesky"] = Field(
        default="auto",
        description="`cg`: block conjugate gradients. `cholesky`: dense in one worker up to 12000"
        " rows, above that `tiled-cholesky`: out of core on all workers, refined to float64"
        " residuals. `nystrom` and `falkon`: inducing points as the model, directly and"
        " iteratively. `auto`: cholesky while it fits one worker; tiled-cholesky for more than"
        " m/150 right-hand sides; else cg.",
    )
    preconditioner: Literal["auto", "none", "jacobi", "nystrom", "rpcholesky"] = Field(
        default="auto",
        description="Of cg. `rpcholesky`: damped low rank from columns where the diagonal says"
        " most is missing. `nystrom`: the same from columns of a few tiles. `auto`: rpcholesky"
        " from 500 rows on. None changes the answer.",
    )
    rank: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Columns of the low-rank preconditioner at most; null: m/8 between 500 and"
        " 2000. Never more than m/3 or what fits in memory, and fewer where they are enough.",
    )
    factor_precision: Literal["auto", "float32", "float64"] = Field(
        default="auto",
        description="Of tiled-cholesky. `auto`: float32, and float64 where that breaks down.",
    )
    tolerance: float | None = Field(
        default=None,
        ge=1e-14,
        lt=1,
        description="Certified relative residual to reach; null: 1e-3 with a cross-Gram, 1e-6"
        " without one.",
    )
    max_applications: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Most passes over the matrix (cg, falkon, tiled-cholesky).",
    )
    inducing: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Number of inducing points (nystrom, falkon); null: 20 sqrt(m).",
    )
    placement: Literal["auto", "memory", "stream"] = Field(
        default="auto",
        description="Whether CG keeps the stored triangle in worker memory, or reads it at each"
        " pass.",
    )
    time_limit_seconds: float | None = Field(
        default=None,
        gt=0,
        description="cg, falkon and tiled-cholesky end here with what they have reached; null: no"
        " limit.",
    )
    # 2**53 - 1: the largest integer that every JSON reader keeps exactly.
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**53,
        description="Chooses the inducing points and the columns of a preconditioner.",
    )
    cross: MatrixId | None = Field(
        default=None, description="A sealed cross-Gram (test rows, training columns)."
    )
    test_targets: DatasetId | None = Field(
        default=None,
        description="Data set whose targets the predictions are compared with; null: the"
        " cross-Gram's own x1, if it has targets.",
    )


def prepare_solve(context: JobContext, task: SolveTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    prepared, determines = _prepare(context, task)
    rhs = prepared.rhs.shape[1]
    arrays = {"dual": (prepared.rows, rhs)}
    if prepared.cross is not None:
        arrays["predictions"] = (prepared.cross.layout.shape[0], rhs)
    return Work(
        determines=determines,
        cost=_cost(context, prepared),
        run=lambda running: _run(running, prepared),
        arrays=arrays,
        memory_advice="Use method 'cg' with placement 'auto', fewer inducing points or targets, or"
        " give the workers more memory.",
    )


def _run(running: Running, prepared: Prepared) -> Written | None:
    context = running.context
    outcome = run_solve(
        context.compute.client(),
        prepared.request,
        store_url=context.blobs.url,
        on_progress=lambda news: running.reporter.report(_progress(news, prepared)),
        should_stop=running.should_stop,
        worker_memory_bytes=context.compute.limit_bytes(),
    )
    if outcome.outcome is Outcome.CANCELLED:
        return None
    require_usable(outcome.outcome, "The solve", outcome.summary["advice"])
    return write_arrays(running, Computed(outcome.summary, outcome.arrays))


def _cost(context: JobContext, prepared: Prepared) -> dict[str, Any]:
    request, rhs = prepared.request, prepared.rhs.shape[1]
    limit_bytes = context.compute.limit_bytes()
    method = method_for(
        prepared.layout,
        request.method,
        rhs=rhs,
        precision=request.factor_precision,
        base_bytes=WORKER_BASE_BYTES,
        room=Room(limit_bytes, context.blobs.free_bytes()),
    )
    return estimate_solve(
        prepared.layout,
        method=method,
        placement=request.placement,
        rhs=rhs,
        inducing=prepared.inducing_points,
        rank=request.rank,
        precision=request.factor_precision,
        tolerance=request.effective_tolerance,
        workers=context.compute.expected_workers(),
        base_bytes=WORKER_BASE_BYTES,
        limit_bytes=limit_bytes,
    ).to_json()


def _prepare(context: JobContext, task: SolveTask) -> tuple[Prepared, dict[str, Any]]:
    """The checked request, and what determines its result: defaults filled in, data sets by id."""
    gram = MatrixManifest.from_json(context.catalog.get_matrix(task.matrix).manifest)
    targets_id = task.targets or rows_dataset(gram)
    targets = required_targets(context, targets_id)
    test_id, test_targets = None, None
    if task.cross is not None:
        cross = MatrixManifest.from_json(context.catalog.get_matrix(task.cross).manifest)
        test_id = task.test_targets or own_targets(cross)
        read = targets_of if task.test_targets is None else required_targets
        test_targets = None if test_id is None else read(context, test_id)
    elif task.test_targets is not None:
        raise InvalidSolveError(
            "There are test targets but no cross-Gram to predict with.",
            advice="Name a cross-Gram in `cross`, or leave test_targets out.",
        )
    _check_fields(task)
    # The solve of one system goes on from its checkpoint, also for a request that asks for more
    # digits or more passes; the checkpoint itself knows which system it belongs to.
    system = {
        "matrix": task.matrix,
        "array": task.array,
        "targets": targets_id,
        "encoding": task.encoding,
        "ridge": task.ridge,
        "ridge_relative": task.ridge_relative,
    }
    request = SolveRequest(
        matrix_id=task.matrix,
        array=task.array,
        targets=targets,
        encoding=task.encoding,
        ridge=task.ridge,
        ridge_relative=task.ridge_relative,
        method=task.method,
        tolerance=task.tolerance,
        inducing_points=task.inducing,
        seed=task.seed,
        cross_matrix_id=task.cross,
        test_targets=test_targets,
        max_applications=task.max_applications,
        time_limit_seconds=task.time_limit_seconds,
        checkpoint_id=request_digest(system),
        placement=task.placement,
        preconditioner=task.preconditioner,
        rank=task.rank,
        factor_precision=task.factor_precision,
    )
    determines = {
        **system,
        "method": task.method,
        "tolerance": request.effective_tolerance,
        "inducing": task.inducing,
        "seed": task.seed,
        "cross": task.cross,
        "test_targets": test_id,
        "preconditioner": task.preconditioner,
        "rank": task.rank,
        "factor_precision": task.factor_precision,
        "max_applications": task.max_applications,
        "time_limit_seconds": task.time_limit_seconds,
    }
    return prepare(context.blobs, request), determines


_OF_METHODS = {
    "inducing": ("nystrom", "falkon"),
    "preconditioner": ("cg", "auto"),
    "rank": ("cg", "auto"),
    "factor_precision": ("cholesky", "tiled-cholesky", "auto"),
}


def _check_fields(task: SolveTask) -> None:
    """Raises InvalidSolveError for fields that the named method would ignore."""
    for name, methods in _OF_METHODS.items():
        if getattr(task, name) not in (None, "auto") and task.method not in methods:
            raise InvalidSolveError(
                f"Method {task.method!r} has no {name.replace('_', ' ')}.",
                advice=f"Use method {methods[0]!r}, or leave {name!r} out.",
            )
    if task.rank is not None and task.preconditioner in ("none", "jacobi"):
        raise InvalidSolveError(
            f"Preconditioner {task.preconditioner!r} has no rank.",
            advice="Use 'rpcholesky' or 'nystrom', or leave 'rank' out.",
        )


def _progress(news: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """What watchers see of a solve; `fraction` follows the digits of the residual during CG."""
    done, total = news.get("done"), news.get("total")
    residual = news.get("residual")
    fraction = None
    if news["phase"] == "solve" and residual is not None and residual > 0:
        digits = -math.log10(prepared.request.effective_tolerance)
        fraction = min(max(-math.log10(residual) / digits, 0.0), 1.0)
    elif total:
        fraction = done / total if done is not None else None
    shown = {"phase": news["phase"], "fraction": fraction}
    if residual is not None:
        shown |= {
            "applications": done,
            "iteration": news.get("iteration"),
            "residual": residual,
            "certified": news.get("certified"),
            "tolerance": prepared.request.effective_tolerance,
            "history": news.get("history"),
        }
    elif total:
        shown |= {"tasks_done": done, "tasks_total": total}
    return shown


SOLVE = ResultTask(
    name="solve",
    schema=SolveTask,
    examples={
        "solve-cg": {
            "summary": "Kernel ridge regression by conjugate gradients, with predictions",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "array": "ntk",
                "method": "cg",
                "ridge": 1e-4,
                "tolerance": 1e-3,
                "cross": EXAMPLE_CROSS,
            },
        },
        "solve-nystrom": {
            "summary": "The same with 500 inducing points",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "method": "nystrom",
                "inducing": 500,
                "cross": EXAMPLE_CROSS,
            },
        },
        "solve-tiled-cholesky": {
            "summary": "A factorisation of any size, refined to a certified 1e-10",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "method": "tiled-cholesky",
                "tolerance": 1e-10,
            },
        },
    },
    prepare=prepare_solve,
)
