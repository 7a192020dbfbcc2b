"""Learning rates for which gradient descent on a network with a constant NTK is stable.

f moves as f - eta H (f - y) for the loss 1/2 sum (f - y)^2, so mode i is multiplied by
1 - eta lambda_i per step. Other losses scale eta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from workers.analyses.checks import check_gram
from workers.analyses.eigenvalues import Eigenvalues, eigenvalues_of


@dataclass(frozen=True)
class LearningRates:
    """Upper limits of stable rates (exclusive), per loss over m samples.

    `half_sum`: 1/2 sum (f-y)^2, 2/lambda_1. `sum`: sum (f-y)^2, 1/lambda_1. `half_mean`:
    1/(2m) sum, 2m/lambda_1. `mean`: 1/m sum, m/lambda_1. `fastest`: for `half_sum`, the rate with
    the fastest worst mode, 2/(lambda_1 + lambda_m), and `fastest_factor` =
    (lambda_1 - lambda_m)/(lambda_1 + lambda_m) what that mode is multiplied by per step.
    `slowest_mode`: eta lambda_m at the limit, 2 lambda_m/lambda_1, the fraction of the slowest
    mode learnt per step; 0 when lambda_m is noise.
    """

    half_sum: float
    sum: float
    half_mean: float
    mean: float
    fastest: float
    fastest_factor: float
    slowest_mode: float
    notes: tuple[str, ...]


def learning_rates(matrix: NDArray[Any]) -> LearningRates:
    """Limits for the NTK `matrix` (m, m). O(m^3). Raises InvalidAnalysisError if not a Gram."""
    return learning_rates_of(eigenvalues_of(check_gram(matrix)))


def learning_rates_of(spectrum: Eigenvalues) -> LearningRates:
    """`learning_rates` for eigenvalues already computed."""
    size = len(spectrum.values)
    top = spectrum.largest
    bottom = spectrum.smallest if spectrum.significant == size else 0.0
    return LearningRates(
        half_sum=2 / top,
        sum=1 / top,
        half_mean=2 * size / top,
        mean=size / top,
        fastest=2 / (top + bottom),
        fastest_factor=(top - bottom) / (top + bottom),
        slowest_mode=2 * bottom / top,
        notes=spectrum.notes,
    )
