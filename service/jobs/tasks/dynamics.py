"""The task type `dynamics`: outputs during training with a constant kernel, on both sets."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
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
from service.jobs.tasks.inputs import check_columns, fits_one_worker, required_targets
from service.jobs.tasks.solve_cost import auto_method, solve_cost
from service.jobs.tasks.training import Cross, Training, WithCross, cross_of, training_of
from service.jobs.tasks.training_cost import (
    COLUMNS_ADVICE,
    LANCZOS_PASSES,
    SUMMED,
    Passes,
    passes_cost,
    training_passes,
)
from service.schemas.common import EXAMPLE_CROSS, EXAMPLE_MATRIX, DatasetId
from service.schemas.tasks import ArrayName
from workers.one_worker import Written
from workers.predictions.eigensystem import EIGENSYSTEM_COPIES
from workers.predictions.large_dynamics import (
    DUAL_TOLERANCE,
    LargeDynamics,
    run_large_dynamics,
)
from workers.predictions.losses import Loss
from workers.predictions.stored_dynamics import DynamicsAsked, Outputs, stored_dynamics
from workers.predictions.stored_ridge import NewInputs
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError
from workers.solves.solution import Float64
from workers.solves.targets import Encoding, real_targets

MAX_MOMENTS = 1000
MAX_STEPS_TAKEN = 100_000  # of descent on losses without a closed form: one product each
TYPICAL_EVALUATIONS = (
    1000  # of an integration in one worker, for the estimate: the true number needs λ₁
)

Time = Annotated[float, Field(ge=0, le=1e300)]
Steps = Annotated[int, Field(ge=0, lt=2**53)]


class DynamicsTask(WithCross):
    """Outputs during training of an infinitely wide network: gradient flow at given times or
    gradient descent after given numbers of steps, on a loss summed over the samples."""

    type: Literal["dynamics"]
    array: ArrayName = Field(default="ntk", description="Which array of the matrices to use.")
    loss: Loss = Field(
        default="squared",
        description="squared: half the summed squares, exact. cross_entropy: softmax, and"
        " binary_cross_entropy: sigmoid (two classes, or targets from 0 to 1), integrated.",
    )
    times: list[Time | None] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_MOMENTS,
        description="Of gradient flow, ascending; null as the last: trained to the end (squared).",
    )
    steps: list[Steps] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_MOMENTS,
        description="Of gradient descent, ascending; instead of times.",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1e300, description="Of descent; null: half of what is stable."
    )
    ridge: float = Field(
        default=0.0,
        ge=0,
        le=1e12,
        description="Weight of half the squared distance of the parameters from their start.",
    )
    ridge_relative: bool = Field(
        default=True, description="True: the ridge is multiplied by trace(K)/m."
    )
    encoding: Literal["auto", "one_hot", "centred_one_hot", "real"] = Field(
        default="auto", description="How labels become numbers (squared loss only)."
    )
    initial: DatasetId | None = Field(
        default=None,
        description="Data set whose targets are the outputs on the training set at time 0; null:"
        " zero.",
    )
    test_initial: DatasetId | None = Field(
        default=None, description="The same for the rows of the cross-Gram."
    )


def prepare(context: JobContext, task: DynamicsTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    check_moments(task)
    encoding: Encoding = task.encoding
    if task.loss == "cross_entropy":
        encoding = "centred_one_hot"
    training = training_of(context, task, encoding, array=task.array, what=None)
    training = as_likelihood(training, task.loss)
    cross = cross_of(context, task, training, array=task.array)
    if cross is None and task.test_initial is not None:
        raise InvalidSolveError(
            "There are initial outputs of a test set but no cross-Gram.",
            advice="Name a cross-Gram in `cross`, or leave test_initial out.",
        )
    start = Outputs(
        _initial(context, task.initial, training.rows, training.columns),
        None
        if cross is None
        else _initial(context, task.test_initial, cross.rows, training.columns),
    )
    asked = DynamicsAsked(
        loss=task.loss,
        times=tuple(task.times or ()),
        steps=None if task.steps is None else tuple(task.steps),
        rate=task.learning_rate,
        ridge=task.ridge,
        relative=task.ridge_relative,
    )
    moments, k = len(task.times or task.steps or ()), training.columns
    arrays: dict[str, tuple[int, ...]] = {"train": (training.rows, moments, k)}
    if cross is not None:
        arrays["test"] = (cross.rows, moments, k)
    determines: dict[str, Any] = {
        **training.determines,
        **({} if cross is None else cross.determines),
        "loss": task.loss,
        "times": task.times,
        "steps": task.steps,
        "learning_rate": task.learning_rate,
        "ridge": task.ridge,
        "ridge_relative": task.ridge_relative,
        "initial": task.initial,
        "test_initial": task.test_initial,
    }
    cost = _cost(asked, training, cross, moments)
    if fits_one_worker(context, training.rows, cost.peak_bytes_per_worker):
        test = None if cross is None else NewInputs(cross.source, cross.targets)
        return Work(
            determines=determines,
            arrays=arrays,
            cost=cost.to_json(),
            run=in_one_worker(
                stored_dynamics,
                training.source,
                training.targets,
                training.classes,
                asked,
                start,
                test,
            ),
        )
    what = f"{moments} moments of {k} outputs"
    check_columns(context, training.rows, 2 * moments * k, what, "Ask for fewer moments at a time")
    return Work(
        determines={**determines, "by": "products"},  # other last digits
        arrays=arrays,
        cost=_large_cost(context, asked, training, moments),
        memory_advice=COLUMNS_ADVICE,
        run=lambda running: _run_large(running, asked, training, start, cross),
    )


def _run_large(
    running: Running, asked: DynamicsAsked, training: Training, start: Outputs, cross: Cross | None
) -> Written | None:
    assert running.manifest is not None  # there are always outputs
    request = LargeDynamics(
        source=training.source,
        targets=training.targets,
        classes=training.classes,
        asked=asked,
        start=start,
        cross=None if cross is None else cross.source,
        test_targets=None if cross is None else cross.targets,
        name=running.manifest.id,
    )
    return on_all_workers(running, run_large_dynamics, request)


def _large_cost(
    context: JobContext, asked: DynamicsAsked, training: Training, moments: int
) -> dict[str, Any]:
    """Of the passes that are followed, those that find the largest eigenvalue, one for the outputs
    at each moment, and the solve for the end."""
    layout, k = training.source.layout, training.columns
    followed, basis = training_passes(context.blobs, training.source, asked)
    passes = Passes(LANCZOS_PASSES + followed + moments, basis)
    cost = passes_cost(context, layout, columns=k, passes=passes, tolerance=DUAL_TOLERANCE)
    if None not in asked.times:
        return cost
    end = solve_cost(
        context,
        layout,
        columns=k,
        tolerance=DUAL_TOLERANCE,
        method=auto_method(context, layout, columns=k),
    ).to_json()
    summed = {name: cost[name] + end[name] for name in SUMMED}
    peak = max(cost["peak_bytes_per_worker"], end["peak_bytes_per_worker"])
    return {
        **cost,
        **summed,
        "peak_bytes_per_worker": peak,
        "scratch_bytes": end["scratch_bytes"],
    }


def check_moments(task: DynamicsTask) -> None:
    """Raises InvalidSolveError for times and steps that make no sense together."""
    if (task.times is None) == (task.steps is None):
        raise InvalidSolveError(
            "Training is followed at times or at numbers of steps.",
            advice="Give `times` for gradient flow or `steps` for gradient descent.",
        )
    if task.times is not None and task.learning_rate is not None:
        raise InvalidSolveError(
            "Gradient flow has no learning rate.", advice="Give `steps` instead of `times`."
        )
    moments = [np.inf if moment is None else moment for moment in task.times or task.steps or ()]
    if any(later <= earlier for earlier, later in pairwise(moments)):
        raise InvalidSolveError(
            "The times or steps do not ascend.", advice="Sort them, and name each once."
        )
    if task.loss != "squared" and moments[-1] == np.inf:
        raise InvalidSolveError(
            f"Training on {task.loss} has no end: the outputs grow for ever.",
            advice="Ask for a finite time.",
        )
    if task.loss != "squared" and task.steps is not None and moments[-1] > MAX_STEPS_TAKEN:
        raise InvalidSolveError(
            f"{moments[-1]} steps on {task.loss} are taken one by one; the limit is"
            f" {MAX_STEPS_TAKEN}.",
            advice="Ask for fewer steps, or for gradient flow.",
        )


def as_likelihood(training: Training, loss: Loss) -> Training:
    """Targets as the probabilities that a loss compares with. Raises InvalidSolveError."""
    if training.classes is not None and training.classes.size < 2:
        raise InvalidSolveError(
            "All labels are equal: there is nothing to learn.", advice="Name other targets."
        )
    if loss == "squared":
        return training
    if loss == "cross_entropy":
        return replace(training, targets=(training.targets > 0).astype(np.float64))
    if training.classes is not None:
        if training.classes.size != 2:
            raise InvalidSolveError(
                f"There are {training.classes.size} classes; binary_cross_entropy is for two.",
                advice="Use cross_entropy.",
            )
        return replace(training, targets=(training.targets[:, 1:] > 0).astype(np.float64))
    if training.targets.min() < 0 or training.targets.max() > 1:
        raise InvalidSolveError(
            "The targets of binary_cross_entropy are probabilities from 0 to 1.",
            advice="Upload such numbers, or integer labels of two classes.",
        )
    return training


def _initial(
    context: JobContext, dataset_id: str | None, rows: int, columns: int
) -> Float64 | None:
    if dataset_id is None:
        return None
    values = real_targets(required_targets(context, dataset_id))
    if values.shape != (rows, columns):
        raise InvalidSolveError(
            f"The initial outputs have shape {values.shape}, not ({rows}, {columns}).",
            advice="Upload one row of outputs per sample, one column per output, as targets.",
        )
    return values


def _cost(asked: DynamicsAsked, training: Training, cross: Cross | None, moments: int) -> DenseCost:
    m, k = training.rows, training.columns
    product = 2.0 * m * m * k
    tall = 8 * m * k * (moments + 1)
    bytes_read = training.source.layout.stored_bytes
    if asked.loss == "squared":
        flops = 9.0 * m**3 + 2 * moments * product
    else:
        taken = TYPICAL_EVALUATIONS if asked.steps is None else asked.steps[-1]
        flops = (taken + moments) * product
        tall += 16 * m * k  # stages of the integrator
    if cross is not None:
        flops += 2.0 * cross.rows * m * k * moments
        bytes_read += cross.source.layout.stored_bytes
        tall += 3 * cross.rows * k * moments
    return DenseCost(
        flops=flops,
        bytes_read=bytes_read,
        peak_bytes_per_worker=dense_worker_bytes(
            training.source, EIGENSYSTEM_COPIES * m * m + tall
        ),
    )


DYNAMICS = ResultTask(
    name="dynamics",
    schema=DynamicsTask,
    examples={
        "dynamics": {
            "summary": "Outputs at four times of gradient flow, to the end",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "times": [0.1, 1.0, 10.0, None],
                "ridge": 1e-4,
                "cross": EXAMPLE_CROSS,
            },
        },
        "dynamics-cross-entropy": {
            "summary": "Gradient descent on the cross-entropy",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "loss": "cross_entropy",
                "steps": [10, 100],
                "cross": EXAMPLE_CROSS,
            },
        },
    },
    prepare=prepare,
    matrix_kind="dynamics",
)
