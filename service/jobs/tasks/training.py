"""What tasks that predict share: a Gram matrix with targets, and a cross-Gram to predict through.

The schemas are bases of those of the tasks; the functions resolve them against the store and say
what a result depends on, defaults filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.tasks.inputs import (
    USE_A_PART,
    check_dense_rows,
    own_targets,
    required_targets,
    right_hand_sides,
    rows_dataset,
    stored_array,
    symmetric_gram,
    targets_of,
)
from service.schemas.common import DatasetId, MatrixId
from service.schemas.tasks import Asked
from workers.solves.errors import InvalidSolveError
from workers.solves.prepare import checked_test_targets, cross_tiles
from workers.solves.solution import Float64
from workers.solves.source import StoredTiles
from workers.solves.targets import Encoding


class OnTraining(Asked):
    """A task over a Gram matrix of training samples and their targets."""

    matrix: MatrixId = Field(description="A sealed symmetric Gram matrix.")
    targets: DatasetId | None = Field(
        default=None, description="Data set whose targets to learn; null: the Gram's own x1."
    )


class WithCross(OnTraining):
    """The same, predicting through a stored cross-Gram when one is named."""

    cross: MatrixId | None = Field(
        default=None, description="A sealed cross-Gram (test rows, training columns)."
    )
    test_targets: DatasetId | None = Field(
        default=None,
        description="Data set whose targets the predictions are compared with; null: the"
        " cross-Gram's own x1, if it has targets.",
    )


@dataclass(frozen=True)
class Training:
    """`targets` (m, k) encoded; `classes` (k,) of the columns if they were labels."""

    source: StoredTiles
    targets: Float64
    classes: NDArray[np.int64] | None
    determines: dict[str, Any]

    @property
    def rows(self) -> int:
        return int(self.targets.shape[0])

    @property
    def columns(self) -> int:
        return int(self.targets.shape[1])


@dataclass(frozen=True)
class Cross:
    """`targets`: labels (n,) or real (n, k) of the test samples; None if they have none."""

    source: StoredTiles
    targets: NDArray[Any] | None
    determines: dict[str, Any]

    @property
    def rows(self) -> int:
        return int(self.source.layout.shape[0])


def training_of(
    context: JobContext,
    task: OnTraining,
    encoding: Encoding,
    *,
    array: str,
    what: str | None,
    instead: str = USE_A_PART,
) -> Training:
    """The Gram matrix `array` of a task and its targets. `what` will hold all of it in one worker
    (`check_dense_rows`); None: nothing will.

    Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError.
    """
    source = symmetric_gram(context, task.matrix, array)
    rows = source.layout.shape[0]
    if what is not None:
        check_dense_rows(context, rows, what, instead)
    dataset_id = task.targets or rows_dataset(source.manifest)
    targets, classes = right_hand_sides(context, dataset_id, rows, encoding)
    determines = {
        "matrix": task.matrix,
        "array": array,
        "targets": dataset_id,
        "encoding": encoding,
    }
    return Training(source, targets, classes, determines)


def cross_of(
    context: JobContext, task: WithCross, training: Training, *, array: str
) -> Cross | None:
    """The cross-Gram of a task with the targets of its rows; None if it names none.

    Raises NotFoundError, NotReadyError, InvalidSolveError.
    """
    if task.cross is None:
        if task.test_targets is not None:
            raise InvalidSolveError(
                "There are test targets but no cross-Gram to predict with.",
                advice="Name a cross-Gram in `cross`, or leave test_targets out.",
            )
        return None
    stored_array(context, task.cross, array)  # known to the catalog
    source = cross_tiles(context.blobs, task.cross, array, training.source)
    dataset_id = task.test_targets or own_targets(source.manifest)
    read = targets_of if task.test_targets is None else required_targets
    targets = None if dataset_id is None else read(context, dataset_id)
    if targets is not None:
        targets = checked_test_targets(
            targets,
            source.layout.shape[0],
            labels=training.classes is not None,
            columns=training.columns,
            encoding=training.determines["encoding"],
        )
    determines = {
        "cross": task.cross,
        "test_targets": None if targets is None else dataset_id,
    }
    return Cross(source, targets, determines)
