"""Condition number of a Gram matrix, in both conventions, and trainability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from workers.analyses.checks import check_gram
from workers.analyses.eigenvalues import Eigenvalues, eigenvalues_of


@dataclass(frozen=True)
class Conditioning:
    """Eigenvalue extremes of H (m, m) and their quotients.

    `inverse_condition` = lambda_m/lambda_1: in [0, 1], small is bad (Golikov et al. 2022, eq. 99).
    `condition_number` = lambda_1/lambda_m: large is bad (Chen et al. 2021, TE-NAS). It is None
    when lambda_m is noise (see `notes`); `inverse_condition` is then 0 to working precision and
    given as computed, at least 0. `trainable`: lambda_m is positive beyond noise, so gradient
    flow on the training set reaches zero loss (Hayou et al. 2019, lemma 1).
    """

    largest: float
    smallest: float
    inverse_condition: float
    condition_number: float | None
    trainable: bool
    noise_floor: float
    notes: tuple[str, ...]


def conditioning(matrix: NDArray[Any]) -> Conditioning:
    """Conditioning of `matrix` (m, m). O(m^3). Raises InvalidAnalysisError if not a Gram."""
    return conditioning_of(eigenvalues_of(check_gram(matrix)))


def conditioning_of(spectrum: Eigenvalues) -> Conditioning:
    """`conditioning` for eigenvalues already computed."""
    known = spectrum.significant == len(spectrum.values)
    return Conditioning(
        largest=spectrum.largest,
        smallest=spectrum.smallest,
        inverse_condition=max(spectrum.smallest, 0.0) / spectrum.largest,
        condition_number=spectrum.largest / spectrum.smallest if known else None,
        trainable=known,
        noise_floor=spectrum.noise_floor,
        notes=spectrum.notes,
    )
