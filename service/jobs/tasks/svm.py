"""The task type `svm`: support vector machines on a stored Gram matrix (scikit-learn)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import DenseCost, ResultTask, Work, in_one_worker
from service.jobs.tasks.inputs import (
    check_dense_rows,
    own_targets,
    required_targets,
    rows_dataset,
    symmetric_gram,
    targets_of,
)
from service.schemas.common import EXAMPLE_CROSS, EXAMPLE_MATRIX, DatasetId, MatrixId
from service.schemas.tasks import OnGram
from storage.errors import MissingExtraError
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError
from workers.solves.prepare import checked_test_targets, cross_tiles
from workers.solves.source import StoredTiles
from workers.solves.svm import (
    CACHE_MEGABYTES,
    MAX_SVM_CLASSES,
    SvmSettings,
    pairs_of,
    stored_svm,
)
from workers.solves.targets import encode_targets, is_labels, real_targets

# The Gram in float64, and the part of it that belongs to one pair of classes.
_SQUARES = 2
# Passes over the matrix that LIBSVM makes, from typical runs: an order of magnitude.
_PASSES = 50


class SvmTask(OnGram):
    """Support vector classification (one machine per pair of classes, votes) or regression (one
    per column) on a stored Gram matrix, by LIBSVM in one worker; needs the extra `svm`."""

    type: Literal["svm"]
    targets: DatasetId | None = Field(
        default=None, description="Data set whose targets to learn; null: the Gram's own x1."
    )
    kind: Literal["auto", "classification", "regression"] = Field(
        default="auto", description="`auto`: classification for integer labels, else regression."
    )
    cost: float = Field(default=1.0, gt=0, le=1e12, description="C, the weight of violations.")
    epsilon: float = Field(
        default=0.1,
        ge=0,
        le=1e12,
        description="Errors up to this cost nothing (regression only).",
    )
    tolerance: float = Field(
        default=1e-3, ge=1e-10, lt=1, description="Of the optimality conditions."
    )
    max_iterations: int = Field(
        default=10_000_000, ge=1, le=1_000_000_000, description="Of each machine."
    )
    cross: MatrixId | None = Field(
        default=None, description="A sealed cross-Gram (test rows, training columns)."
    )
    test_targets: DatasetId | None = Field(
        default=None,
        description="Data set whose targets the predictions are compared with; null: the"
        " cross-Gram's own x1, if it has targets.",
    )


def prepare(context: JobContext, task: SvmTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError,
    MissingExtraError."""
    source = symmetric_gram(context, task.matrix, task.array)
    rows = source.layout.shape[0]
    instead = "Use the task ridge or classify, which work at any size, or a part of the matrix"
    check_dense_rows(context, rows, "A support vector machine", instead)
    named = task.targets or rows_dataset(source.manifest)
    targets, classes = _targets(required_targets(context, named), rows, task.kind)
    columns = targets.shape[1] if classes is None else len(pairs_of(classes))
    cross, test_id, test_targets = _cross(
        context, task, source, labels=classes is not None, columns=columns
    )
    if find_spec("sklearn") is None:
        raise MissingExtraError(
            "Support vector machines need scikit-learn, which is not installed here.",
            advice="Install gramian[svm] on the service and the workers.",
        )
    arrays: dict[str, tuple[int, ...]] = {"dual": (rows, columns)}
    if cross is not None:
        new = cross.layout.shape[0]
        if classes is None:
            arrays["predictions"] = (new, columns)
        else:
            arrays |= {"decisions": (new, columns), "labels": (new,)}
    numbers = _SQUARES * rows * rows + (CACHE_MEGABYTES << 20) // 8 + 6 * rows * columns
    return Work(
        determines={
            **task.model_dump(mode="json", exclude={"type"}),
            "kind": "regression" if classes is None else "classification",
            "targets": named,
            "test_targets": test_id,
        },
        arrays=arrays,
        cost=DenseCost(
            flops=2.0 * _PASSES * rows * rows * (1 if classes is not None else columns),
            bytes_read=source.layout.stored_bytes
            + (0 if cross is None else cross.layout.stored_bytes),
            peak_bytes_per_worker=dense_worker_bytes(source, numbers),
        ).to_json(),
        run=in_one_worker(
            stored_svm,
            source,
            targets,
            classes,
            SvmSettings(task.cost, task.epsilon, task.tolerance, task.max_iterations),
            cross,
            test_targets,
        ),
    )


def _targets(
    values: NDArray[Any], rows: int, kind: str
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Labels (m,) with their classes, or real targets (m, k). Raises InvalidSolveError."""
    labels = is_labels(values) and kind != "regression"
    if kind == "classification" and not labels:
        raise InvalidSolveError(
            "The targets are not integer labels.",
            advice="Use kind 'regression', or upload labels as integers of shape (m,).",
        )
    # The checks of every solve: number of rows, finite numbers, not too many columns.
    columns, classes = encode_targets(values, rows, "one_hot" if labels else "real")
    if classes is None:
        return columns, None
    if not 2 <= len(classes) <= MAX_SVM_CLASSES:
        raise InvalidSolveError(
            f"The labels have {len(classes)} distinct values; 2 to {MAX_SVM_CLASSES} are needed.",
            advice="Use a ridge solve for more classes.",
            classes=len(classes),
        )
    return np.asarray(values), classes


def _cross(
    context: JobContext, task: SvmTask, source: StoredTiles, *, labels: bool, columns: int
) -> tuple[StoredTiles | None, str | None, NDArray[Any] | None]:
    """The cross-Gram with the id and the values of the targets to compare with, if any."""
    if task.cross is None:
        if task.test_targets is not None:
            raise InvalidSolveError(
                "There are test targets but no cross-Gram to predict with.",
                advice="Name a cross-Gram in `cross`, or leave test_targets out.",
            )
        return None, None, None
    context.catalog.get_matrix(task.cross)
    cross = cross_tiles(context.blobs, task.cross, task.array, source)
    test_id = task.test_targets or own_targets(cross.manifest)
    read = targets_of if task.test_targets is None else required_targets
    values = None if test_id is None else read(context, test_id)
    if values is None:
        return cross, None, None
    if not labels and is_labels(values):
        values = real_targets(values)
    checked = checked_test_targets(values, cross.layout.shape[0], labels=labels, columns=columns)
    return cross, test_id, checked


SVM = ResultTask(
    name="svm",
    schema=SvmTask,
    examples={
        "svm": {
            "summary": "Support vector classification, with predictions",
            "value": {"matrix": EXAMPLE_MATRIX, "cost": 1.0, "cross": EXAMPLE_CROSS},
        },
    },
    prepare=prepare,
    matrix_kind="machines",
)
