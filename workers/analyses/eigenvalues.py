"""Eigenvalues of a Gram matrix, with what part of them is rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from workers.analyses.checks import Floats, Gram, check_gram
from workers.analyses.errors import InvalidAnalysisError


@dataclass(frozen=True)
class Eigenvalues:
    """`values` (m,), descending. `noise_floor` = m eps lambda_1 (same unit): smaller ones,
    negative ones included, are rounding; `significant` counts the others."""

    values: Floats
    noise_floor: float
    significant: int

    @property
    def largest(self) -> float:
        return float(self.values[0])

    @property
    def smallest(self) -> float:
        return float(self.values[-1])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the small eigenvalues."""
        lost = len(self.values) - self.significant
        if lost == 0:
            return ()
        return (
            f"{lost} of {len(self.values)} eigenvalues lie below m*eps*lambda_1 = "
            f"{self.noise_floor:.3g} and are rounding noise.",
        )


def gram_eigenvalues(matrix: NDArray[Any]) -> Eigenvalues:
    """Eigenvalues of `matrix` (m, m), float32 or float64; O(m^3) time, one float64 copy.

    Raises InvalidAnalysisError if it is not a Gram matrix: not symmetric, not finite, or with an
    eigenvalue below minus the noise floor.
    """
    return eigenvalues_of(check_gram(matrix))


def eigenvalues_of(gram: Gram) -> Eigenvalues:
    """`gram_eigenvalues` for a matrix already checked."""
    values = linalg.eigvalsh(gram.values)[::-1]
    return classify(np.ascontiguousarray(values), gram)


def classify(values: Floats, gram: Gram) -> Eigenvalues:
    """Descending `values` (m,) of `gram` as Eigenvalues. Raises as `gram_eigenvalues`."""
    floor = gram.noise_floor(float(values[0]))
    if values[-1] < -floor:
        raise not_a_kernel(float(values[-1]), "the eigenvalue")
    return Eigenvalues(values, floor, int(np.count_nonzero(values > floor)))


def not_a_kernel(smallest: float, what: str) -> InvalidAnalysisError:
    """The error for a matrix that has `what`, which is `smallest`: negative beyond rounding."""
    return InvalidAnalysisError(
        f"The matrix has {what} {smallest:.6g}, so it is not a kernel's.",
        advice="Kernels of distinct outputs cannot be mixed; add a ridge if this is intended.",
        smallest=smallest,
    )
