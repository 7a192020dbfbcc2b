"""What analyses require of a Gram matrix, and below which size its eigenvalues are noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workers.analyses.errors import InvalidAnalysisError

Floats = NDArray[np.float64]

ASYMMETRY_UNITS = 64
"""Largest |H - H^T| accepted, in units of eps(dtype) times the largest |H|."""


@dataclass(frozen=True)
class Gram:
    """A checked Gram matrix: `values` (m, m) float64, exactly symmetric; `epsilon` of the dtype
    that its entries were rounded to (2^-23 for float32), which limits what its eigenvalues say."""

    values: Floats
    epsilon: float

    @property
    def size(self) -> int:
        return int(self.values.shape[0])

    def noise_floor(self, largest: float) -> float:
        """Eigenvalues below m eps lambda_1 are rounding, of the entries or of the solver."""
        return self.size * self.epsilon * abs(largest)


def check_gram(matrix: NDArray[Any], name: str = "matrix") -> Gram:
    """`matrix` as a Gram. Raises InvalidAnalysisError unless it is real, square, not empty,
    finite and symmetric up to rounding, with a non-zero entry and no negative diagonal."""
    given = np.asarray(matrix)
    if given.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise InvalidAnalysisError(
            f"The {name} has dtype {given.dtype}, not float32 or float64.",
            advice="Convert it to float64.",
        )
    if given.ndim != 2 or given.shape[0] != given.shape[1] or given.shape[0] == 0:
        raise InvalidAnalysisError(
            f"The {name} has shape {given.shape}, which is not that of a Gram matrix (m, m).",
            advice="Use the kernel of one set of inputs with itself.",
        )
    epsilon = float(np.finfo(given.dtype).eps)
    values = given.astype(np.float64)
    if not np.all(np.isfinite(values)):
        raise InvalidAnalysisError(
            f"The {name} has entries that are not finite.", advice="Compute it again."
        )
    largest = float(np.max(np.abs(values)))
    asymmetry = float(np.max(np.abs(values - values.T)))
    if asymmetry > ASYMMETRY_UNITS * epsilon * largest:
        raise InvalidAnalysisError(
            f"The {name} is not symmetric: entries and their mirrors differ by {asymmetry:.3g}.",
            advice="Use the kernel of one set of inputs with itself, in the same order.",
            asymmetry=asymmetry,
        )
    if largest == 0 or np.min(np.diagonal(values)) < 0:
        raise InvalidAnalysisError(
            f"The {name} is zero or has a negative diagonal, so it is not a kernel's.",
            advice="Check how it was made.",
        )
    return Gram(0.5 * (values + values.T), epsilon)


def check_targets(targets: NDArray[Any], size: int, name: str = "targets") -> Floats:
    """Targets (m,) or (m, k) as float64 (m, k). Raises InvalidAnalysisError otherwise."""
    values = np.asarray(targets)
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2) or values.shape[0] != size:
        raise InvalidAnalysisError(
            f"The {name} have dtype {values.dtype} and shape {values.shape}; expected real "
            f"numbers of shape ({size},) or ({size}, k).",
            advice="Give one row of targets per row of the matrix.",
        )
    columns = values.astype(np.float64).reshape(size, -1)
    if columns.shape[1] == 0 or not np.all(np.isfinite(columns)):
        raise InvalidAnalysisError(
            f"The {name} must be finite and not empty.", advice="Check them."
        )
    return columns


def check_circle(angles: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    """Angles (m,) and the values (m,) of one function there, as float64. Raises
    InvalidAnalysisError unless there are some, all finite, and as many of one as of the other."""
    points = np.asarray(angles, dtype=np.float64)
    if points.ndim != 1 or len(points) == 0 or not np.all(np.isfinite(points)):
        raise InvalidAnalysisError(
            f"Angles of shape {points.shape} are not finite numbers (m,).", advice="Check them."
        )
    columns = check_targets(np.asarray(values), len(points))
    if columns.shape[1] != 1:
        raise InvalidAnalysisError(
            "Smoothness is that of one function.", advice="Give one column of targets."
        )
    return points, columns[:, 0]


def check_positive(value: float, name: str) -> float:
    """`value` if it is a finite number above 0. Raises InvalidAnalysisError otherwise."""
    if not (math.isfinite(value) and value > 0):
        raise InvalidAnalysisError(
            f"{name} is {value!r}; it must be a positive number.", advice=f"Change {name}."
        )
    return float(value)


def check_not_negative(value: float, name: str) -> float:
    """`value` if it is a finite number, 0 or above. Raises InvalidAnalysisError otherwise."""
    if not (math.isfinite(value) and value >= 0):
        raise InvalidAnalysisError(
            f"{name} is {value!r}; it must be 0 or a positive number.", advice=f"Change {name}."
        )
    return float(value)
