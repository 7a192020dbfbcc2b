"""Data-dependent generalisation bounds from y^T H^-1 y.

Arora et al. 2019 (Fine-grained analysis, theorem 5.1) bound the population error of a wide
two-layer ReLU network trained on its first layer, up to terms that vanish with m, by
sqrt(2 y^T H^-1 y/m), |y_i| <= 1, H from `two_layer_relu_gram`. Golikov et al. 2022, eqs. 134-143,
derive (1 + B)/sqrt(m) sqrt(1/2 + ...) with the distance B travelled by the weights; their
B = y^T H^-1 y lacks the square root that |theta_inf - theta_0| = sqrt(y^T H^-1 y) has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from workers.analyses.checks import Floats, check_gram, check_not_negative, check_targets
from workers.analyses.errors import InvalidAnalysisError

UNIT_NORM_TOLERANCE = 1e-6
"""Largest |norm - 1| of rows that count as unit vectors (float32 normalisation: 1e-7)."""


@dataclass(frozen=True)
class GeneralizationBound:
    """`quadratic` = sum over outputs of y^T (H + ridge)^-1 y, and bounds from it; no units.

    `complexity` = sqrt(quadratic/m). `arora` = sqrt(2 quadratic/m). `survey` =
    (1 + sqrt(quadratic))/sqrt(m) sqrt(1/2 + sqrt(ln(1/delta)/(2 width))), eq. 143 with its square
    root restored; width None is the infinite network. `survey_as_printed` has 1 + quadratic.
    A value of 1 or more says nothing about the error of a classifier. `reciprocal_condition`:
    LAPACK's estimate, in the 1-norm, of H + ridge; `reliable` is False when it is below m eps,
    where `quadratic` consists of rounding.
    """

    quadratic: float
    complexity: float
    arora: float
    survey: float
    survey_as_printed: float
    reciprocal_condition: float
    reliable: bool
    notes: tuple[str, ...]


def generalization_bound(
    matrix: NDArray[Any],
    targets: NDArray[Any],
    *,
    ridge: float = 0.0,
    width: int | None = None,
    delta: float = 0.01,
) -> GeneralizationBound:
    """Bounds for the Gram `matrix` (m, m) and `targets` (m,) or (m, k), as residuals y - f_0.

    `ridge` (units of H) is added to the diagonal; `width` and `delta` (failure probability) enter
    the survey's bound only. O(m^3/3) by Cholesky. Raises InvalidAnalysisError, also when
    H + ridge is singular.
    """
    gram = check_gram(matrix)
    y = check_targets(targets, gram.size)
    check_not_negative(ridge, "ridge")
    if not 0 < delta < 1 or (width is not None and width < 1):
        raise InvalidAnalysisError(
            f"delta = {delta!r} is not in (0, 1), or width = {width!r} is not 1 or more.",
            advice="delta is a failure probability, width a number of units.",
        )
    quadratic, condition = _quadratic_form(gram.values, y, ridge)
    reliable = condition > gram.size * gram.epsilon
    notes = (
        []
        if reliable
        else ["H is singular to working precision, so y^T H^-1 y is rounding noise; add a ridge."]
    )
    if np.max(np.abs(y)) > 1:
        notes.append("Some |y| exceed 1, which the bounds assume they do not.")
    m = gram.size
    spread = 0.0 if width is None else math.sqrt(math.log(1 / delta) / (2 * width))
    factor = math.sqrt(0.5 + spread) / math.sqrt(m)
    return GeneralizationBound(
        quadratic=quadratic,
        complexity=math.sqrt(quadratic / m),
        arora=math.sqrt(2 * quadratic / m),
        survey=(1 + math.sqrt(quadratic)) * factor,
        survey_as_printed=(1 + quadratic) * factor,
        reciprocal_condition=condition,
        reliable=reliable,
        notes=tuple(notes),
    )


def two_layer_relu_gram(x: NDArray[Any]) -> Floats:
    """H_ij = x_i.x_j (pi - theta_ij)/(2 pi), (m, m): the NTK of the first layer of a two-layer
    ReLU network (Arora et al. 2019, eq. 4), for unit rows `x` (m, d).

    The angle comes from differences of rows, so near duplicates keep their digits. Raises
    InvalidAnalysisError unless every row has norm 1.
    """
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or rows.size == 0 or not np.all(np.isfinite(rows)):
        raise InvalidAnalysisError(
            f"Inputs of shape {rows.shape} are not finite rows (m, d).", advice="Check them."
        )
    lengths = np.linalg.norm(rows, axis=1)
    if np.max(np.abs(lengths - 1)) > UNIT_NORM_TOLERANCE:
        raise InvalidAnalysisError(
            "The kernel of the bound is defined for inputs of norm 1.",
            advice="Divide every row by its norm.",
        )
    product = rows @ rows.T
    apart = np.empty_like(product)
    for index, row in enumerate(rows):  # one row at a time: m d temporaries, not m^2 d
        apart[index] = np.linalg.norm(rows - row, axis=1)
    angle = np.where(
        product > 0, 2 * np.arcsin(np.minimum(apart / 2, 1)), np.arccos(np.clip(product, -1, 1))
    )
    return np.asarray(product * (math.pi - angle) / (2 * math.pi))


def _quadratic_form(values: Floats, y: Floats, ridge: float) -> tuple[float, float]:
    """tr y^T (H + ridge)^-1 y and the estimated reciprocal condition number."""
    shifted = values + ridge * np.eye(len(values))
    try:
        factor = linalg.cholesky(shifted, lower=True, check_finite=False)
    except linalg.LinAlgError:
        raise InvalidAnalysisError(
            "The matrix is singular to working precision, so y^T H^-1 y does not exist.",
            advice="Remove repeated inputs or give a ridge.",
        ) from None
    half = linalg.solve_triangular(factor, y, lower=True, check_finite=False)
    norm = float(np.max(np.sum(np.abs(shifted), axis=0)))
    condition, info = lapack.dpocon(factor, norm, uplo="L")
    if info != 0:
        raise ValueError(f"dpocon refused argument {-info}")
    return float(np.sum(half**2)), float(condition)
