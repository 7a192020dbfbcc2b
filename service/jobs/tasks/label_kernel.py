"""The task type `label-kernel`: a Gram matrix mixed with an estimate of the products of labels."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import DenseCost, ResultTask, Work, in_one_worker
from service.jobs.tasks.inputs import (
    check_dense_rows,
    required_targets,
    right_hand_sides,
    rows_dataset,
    symmetric_gram,
)
from service.schemas.common import EXAMPLE_CROSS, EXAMPLE_MATRIX, DatasetId, MatrixId
from service.schemas.tasks import OnGram
from workers.analyses.label_kernel import stored_label_kernel
from workers.solves.dense import dense_worker_bytes
from workers.solves.prepare import cross_tiles
from workers.solves.targets import encode_labels, is_labels

# Float64 squares alive at once: the Gram twice, pairs with their votes, their order, the result.
_SQUARES = 10
# Of one cross-Gram: as read, in float64, its estimate, the result, and the order of its values.
_RECTANGLES = 8


class LabelKernelTask(OnGram):
    """(1 - mixing) K + mixing Z, where Z regresses the products of labels of training pairs on
    their kernel values. The result is a Gram matrix with an array of the same name, which other
    tasks take; with `cross`, the cross-Gram that belongs to it."""

    type: Literal["label-kernel"]
    mixing: float = Field(ge=0, le=1, description="Weight of Z; 0 is the kernel itself.")
    targets: DatasetId | None = Field(
        default=None, description="Data set of the targets; null: the Gram's own x1."
    )
    encoding: Literal["same_class", "centred_one_hot", "real"] | None = Field(
        default=None,
        description="What pairs vote. `same_class`: 1 for equal labels, else 0."
        " `centred_one_hot`: the product of centred one-hot rows. `real`: that of the targets"
        " themselves. Null: same_class for labels, else real.",
    )
    bandwidth: float | None = Field(
        default=None,
        gt=0,
        le=1e12,
        description="Of the Gaussian weights, in units of the kernel; null: Silverman's rule.",
    )
    cross: MatrixId | None = Field(
        default=None, description="Mix this sealed cross-Gram (new rows, training columns)."
    )


def prepare(context: JobContext, task: LabelKernelTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    source = symmetric_gram(context, task.matrix, task.array)
    rows = source.layout.shape[0]
    check_dense_rows(context, rows, "A label-aware kernel")
    base, train = source.manifest.provenance["request"], rows_dataset(source.manifest)
    named = task.targets or train
    labels = is_labels(required_targets(context, named))
    encoding = task.encoding or ("same_class" if labels else "real")
    y, classes = right_hand_sides(
        context, named, rows, "one_hot" if encoding == "same_class" else encoding
    )
    if encoding == "same_class" and classes is not None:
        y = (encode_labels(required_targets(context, named), classes)[0] > 0).astype(y.dtype)
    cross, new = None, None
    if task.cross is not None:
        context.catalog.get_matrix(task.cross)
        cross = cross_tiles(context.blobs, task.cross, task.array, source)
        new = rows_dataset(cross.manifest)
    derived = {
        "label_kernel": task.matrix,
        "base": base.get("kernel"),
        "array": task.array,
        "targets": named,
        "encoding": encoding,
        "mixing": task.mixing,
        "bandwidth": task.bandwidth,
    }
    like = cross or source
    numbers = _SQUARES * rows * rows
    if cross is not None:
        numbers += _RECTANGLES * cross.layout.shape[0] * rows
    return Work(
        # As in the request of a gram job, so that a cross-Gram can be told to belong to its Gram.
        determines={
            "kernel": derived,
            "x1": new or train,
            "x2": train if cross is not None else None,
            "matrix": task.matrix,
            "cross": task.cross,
            "outputs": [task.array],
        },
        arrays={task.array: like.layout.shape},
        like=like,
        cost=_cost(source, like.layout.stored_bytes, numbers, square=cross is None).to_json(),
        run=in_one_worker(stored_label_kernel, source, y, task.mixing, task.bandwidth, cross),
    )


def _cost(source: Any, read_bytes: int, numbers: int, *, square: bool) -> DenseCost:
    rows = source.layout.shape[0]
    # A sort of all pairs, and the smallest eigenvalue of a square result.
    flops = 50.0 * rows * rows * max(rows.bit_length(), 1) + (4 / 3 * rows**3 if square else 0.0)
    return DenseCost(
        flops=flops,
        bytes_read=source.layout.stored_bytes + (0 if square else read_bytes),
        peak_bytes_per_worker=dense_worker_bytes(source, numbers),
    )


LABEL_KERNEL = ResultTask(
    name="label-kernel",
    schema=LabelKernelTask,
    examples={
        "label-kernel": {
            "summary": "A Gram matrix that knows its labels",
            "value": {"matrix": EXAMPLE_MATRIX, "mixing": 0.3},
        },
        "label-kernel-cross": {
            "summary": "The cross-Gram that belongs to it",
            "value": {"matrix": EXAMPLE_MATRIX, "mixing": 0.3, "cross": EXAMPLE_CROSS},
        },
    },
    prepare=prepare,
    matrix_kind="gram",
)
