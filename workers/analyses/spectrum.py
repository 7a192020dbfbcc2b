"""Everything that the eigenvalues of one Gram matrix answer, from one factorisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from workers.analyses.checks import Floats, check_gram
from workers.analyses.conditioning import Conditioning, conditioning_of
from workers.analyses.effective_rank import EffectiveRank, effective_rank_of
from workers.analyses.eigenvalues import eigenvalues_of
from workers.analyses.learning_rate import LearningRates, learning_rates_of


@dataclass(frozen=True)
class Spectrum:
    """`eigenvalues` (m,), descending, noise included, and what follows from them.

    `significant` of them are above `noise_floor` = m eps lambda_1.
    """

    eigenvalues: Floats
    significant: int
    noise_floor: float
    conditioning: Conditioning
    effective_rank: EffectiveRank
    learning_rates: LearningRates
    notes: tuple[str, ...]


def spectrum(matrix: NDArray[Any], *, ridge: float = 0.0) -> Spectrum:
    """Spectrum of `matrix` (m, m); `ridge` in its units, for the effective dimension. O(m^3).

    Raises InvalidAnalysisError if it is not a Gram matrix.
    """
    found = eigenvalues_of(check_gram(matrix))
    return Spectrum(
        eigenvalues=found.values,
        significant=found.significant,
        noise_floor=found.noise_floor,
        conditioning=conditioning_of(found),
        effective_rank=effective_rank_of(found, ridge=ridge),
        learning_rates=learning_rates_of(found),
        notes=found.notes,
    )
