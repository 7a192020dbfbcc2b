"""Targets of a regression: class labels become columns, real targets stay as they are.

Encodings: `one_hot` 0.9 for the class and -0.1 elsewhere (mean zero for ten balanced classes),
`centred_one_hot` 1 - 1/k and -1/k (every row sums to zero), `real` the numbers themselves, `auto`
one_hot for labels and real for the rest.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.solves.errors import InvalidSolveError
from workers.solves.solution import Float64

LABEL_OFFSET = 0.1  # one-hot minus 0.1: columns of mean zero for ten balanced classes
MAX_CLASSES = 1024  # right-hand sides; beyond this, integers are probably not labels


Encoding = Literal["auto", "one_hot", "centred_one_hot", "real"]


def is_labels(targets: NDArray[Any]) -> bool:
    """Integer targets of shape (m,) are class labels; everything else is real-valued."""
    return targets.ndim == 1 and bool(np.issubdtype(targets.dtype, np.integer))


def encode_targets(
    targets: NDArray[Any], rows: int, encoding: Encoding = "auto"
) -> tuple[Float64, NDArray[np.int64] | None]:
    """Right-hand sides (m, k) float64 and, when `targets` are taken as labels, the classes (k,).

    Raises InvalidSolveError for a wrong number of rows, values that are not finite numbers, more
    than MAX_CLASSES columns, and real numbers where labels are wanted.
    """
    values = np.asarray(targets)
    if values.ndim == 0 or len(values) != rows:
        raise InvalidSolveError(
            f"There are {len(values) if values.ndim else 0} targets for {rows} rows.",
            advice="Send one target for each sample of the Gram matrix, in its order.",
            targets=int(values.shape[0]) if values.ndim else 0,
            rows=rows,
        )
    labels = is_labels(values)
    if encoding in ("one_hot", "centred_one_hot") and not labels:
        raise InvalidSolveError(
            "The targets are not integer labels.",
            advice="Use encoding 'real', or upload labels as integers of shape (m,).",
        )
    if labels and encoding != "real":
        return encode_labels(values, centred=encoding == "centred_one_hot")
    columns = real_targets(values)
    if columns.shape[1] > MAX_CLASSES:
        raise InvalidSolveError(
            f"{columns.shape[1]} target columns; at most {MAX_CLASSES} are solved at once.",
            advice="Split the columns over several jobs.",
        )
    return columns, None


def encode_labels(
    labels: NDArray[np.integer[Any]],
    classes: NDArray[np.integer[Any]] | None = None,
    *,
    centred: bool = False,
) -> tuple[Float64, NDArray[np.int64]]:
    """Labels (m,) to targets (m, k): 0.9 in the column of the class, -0.1 elsewhere; centred:
    1 - 1/k and -1/k.

    Returns the targets and the classes (k,), ascending unless `classes` gives their order.
    Raises InvalidSolveError for a label outside `classes` and for more than MAX_CLASSES.
    """
    known = np.unique(labels) if classes is None else np.asarray(classes)
    if known.size > MAX_CLASSES:
        raise InvalidSolveError(
            f"The labels have {known.size} distinct values; at most {MAX_CLASSES} are classes.",
            advice="Send real-valued targets as floating-point numbers.",
            classes=int(known.size),
        )
    hits = labels[:, None] == known[None, :]
    if not hits.any(axis=1).all():
        raise InvalidSolveError(
            "Some labels are not among the given classes.",
            advice="List every class that occurs, or leave the classes out.",
        )
    offset = 1.0 / known.size if centred else LABEL_OFFSET
    return np.where(hits, 1.0 - offset, -offset), known.astype(np.int64)


def real_targets(targets: NDArray[Any]) -> Float64:
    """Real targets (m,) or (m, k) as float64 (m, k). Raises InvalidSolveError if not finite."""
    if targets.ndim not in (1, 2) or targets.size == 0 or targets.dtype.kind not in "fiub":
        raise InvalidSolveError(
            f"Targets of shape {targets.shape} and type {targets.dtype} cannot be regressed on.",
            advice="Send numbers of shape (m,) or (m, k).",
        )
    values = np.array(targets, dtype=np.float64).reshape(targets.shape[0], -1)
    if not np.isfinite(values).all():
        raise InvalidSolveError(
            "The targets contain NaN or infinity.", advice="Remove those rows and submit again."
        )
    return values


def predicted_classes(predictions: Float64, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class (n,) of the largest of the predictions (n, k); the first one on ties."""
    chosen: NDArray[np.int64] = classes[np.argmax(predictions, axis=1)]
    return chosen


def accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Fraction of equal entries of two (n,) arrays."""
    return float(np.mean(predicted == labels))


def confusion(
    predicted: NDArray[Any], labels: NDArray[Any], classes: NDArray[Any]
) -> NDArray[np.int64]:
    """Counts (k, k): row = true class, column = predicted class, in the order of `classes`.

    Labels outside `classes` (seen only in the test set) are left out.
    """
    order = np.argsort(classes)
    ascending = classes[order]
    known = np.isin(labels, classes)
    true_index = order[np.searchsorted(ascending, labels[known])]
    predicted_index = order[np.searchsorted(ascending, predicted[known])]
    counts = np.zeros((classes.size, classes.size), dtype=np.int64)
    np.add.at(counts, (true_index, predicted_index), 1)
    return counts


def coefficient_of_determination(predictions: Float64, targets: Float64) -> list[float | None]:
    """R² = 1 − Σ(y−f)²/Σ(y−ȳ)² per column of (n, k); None where the targets are constant."""
    residual = np.sum((targets - predictions) ** 2, axis=0)
    total = np.sum((targets - targets.mean(axis=0)) ** 2, axis=0)
    return [float(1 - r / t) if t > 0 else None for r, t in zip(residual, total, strict=True)]
