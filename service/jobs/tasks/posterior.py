"""The task type `posterior`: what is known of functions on new inputs, with its uncertainty."""

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
    on_all_workers,
)
from service.jobs.tasks.inputs import (
    check_columns,
    check_dense_rows,
    fits_one_worker,
    most_columns,
    symmetric_gram,
)
from service.jobs.tasks.solve_cost import auto_method, solve_cost
from service.jobs.tasks.training import Cross, Training, WithCross, cross_of, training_of
from service.jobs.tasks.training_cost import (
    COLUMNS_ADVICE,
    SUMMED,
    Passes,
    Ridge,
    flow_passes,
    passes_cost,
)
from service.schemas.common import EXAMPLE_CROSS, EXAMPLE_MATRIX, EXAMPLE_TEST_GRAM, MatrixId
from service.schemas.tasks import ArrayName
from workers.one_worker import Written
from workers.predictions.eigensystem import EIGENSYSTEM_COPIES
from workers.predictions.large_posterior import LargePosterior, run_large_posterior, stored
from workers.predictions.posterior import Wanted
from workers.predictions.posterior_columns import TOLERANCE
from workers.predictions.stored_posterior import Kernels, PosteriorAsked, stored_posterior
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError
from workers.solves.memory import FLOAT64, placement_bytes
from workers.solves.policy import preconditioner_rank
from workers.solves.prepare import cross_tiles, symmetric_tiles
from workers.solves.source import StoredTiles
from workers.solves.targets import Encoding

BATCH_STEP = 16  # test samples by which a batch is made smaller until it fits
MOST_AT_ONCE = 256  # test samples: more columns make a pass dearer, not the passes fewer


class PosteriorTask(WithCross):
    """Mean and uncertainty of functions on new inputs given the targets: the Gaussian-process
    posterior of the infinite network, or the ensemble of networks trained by gradient flow. Beyond
    one worker everything is worked out in passes over the stored tiles, a batch of test samples at
    a time."""

    type: Literal["posterior"]
    model: Literal["nngp", "ensemble"] = Field(
        default="nngp",
        description="nngp: Bayesian posterior with the kernel `prior` and noise variance `ridge`."
        " ensemble: networks started at random (covariance `prior`), trained with the kernel"
        " `trained`.",
    )
    cross: MatrixId = Field(
        description="A sealed cross-Gram (test rows, training columns) with the same arrays."
    )
    test_matrix: MatrixId | None = Field(
        default=None,
        description="The Gram matrix of the test samples; needed for variance and covariance.",
    )
    output: Wanted = Field(
        default="variance",
        description="mean: alone; variance: with one of each test sample; covariance: between all.",
    )
    prior: ArrayName = Field(
        default="nngp", description="Array with the covariance of functions at initialisation."
    )
    trained: ArrayName = Field(
        default="ntk",
        description="Array with the kernel of training (ensemble only); nngp: only the last layer"
        " is trained.",
    )
    time: float | None = Field(
        default=None,
        ge=0,
        le=1e300,
        description="Of gradient flow on half the summed squares (ensemble only); null: trained to"
        " the end. Beyond one worker the passes grow as the square root of time times the largest"
        " eigenvalue, up to 20000.",
    )
    ridge: float = Field(
        default=1e-4,
        ge=0,
        le=1e12,
        description="nngp: variance of the noise. ensemble: weight of half the squared distance of"
        " the parameters from their start.",
    )
    ridge_relative: bool = Field(
        default=True, description="True: the ridge is multiplied by trace/m of the kernel."
    )
    encoding: Encoding = Field(default="auto", description="How labels become numbers.")


