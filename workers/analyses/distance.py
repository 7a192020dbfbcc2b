"""Distance between kernels, and its velocity in training (Fort et al. 2020; Golikov et al. 2022,
eq. 148)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analyses.checks import check_gram, check_positive
from workers.analyses.errors import InvalidAnalysisError


def kernel_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """1 - tr(H H'^T)/sqrt(tr(H H^T) tr(H' H'^T)) for Grams (m, m): in [0, 1], scale-free.

    Computed as half the squared distance of the normalised matrices: 1 - cosine would lose all
    distances below 1e-16, this loses those below 1e-32. O(m^2). Raises InvalidAnalysisError.
    """
    left, right = check_gram(first, "first matrix"), check_gram(second, "second matrix")
    if left.size != right.size:
        raise InvalidAnalysisError(
            f"The matrices have {left.size} and {right.size} rows.",
            advice="Compare kernels of the same inputs.",
        )
    difference = left.values / np.linalg.norm(left.values)
    difference -= right.values / np.linalg.norm(right.values)
    return float(0.5 * np.sum(difference**2))


def kernel_velocity(before: NDArray[Any], after: NDArray[Any], interval: float) -> float:
    """kernel_distance(before, after)/interval, per unit of `interval` (steps, epochs, time).

    For a smooth H(t) the distance is quadratic in small intervals, so the velocity of Fort et
    al. tends to 0 with the interval: compare velocities of equal intervals only.
    """
    return kernel_distance(before, after) / check_positive(interval, "interval")
