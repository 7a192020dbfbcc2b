"""The task types `ridge` and `classify`: regression for many ridges at once, and the best of them.

`solve` is for one ridge and any size; these hold the matrix in one worker, decompose it once, and
know the exact held-out error of every ridge.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import DenseCost, ResultTask, Work, in_one_worker
from service.jobs.tasks.training import Cross, Training, WithCross, cross_of, training_of
from service.schemas.common import EXAMPLE_CROSS, EXAMPLE_MATRIX
from service.schemas.tasks import ArrayName
from workers.predictions.eigensystem import EIGENSYSTEM_COPIES
from workers.predictions.ridge import Criterion
from workers.predictions.stored_ridge import NewInputs, RidgeAsked, stored_ridge
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError
from workers.solves.targets import Encoding

RidgeValue = Annotated[float, Field(ge=0, le=1e12)]


class Selecting(WithCross):
    """Ridges to try, and how the best is found."""

    array: ArrayName = Field(default="ntk", description="Which array of the matrices to use.")
    ridges: list[RidgeValue] = Field(
        default=[1e-4],
        min_length=1,
        max_length=200,
        description="Ridges to try, all from one eigendecomposition; see ridge_relative.",
    )
    ridge_relative: bool = Field(
        default=True, description="True: ridges are multiplied by trace(K)/m."
    )
    selection: Literal["leave_one_out", "k_fold"] = Field(
        default="leave_one_out",
        description="Which samples are held out together; both errors are exact, in closed form.",
    )
    folds: int = Field(default=5, ge=2, le=100_000, description="Of k_fold; at most m.")
    seed: int = Field(default=0, ge=0, lt=2**53, description="Draws the folds.")


class RidgeTask(Selecting):
    """Kernel ridge regression (K + ridge I) A = Y for a list of ridges; the one with the smallest
    held-out mean squared error is kept. One ridge and any size: `solve`."""

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
    training = training_of(
        context, task, encoding, array=task.array, what="A choice between ridges"
    )
    cross = cross_of(context, task, training, array=task.array)
    folds = task.folds if task.selection == "k_fold" else None
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
    test = None if cross is None else NewInputs(cross.source, cross.targets)
    return Work(
        determines=determines,
        arrays=_arrays(training, cross),
        cost=_cost(training, cross, len(asked.ridges), folds).to_json(),
        run=in_one_worker(
            stored_ridge, training.source, training.targets, training.classes, asked, test
        ),
    )


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
