"""Everything that can be found wrong with a request before any work is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.blobs import BlobStore
from storage.format import ArrayLayout
from storage.matrices import load_manifest, require_sealed, sealed_digest
from workers.solves.errors import InvalidSolveError
from workers.solves.request import SolveRequest
from workers.solves.solution import Float64
from workers.solves.source import StoredTiles
from workers.solves.targets import Encoding, encode_targets, is_labels, real_targets

DEFAULT_INDUCING_FACTOR = 20  # × √m inducing points


@dataclass(frozen=True)
class Prepared:
    """A request that makes sense, resolved against the store."""

    request: SolveRequest
    source: StoredTiles
    matrix_digest: str
    rhs: Float64  # (m, k)
    classes: NDArray[np.int64] | None  # of the columns, for label targets
    cross: StoredTiles | None
    test_targets: NDArray[Any] | None
    inducing_points: int

    @property
    def rows(self) -> int:
        return len(self.rhs)

    @property
    def layout(self) -> ArrayLayout:
        return self.source.layout


def prepare(blobs: BlobStore, request: SolveRequest) -> Prepared:
    """Resolve and check a request.

    Raises InvalidSolveError for what contradicts itself, NotFoundError and NotReadyError for
    matrices that are not there or not sealed.
    """
    check_numbers(request)
    source = symmetric_tiles(blobs, request.matrix_id, request.array)
    rows = source.layout.shape[0]
    rhs, classes = encode_targets(request.targets, rows, request.encoding)
    cross = None
    if request.cross_matrix_id is not None:
        cross = cross_tiles(blobs, request.cross_matrix_id, request.array, source)
    inducing = request.inducing_points or min(
        rows, math.ceil(DEFAULT_INDUCING_FACTOR * math.sqrt(rows))
    )
    if inducing > rows:
        raise InvalidSolveError(
            f"{inducing} inducing points were asked for; the matrix has {rows} rows.",
            advice=f"Ask for at most {rows}.",
        )
    return Prepared(
        request,
        source,
        sealed_digest(blobs, request.matrix_id),
        rhs,
        classes,
        cross,
        _test_targets(request, cross, labels=classes is not None, columns=rhs.shape[1]),
        inducing,
    )


def check_numbers(request: SolveRequest) -> None:
    """Checks that need no store. Raises InvalidSolveError."""
    if not (math.isfinite(request.ridge) and request.ridge >= 0):
        raise InvalidSolveError(
            f"The ridge is {request.ridge}; it must be a number >= 0.",
            advice="Small relative ridges such as 1e-4 are a good start.",
        )
    if not 0 < request.effective_tolerance < 1:
        raise InvalidSolveError(
            f"The tolerance is {request.effective_tolerance}; it must lie between 0 and 1.",
            advice="1e-3 is enough for predictions, 1e-6 counts as exact.",
        )
    if request.inducing_points is not None and request.inducing_points < 1:
        raise InvalidSolveError("There must be at least one inducing point.")
    if request.max_applications < 1:
        raise InvalidSolveError("max_applications must be at least 1.")
    if request.time_limit_seconds is not None and not request.time_limit_seconds > 0:
        raise InvalidSolveError("The time limit must be positive.")
    if request.checkpoint_id is not None and "/" in request.checkpoint_id:
        raise InvalidSolveError("A checkpoint id has no slashes.", advice="Use the id of the job.")


def stored_tiles(blobs: BlobStore, matrix_id: str, array: str) -> StoredTiles:
    """One two-dimensional array of a sealed matrix.

    Raises NotFoundError, NotReadyError, InvalidSolveError.
    """
    manifest = load_manifest(blobs, matrix_id)
    require_sealed(blobs, matrix_id)
    names = [layout.name for layout in manifest.arrays]
    if array not in names:
        raise InvalidSolveError(
            f"Matrix {matrix_id} has no array {array[:64]!r}.",
            advice=f"It has {', '.join(names)}.",
        )
    if len(manifest.array(array).shape) != 2:
        raise InvalidSolveError(
            f"Array {array!r} of {matrix_id} is not a matrix.", advice="Use a Gram matrix."
        )
    return StoredTiles(blobs.url, manifest, array)


def symmetric_tiles(blobs: BlobStore, matrix_id: str, array: str) -> StoredTiles:
    """One symmetric array of a sealed matrix. Raises as `stored_tiles`."""
    source = stored_tiles(blobs, matrix_id, array)
    if not source.layout.symmetric:
        raise InvalidSolveError(
            f"Matrix {matrix_id} has shape {source.layout.shape}; a symmetric Gram matrix is"
            " needed.",
            advice="Use the Gram matrix of the training set against itself.",
        )
    return source


def cross_tiles(blobs: BlobStore, matrix_id: str, array: str, train: StoredTiles) -> StoredTiles:
    """The cross-Gram K(X*, X) (n, m) that belongs to the Gram matrix `train` (m, m).

    Raises as `stored_tiles`, also when it was made with another kernel or training set.
    """
    cross, rows = stored_tiles(blobs, matrix_id, array), train.layout.shape[0]
    if cross.layout.shape[1] != rows:
        raise InvalidSolveError(
            f"The cross-Gram has {cross.layout.shape[1]} columns; the Gram matrix has {rows} rows.",
            advice="Compute it with the test set as x1 and the same training set as x2.",
        )
    mine = train.manifest.provenance.get("request", {})
    theirs = cross.manifest.provenance.get("request", {})
    # Another kernel or training set would give numbers that look like predictions and are not.
    same = {"kernel": (mine.get("kernel"), theirs.get("kernel"))}
    same["training set"] = (mine.get("x1"), theirs.get("x2") or theirs.get("x1"))
    # Of pixel pairs the columns belong to the second image.
    same["image"] = (mine.get("images", [None])[0], theirs.get("images", [None])[-1])
    for what, (ours, its) in same.items():
        if ours is not None and its is not None and ours != its:
            raise InvalidSolveError(
                f"The cross-Gram was computed with another {what}.",
                advice="Compute it with the same kernel and with the training set as x2.",
            )
    return cross


def _test_targets(
    request: SolveRequest, cross: StoredTiles | None, *, labels: bool, columns: int
) -> NDArray[Any] | None:
    if request.test_targets is None:
        return None
    if cross is None:
        raise InvalidSolveError(
            "There are test targets but no cross-Gram to predict with.",
            advice="Name the cross matrix, or leave the test targets out.",
        )
    return checked_test_targets(
        request.test_targets,
        cross.layout.shape[0],
        labels=labels,
        columns=columns,
        encoding=request.encoding,
    )


def checked_test_targets(
    values: NDArray[Any], rows: int, *, labels: bool, columns: int, encoding: Encoding = "auto"
) -> NDArray[Any]:
    """What predictions (rows, columns) can be compared with: labels (rows,), or real (rows,
    columns). `labels`: whether the columns stand for classes. Raises InvalidSolveError."""
    targets = np.asarray(values)
    if targets.ndim == 0 or len(targets) != rows:
        raise InvalidSolveError(
            f"There are {len(targets) if targets.ndim else 0} test targets for"
            f" {rows} rows of the cross-Gram.",
            advice="Send one for each sample of the test set.",
        )
    if is_labels(targets) != labels and encoding != "real":
        raise InvalidSolveError(
            "Targets and test targets must both be labels or both be real.",
            advice="Send integers of shape (n,) for labels, floating-point numbers otherwise.",
        )
    if labels:
        return targets
    numbers = real_targets(targets)
    if numbers.shape[1] != columns:
        raise InvalidSolveError(
            f"Targets have {columns} columns, test targets {numbers.shape[1]}.",
            advice="Both need the same columns.",
        )
    return numbers
