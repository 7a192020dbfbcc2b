"""Alignment of a kernel with targets or with another kernel: cosines of Gram matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analyses.checks import Floats, check_gram, check_targets
from workers.analyses.errors import InvalidAnalysisError


def kernel_alignment(first: NDArray[Any], second: NDArray[Any], *, centred: bool = False) -> float:
    """<H, H'>/(|H||H'|) for Grams (m, m) of the same inputs: in [0, 1] (Cristianini et al. 2001).

    `centred`: of PHP and PH'P, P = I - 11^T/m (Cortes et al. 2012; linear CKA, Kornblith et al.
    2019). O(m^2). 1 means proportional; for values near 1 use kernel_distance, which keeps its
    digits. Raises InvalidAnalysisError, also when a centred Gram is 0 (a constant kernel).
    """
    left, right = check_gram(first, "first matrix"), check_gram(second, "second matrix")
    if left.size != right.size:
        raise InvalidAnalysisError(
            f"The matrices have {left.size} and {right.size} rows.",
            advice="Align kernels of the same inputs.",
        )
    return _cosine(*(centre(g.values) if centred else g.values for g in (left, right)))


def target_alignment(
    matrix: NDArray[Any], targets: NDArray[Any], *, centred: bool = False
) -> float:
    """Alignment of `matrix` (m, m) with the ideal kernel Y Y^T of `targets` (m,) or (m, k).

    `centred` centres both. O(m^2 k). Raises InvalidAnalysisError, also when targets are 0.
    """
    gram = check_gram(matrix)
    y = check_targets(targets, gram.size)
    values = gram.values
    if centred:
        values, y = centre(values), y - np.mean(y, axis=0)
    # |Y Y^T| = |Y^T Y|, and <H, Y Y^T> = tr Y^T H Y.
    norm = float(np.linalg.norm(values)) * float(np.linalg.norm(y.T @ y))
    _check_norm(norm)
    return float(np.sum(y * (values @ y))) / norm


def centre(values: Floats) -> Floats:
    """P H P with P = I - 11^T/m, for symmetric (m, m) values: kernel of centred features."""
    means = np.mean(values, axis=0)
    return np.asarray(values - means - means[:, None] + np.mean(means))


def _cosine(left: Floats, right: Floats) -> float:
    norm = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    _check_norm(norm)
    return float(np.sum(left * right)) / norm


def _check_norm(norm: float) -> None:
    if not norm > 0:
        raise InvalidAnalysisError(
            "A kernel or the targets are zero (constant, if centred), so no angle exists.",
            advice="Do not centre, or use targets that vary.",
        )
