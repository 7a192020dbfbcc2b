"""The task types `ridge` and `classify`: regression for many ridges, and the best of them.

While it fits one worker, and `max_dense_rows`, the matrix is decomposed once, which gives the exact
held-out error of every ridge. Beyond, on all workers, folds are held out by solving without them,
and single samples by a factorisation for each ridge.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import (
    DenseCost,
    ResultTask,
    Running,
    Work,
    in_one_worker,
    on_all_workers,
)
from service.jobs.tasks.inputs import check_columns, fits_one_worker
from service.jobs.tasks.solve_cost import left_out_cost, solve_cost
from service.jobs.tasks.training import Cross, Training, WithCross, cross_of, training_of
from service.jobs.tasks.training_cost import COLUMNS_ADVICE
from service.schemas.common import EXAMPLE_CROSS, EXAMPLE_MATRIX
from service.schemas.tasks import ArrayName
from workers.memory import WORKER_BASE_BYTES
from workers.one_worker import Written
from workers.predictions.eigensystem import EIGENSYSTEM_COPIES
from workers.predictions.folded_ridge import HELD_OUT_TOLERANCE
from workers.predictions.large_ridge import DUAL_TOLERANCE, run_large_ridge
from workers.predictions.ridge import Criterion
from workers.predictions.ridge_trial import LargeRidge
from workers.predictions.stored_ridge import NewInputs, RidgeAsked, stored_ridge
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError
from workers.solves.policy import check_left_out
from workers.solves.targets import Encoding

FOLDS_ADVICE = "Ask for fewer folds, or give the workers more memory."

RidgeValue = Annotated[float, Field(ge=0, le=1e12)]


class Selecting(WithCross):
    """Ridges to try, and how the best is found."""

    array: ArrayName = Field(default="ntk", description="Which array of the matrices to use.")
    ridges: list[RidgeValue] = Field(
        default=[1e-4],
        min_length=1,
        max_length=200,
        description="Ridges to try; see ridge_relative.",
    )
    ridge_relative: bool = Field(
        default=True, description="True: ridges are multiplied by trace(K)/m."
    )
    selection: Literal["leave_one_out", "k_fold"] = Field(
        default="leave_one_out",
        description="Which samples are held out together. Both work at any size. Up to the"
        " service's max_dense_rows, while the matrix fits one worker, all ridges share one"
        " decomposition and both errors are exact. Beyond: leave_one_out factors the matrix for"
        " each ridge, which is exact too and dear; k_fold solves to a relative residual of 1e-4.",
    )
    folds: int = Field(default=5, ge=2, le=100_000, description="Of k_fold; at most m.")
    seed: int = Field(default=0, ge=0, lt=2**53, description="Draws the folds.")


class RidgeTask(Selecting):
    """Kernel ridge regression (K + ridge I) A = Y for a list of ridges; the one with the smallest
    held-out mean squared error is kept. For one ridge: `solve`."""

    type: Literal["ridge"]
    encoding: Encoding = Field(default="auto", description="How labels become numbers.")


class ClassifyTask(Selecting):
    """Classification by ridge regression on encoded labels: predicted classes, accuracy and
    confusion matrix on held-out samples and, through a cross-Gram, on a test set."""

    type: Literal["classify"]
    encoding: Literal["one_hot", "centred_one_hot"] = Field(
        default="centred_one_hot",
        description="centred_one_hot: 1 - 1/k for the class, -1/k elsewhere (0.9 and -0.1 for ten"
        " classes). one_hot: 0.9 and -0.1 for any number of classes.",
    )
    criterion: Criterion = Field(
        default="error_rate", description="What the kept ridge has the least of, held out."
    )


def prepare_ridge(context: JobContext, task: RidgeTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    return _prepare(context, task, task.encoding, "mean_squared_error")


def prepare_classify(context: JobContext, task: ClassifyTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    return _prepare(context, task, task.encoding, task.criterion)


def _prepare(
    context: JobContext, task: Selecting, encoding: Encoding, criterion: Criterion
) -> Work:
    by_folds = task.selection == "k_fold"
    training = training_of(context, task, encoding, array=task.array, what=None)
    cross = cross_of(context, task, training, array=task.array)
    folds = task.folds if by_folds else None
    if folds is not None and folds > training.rows:
        raise InvalidSolveError(
            f"{folds} folds of {training.rows} samples do not exist.",
            advice=f"Ask for at most {training.rows}, or for leave_one_out.",
        )
    asked = RidgeAsked(
        tuple(sorted(set(task.ridges))),
        task.ridge_relative,
        folds,
        task.seed if folds else 0,
        criterion,
    )
    determines: dict[str, Any] = {
        **training.determines,
        **({} if cross is None else cross.determines),
        "ridges": list(asked.ridges),
        "ridge_relative": asked.relative,
        "folds": folds,
        "seed": asked.seed,
        "criterion": criterion,
    }
    arrays = _arrays(training, cross)
    dense_cost = _cost(training, cross, len(asked.ridges), folds)
    if fits_one_worker(context, training.rows, dense_cost.peak_bytes_per_worker):
        test = None if cross is None else NewInputs(cross.source, cross.targets)
        return Work(
            determines=determines,
            arrays=arrays,
            cost=dense_cost.to_json(),
            run=in_one_worker(
                stored_ridge, training.source, training.targets, training.classes, asked, test
            ),
        )
    _check_room(context, training, folds)
    return Work(
        # Other last digits.
        determines={**determines, "held_out_by": "factoring" if folds is None else "solving"},
        arrays=arrays,
        cost=_large_cost(context, training, asked),
        memory_advice=COLUMNS_ADVICE if folds is None else FOLDS_ADVICE,
        run=lambda running: _run_large(running, training, asked, cross),
    )


def _check_room(context: JobContext, training: Training, folds: int | None) -> None:
    """Raises TooLargeError."""
    if folds is not None:
        what = f"{folds} folds of {training.columns} targets"
        check_columns(context, training.rows, folds * training.columns, what, "Ask for fewer folds")
        return
    check_columns(context, training.rows, training.columns, f"{training.columns} targets")
    check_left_out(
        training.source.layout,
        rhs=training.columns,
        base_bytes=WORKER_BASE_BYTES,
        worker_memory_bytes=context.compute.limit_bytes(),
        instead="ask for selection 'k_fold', which makes no factor",
    )


def _run_large(
    running: Running, training: Training, asked: RidgeAsked, cross: Cross | None
) -> Written | None:
    assert running.manifest is not None  # there is always a dual

    def told(news: dict[str, Any]) -> None:
        ridges = news.get("ridges_total")
        fraction = news["ridges_done"] / ridges if ridges else None
        running.reporter.report({**news, "fraction": fraction})

    request = LargeRidge(
        source=training.source,
        targets=training.targets,
        classes=training.classes,
        asked=asked,
        cross=None if cross is None else cross.source,
        test_targets=None if cross is None else cross.targets,
        name=running.manifest.id,
    )
    return on_all_workers(running, run_large_ridge, request, told)


def _large_cost(context: JobContext, training: Training, asked: RidgeAsked) -> dict[str, Any]:
    """Of a factor and its inverse for each ridge; with folds, of one solve with the columns of all
    folds for each ridge, and one for the chosen ridge."""
    layout, columns, count = training.source.layout, training.columns, len(asked.ridges)
    if asked.folds is None:
        return left_out_cost(context, layout, columns=columns, ridges=count)
    solve = partial(solve_cost, context, layout, method="cg")
    folds = solve(columns=asked.folds * columns, tolerance=HELD_OUT_TOLERANCE)
    last = solve(columns=columns, tolerance=DUAL_TOLERANCE)
    return {
        **folds.to_json(),
        "applications": count * folds.applications + last.applications,
        "flops": count * folds.flops + last.flops,
        "bytes_read": count * folds.bytes_read + last.bytes_read,
        "seconds": count * folds.seconds + last.seconds,
    }


def _arrays(training: Training, cross: Cross | None) -> dict[str, tuple[int, ...]]:
    m, k = training.rows, training.columns
    arrays: dict[str, tuple[int, ...]] = {"dual": (m, k), "held_out": (m, k)}
    if training.classes is not None:
        arrays["held_out_labels"] = (m,)
    if cross is not None:
        arrays["predictions"] = (cross.rows, k)
        if training.classes is not None:
            arrays["labels"] = (cross.rows,)
    return arrays


def _cost(training: Training, cross: Cross | None, ridges: int, folds: int | None) -> DenseCost:
    m, k = training.rows, training.columns
    per_ridge = (4 * k + 2) * m**2 + (0 if folds is None else 2 * m**3 / folds)
    flops = 9.0 * m**3 + ridges * per_ridge
    bytes_read, tall = training.source.layout.stored_bytes, 8 * m * k
    if cross is not None:
        flops += 2.0 * cross.rows * m * k
        bytes_read += cross.source.layout.stored_bytes
        tall += 3 * cross.rows * k
    return DenseCost(
        flops=flops,
        bytes_read=bytes_read,
        peak_bytes_per_worker=dense_worker_bytes(
            training.source, EIGENSYSTEM_COPIES * m * m + tall
        ),
    )


RIDGE = ResultTask(
    name="ridge",
    schema=RidgeTask,
    examples={
        "ridge": {
            "summary": "The best of four ridges by leave-one-out, with predictions",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "ridges": [1e-6, 1e-4, 1e-2, 1.0],
                "cross": EXAMPLE_CROSS,
            },
        },
        "ridge-k-fold": {
            "summary": "The same by cross-validation in ten folds",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "ridges": [1e-6, 1e-4, 1e-2, 1.0],
                "selection": "k_fold",
                "folds": 10,
            },
        },
    },
    prepare=prepare_ridge,
)

CLASSIFY = ResultTask(
    name="classify",
    schema=ClassifyTask,
    examples={
        "classify": {
            "summary": "Classes of a test set, accuracy and confusion matrix",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "ridges": [1e-6, 1e-4, 1e-2],
                "cross": EXAMPLE_CROSS,
            },
        },
    },
    prepare=prepare_classify,
)
