"""How many directions a Gram matrix really has: five usual answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analyses.checks import check_gram, check_not_negative
from workers.analyses.eigenvalues import Eigenvalues, eigenvalues_of


@dataclass(frozen=True)
class EffectiveRank:
    """Ranks of H with eigenvalues l_i, shares p_i = l_i/tr H; all between 1 and m, unless ridge.

    `numerical`: eigenvalues above the noise floor. `entropy`: exp(-sum p ln p) (Roy & Vetterli
    2007). `participation`: (sum l)^2/sum l^2. `stable`: tr H/l_1. `dimension`: the effective
    dimension tr H (H + ridge)^-1 of ridge regression (Zhang 2005; Caponnetto & De Vito 2007), in
    [0, m]; with ridge 0 it is `numerical`.
    """

    numerical: int
    entropy: float
    participation: float
    stable: float
    dimension: float
    ridge: float
    notes: tuple[str, ...]


def effective_rank(matrix: NDArray[Any], *, ridge: float = 0.0) -> EffectiveRank:
    """Effective ranks of `matrix` (m, m); `ridge` in its units, added to its diagonal by the
    regression. O(m^3). Noise eigenvalues count as 0. Raises InvalidAnalysisError."""
    added = check_not_negative(ridge, "ridge")
    return effective_rank_of(eigenvalues_of(check_gram(matrix)), ridge=added)


def effective_rank_of(spectrum: Eigenvalues, *, ridge: float = 0.0) -> EffectiveRank:
    """`effective_rank` for eigenvalues already computed. Raises InvalidAnalysisError."""
    added = check_not_negative(ridge, "ridge")
    values = spectrum.values[: spectrum.significant]
    total = float(np.sum(values))
    shares = values / total
    return EffectiveRank(
        numerical=spectrum.significant,
        entropy=float(np.exp(-np.sum(shares * np.log(shares)))),
        participation=float(1 / np.sum(shares**2)),
        stable=float(total / values[0]),
        dimension=float(np.sum(values / (values + added))),
        ridge=added,
        notes=spectrum.notes,
    )