def prepare(context: JobContext, task: PosteriorTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    if task.model == "nngp" and task.time is not None:
        raise InvalidSolveError(
            "The Gaussian-process posterior has no training time.",
            advice="Use model 'ensemble', or leave `time` out.",
        )
    training = training_of(context, task, task.encoding, array=task.prior, what=None)
    cross = cross_of(context, task, training, array=task.prior)
    if cross is None:  # the schema requires one
        raise InvalidSolveError("A posterior needs a cross-Gram.", advice="Name it in `cross`.")
    if task.output == "covariance":
        instead = "Ask for the variance, which works at any size, or use a part of the test set"
        check_dense_rows(context, cross.rows, "A covariance of test samples", instead)
    test = _test_gram(context, task, cross)
    trained = None
    if task.model == "ensemble":
        gram = symmetric_tiles(context.blobs, task.matrix, task.trained)
        trained = Kernels(gram, cross_tiles(context.blobs, task.cross, task.trained, gram))
    asked = PosteriorAsked(
        prior=Kernels(training.source, cross.source),
        trained=trained,
        test=test,
        wanted=task.output,
        ridge=task.ridge,
        relative=task.ridge_relative,
        time=task.time,
    )
    n, k = cross.rows, training.columns
    arrays: dict[str, tuple[int, ...]] = {"mean": (n, k)}
    if task.output != "mean":
        arrays[task.output] = (n,) if task.output == "variance" else (n, n)
    determines: dict[str, Any] = {
        **training.determines,
        **cross.determines,
        "model": task.model,
        "test_matrix": None if test is None else task.test_matrix,
        "output": task.output,
        "trained": None if trained is None else task.trained,
        "time": task.time,
        "ridge": task.ridge,
        "ridge_relative": task.ridge_relative,
    }
    cost = _cost(asked, training, cross)
    most = max(training.rows, cross.rows)
    if fits_one_worker(context, most, cost.peak_bytes_per_worker):
        return Work(
            determines=determines,
            arrays=arrays,
            cost=cost.to_json(),
            run=in_one_worker(
                stored_posterior, asked, training.targets, training.classes, cross.targets
            ),
        )
    batch = min(_batch(context, training), cross.rows)
    return Work(
        determines={**determines, "batch": batch},  # other last digits
        arrays=arrays,
        cost=_large_cost(context, asked, training, cross, batch),
        memory_advice=COLUMNS_ADVICE,
        run=lambda running: _run_large(running, asked, training, cross, batch),
    )


def _batch(context: JobContext, training: Training) -> int:
    """Test samples worked on at once: as many as fit this process and a worker that streams.

    Raises TooLargeError if not even a few columns fit this process.
    """
    rows, layout = training.rows, training.source.layout
    check_columns(context, rows, BATCH_STEP, "The least batch of test samples")
    most = most_columns(context, rows)
    batch = min(most - most % BATCH_STEP, MOST_AT_ONCE)
    limit, workers = context.compute.limit_bytes(), context.compute.expected_workers()
    rank = preconditioner_rank(rows)
    while batch > BATCH_STEP:
        if placement_bytes(layout, rhs=batch, rank=rank, workers=workers)["stream"] <= limit:
            break
        batch -= BATCH_STEP
    return batch


def _run_large(
    running: Running, asked: PosteriorAsked, training: Training, cross: Cross, batch: int
) -> Written | None:
    assert running.manifest is not None  # there is always a mean
    request = LargePosterior(
        asked=asked,
        targets=training.targets,
        classes=training.classes,
        test_targets=cross.targets,
        batch=batch,
        name=running.manifest.id,
    )
    return on_all_workers(running, run_large_posterior, request)


def _large_cost(
    context: JobContext, asked: PosteriorAsked, training: Training, cross: Cross, batch: int
) -> dict[str, Any]:
    """Of the mean and, for each batch of test samples, of its columns: solves, or series of passes
    that are as long as the trace of the kernel allows."""
    gram = stored((asked.trained or asked.prior).gram)
    layout, n = gram.layout, cross.rows
    passes = Passes(0, "request")
    if asked.time is not None:
        passes = flow_passes(context.blobs, gram, asked.time, Ridge(asked.ridge, asked.relative))

    def columns(count: int, total: int) -> dict[str, Any]:
        if asked.time is not None:
            return passes_cost(context, layout, columns=count, passes=passes, tolerance=TOLERANCE)
        method = auto_method(context, layout, columns=total)
        found = solve_cost(context, layout, columns=count, tolerance=TOLERANCE, method=method)
        return found.to_json()

    mean = columns(training.columns, training.columns)
    if asked.wanted == "mean":
        return mean
    each, count = columns(batch, n), -(-n // batch)
    whole = {**each, **{name: mean[name] + count * each[name] for name in SUMMED}}
    peaks = [mean["peak_bytes_per_worker"], each["peak_bytes_per_worker"]]
    if asked.trained is not None and asked.wanted == "covariance":
        whole["scratch_bytes"] += FLOAT64 * training.rows * n  # columns that batches share
        whole["flops"] += 1.0 * training.rows * n * n
    return {**whole, "peak_bytes_per_worker": max(peaks)}


def _test_gram(context: JobContext, task: PosteriorTask, cross: Cross) -> StoredTiles | None:
    """K_ss, if the output needs it. Raises as `prepare`."""
    if task.output == "mean":
        return None
    if task.test_matrix is None:
        raise InvalidSolveError(
            f"A {task.output} needs the Gram matrix of the test samples.",
            advice="Name it in `test_matrix`, or ask for the mean.",
        )
    found = symmetric_gram(context, task.test_matrix, task.prior)
    rows = found.layout.shape[0]
    if rows != cross.rows:
        raise InvalidSolveError(
            f"The Gram matrix of the test samples has {rows} rows, the cross-Gram {cross.rows}.",
            advice="Compute both from the same test set.",
        )
    mine = found.manifest.provenance.get("request", {})
    theirs = cross.source.manifest.provenance.get("request", {})
    for key, what in (("kernel", "kernel"), ("x1", "test set")):
        if mine.get(key) != theirs.get(key):
            raise InvalidSolveError(
                f"The Gram matrix of the test samples was computed with another {what}.",
                advice="Use the same kernel and test set as for the cross-Gram.",
            )
    return found


def _cost(asked: PosteriorAsked, training: Training, cross: Cross) -> DenseCost:
    m, n, k = training.rows, cross.rows, training.columns
    sources = [asked.prior.gram, asked.prior.cross]
    squares, wide, flops = EIGENSYSTEM_COPIES, 3, m**3 / 3 + 2.0 * m * m * k
    if asked.trained is not None:
        sources += [asked.trained.gram, asked.trained.cross]
        squares, wide, flops = squares + 1, 5, 9.0 * m**3 + 4.0 * m * m * (n + k)
    if asked.test is not None:
        sources.append(asked.test)
        flops += 1.0 * m * m * n
    whole_test = 4 * n * n if asked.wanted == "covariance" else 0
    if asked.wanted == "covariance":
        flops += 2.0 * m * n * n
    return DenseCost(
        flops=flops,
        bytes_read=sum(source.layout.stored_bytes for source in sources),
        peak_bytes_per_worker=dense_worker_bytes(
            training.source, squares * m * m + wide * n * m + whole_test + 4 * (m + n) * k
        ),
    )


POSTERIOR = ResultTask(
    name="posterior",
    schema=PosteriorTask,
    examples={
        "posterior": {
            "summary": "Gaussian-process posterior: mean and variance on a test set",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "cross": EXAMPLE_CROSS,
                "test_matrix": EXAMPLE_TEST_GRAM,
                "ridge": 1e-3,
            },
        },
        "posterior-ensemble": {
            "summary": "Trained networks at time 10: mean and covariance between test samples",
            "value": {
                "matrix": EXAMPLE_MATRIX,
                "cross": EXAMPLE_CROSS,
                "test_matrix": EXAMPLE_TEST_GRAM,
                "model": "ensemble",
                "time": 10.0,
                "output": "covariance",
            },
        },
    },
    prepare=prepare,
    matrix_kind="posterior",
)
