"""What tasks read: data sets, their targets, stored Gram matrices. Checked before any work."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.jobs.context import JobContext
from storage.catalog import Catalog
from storage.datasets import DatasetInfo, read_targets
from storage.errors import TooLargeError
from storage.format import MatrixManifest
from workers.solves.errors import InvalidSolveError
from workers.solves.memory import coordinator_bytes
from workers.solves.prepare import stored_tiles, symmetric_tiles
from workers.solves.solution import Float64
from workers.solves.source import StoredTiles
from workers.solves.targets import Encoding, encode_targets

USE_A_PART = "Use a part of the matrix (the task submatrix makes one)"


def dataset(catalog: Catalog, dataset_id: str) -> DatasetInfo:
    """Raises NotFoundError."""
    return DatasetInfo.from_json(catalog.get_dataset(dataset_id).info)


def stored_array(context: JobContext, matrix_id: str, array: str) -> StoredTiles:
    """One array of a sealed matrix. Raises NotFoundError, NotReadyError, InvalidSolveError."""
    context.catalog.get_matrix(matrix_id)  # what the catalog does not know is not offered
    return stored_tiles(context.blobs, matrix_id, array)


def symmetric_gram(context: JobContext, matrix_id: str, array: str) -> StoredTiles:
    """One symmetric array of a sealed matrix. Raises as `stored_array`."""
    context.catalog.get_matrix(matrix_id)
    return symmetric_tiles(context.blobs, matrix_id, array)


def check_dense_rows(context: JobContext, rows: int, what: str, instead: str = USE_A_PART) -> None:
    """Raises TooLargeError if `what` would factor or hold more than `max_dense_rows` rows;
    `instead` is the advice that it gives."""
    limit = context.settings.max_dense_rows
    if rows > limit:
        raise TooLargeError(
            f"{what} holds the whole matrix in one worker: at most {limit} rows, not {rows}.",
            advice=f"{instead}, or raise the setting max_dense_rows.",
            rows=rows,
            limit_rows=limit,
        )


def fits_one_worker(context: JobContext, rows: int, peak_bytes: int) -> bool:
    """Whether a task that also works at any size holds its matrix whole in one worker:
    `peak_bytes` there, for a matrix of `rows`."""
    return rows <= context.settings.max_dense_rows and peak_bytes <= context.compute.limit_bytes()


def most_columns(context: JobContext, rows: int) -> int:
    """Columns that one job may solve for at a time in this process; may be 0."""
    each = coordinator_bytes(rows=rows, rhs=1, workers=context.compute.expected_workers())
    return context.settings.max_solve_vectors_bytes // each


def check_columns(
    context: JobContext, rows: int, columns: int, what: str, instead: str = USE_A_PART
) -> None:
    """Raises TooLargeError if `what` means more than `most_columns`; `instead` is the advice."""
    most = most_columns(context, rows)
    if columns > most:
        raise TooLargeError(
            f"{what}: {columns} columns of {rows} rows at once; the service takes {most} of one"
            " job.",
            advice=f"{instead}, or raise the setting max_solve_vectors_bytes.",
            columns=columns,
            limit_columns=most,
        )


def rows_dataset(manifest: MatrixManifest) -> str:
    """Id of the data set that the rows of a Gram matrix belong to. Raises InvalidSolveError."""
    if manifest.kind != "gram":
        raise InvalidSolveError(
            f"Matrix {manifest.id} is a {manifest.kind}, not a Gram matrix.",
            advice="Name a matrix that a gram job has made.",
        )
    own = own_targets(manifest)
    if own is None:
        raise InvalidSolveError(
            f"The rows of matrix {manifest.id} are pixels or a choice of rows, which have no"
            " targets of their own.",
            advice="Name a data set with one target per row in `targets`.",
        )
    return own


def own_targets(manifest: MatrixManifest) -> str | None:
    """Id of the data set whose samples are the rows of a Gram matrix, in this order; None if
    there is none."""
    request = manifest.provenance["request"]
    of_samples = request.get("task") not in ("pixel_gram", "submatrix")
    return str(request["x1"]) if of_samples else None


def targets_of(context: JobContext, dataset_id: str) -> NDArray[Any] | None:
    """Targets (m,) or (m, k) of a data set; None if it has none. Raises NotFoundError."""
    return read_targets(context.blobs, dataset(context.catalog, dataset_id))


def required_targets(context: JobContext, dataset_id: str) -> NDArray[Any]:
    """`targets_of` a data set that must have some. Raises InvalidSolveError otherwise."""
    values = targets_of(context, dataset_id)
    if values is None:
        raise InvalidSolveError(
            f"The data set {dataset_id} has no targets.",
            advice="Upload it with y, or name another data set for the targets.",
        )
    return values


def right_hand_sides(
    context: JobContext, dataset_id: str, rows: int, encoding: Encoding
) -> tuple[Float64, NDArray[np.int64] | None]:
    """Encoded targets (rows, k) of a data set and, for labels, the classes (k,).

    Raises NotFoundError, InvalidSolveError.
    """
    return encode_targets(required_targets(context, dataset_id), rows, encoding)
