"""One symmetric eigendecomposition of a kernel: what every ridge and every time is read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from workers.analyses.checks import Floats, check_gram
from workers.solves.errors import SolveFailedError

EIGENSYSTEM_COPIES = 5
"""Float64 squares alive at once while a Gram is checked and decomposed (LAPACK's dsyevd works in
two of them)."""


@dataclass(frozen=True)
class Eigensystem:
    """K = V diag(w) Vᵀ: `kernel` (m, m), `values` w (m,) ascending, `vectors` V (m, m), float64.

    `rounding`, in units of K: entries rounded to `eps` relative accuracy move eigenvalues by up
    to eps·‖|K|‖₂ ~ eps·λ₁, the eigensolver by up to m·2⁻⁵²·λ₁; it is the larger of the two.
    """

    kernel: Floats
    values: Floats
    vectors: Floats
    rounding: float

    @property
    def size(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """tr(K)/m, the unit of relative ridges."""
        return float(np.trace(self.kernel)) / self.size

    def definite(self, ridge: float) -> bool:
        """Whether K + ridge·I is positive definite in this arithmetic."""
        return bool(self.values[0] + ridge > 0)

    def require_definite(self, ridge: float) -> None:
        """Raises SolveFailedError with the ridge that would do."""
        if not self.definite(ridge):
            needed = 2 * max(-float(self.values[0]), 0.0) + 10 * self.rounding
            raise SolveFailedError(
                f"K + {ridge:.6g} I is not positive definite: the smallest eigenvalue of K is"
                f" {self.values[0]:.6g}.",
                advice=f"Raise the ridge to {needed:.3g} (absolute) or more.",
                suggested_ridge=needed,
            )

    def condition(self, ridge: float) -> float | None:
        """λ_max/λ_min of K + ridge·I; None where that is not positive definite."""
        if not self.definite(ridge):
            return None
        return float((self.values[-1] + ridge) / (self.values[0] + ridge))

    def apply(self, factors: Floats, columns: Floats) -> Floats:
        """V diag(factors) Vᵀ B: (m,), (m, k) -> (m, k)."""
        result: Floats = self.vectors @ (factors[:, None] * (self.vectors.T @ columns))
        return result

    def rounding_note(self, ridge: float) -> list[str]:
        """What a reader must know of the digits of (K + ridge·I)⁻¹."""
        return rounding_note(float(self.values[0]) + ridge, self.rounding, ridge)


def rounding_note(smallest: float, rounding: float, ridge: float) -> list[str]:
    """The same for a `smallest` eigenvalue of K + ridge·I and `Eigensystem.rounding`."""
    if smallest >= rounding:
        return []
    return [
        f"The smallest eigenvalue of K + {ridge:.3g} I is {smallest:.3g}, below the rounding"
        f" of the stored entries ({rounding:.3g}): the answer follows rounding errors."
        f" Raise the ridge above {rounding:.3g} or store the Gram matrix in float64."
    ]


def eigensystem(matrix: NDArray[Any]) -> Eigensystem:
    """Decompose a Gram matrix (m, m) in float32 or float64. O(m³).

    Raises InvalidAnalysisError if it is not finite or not symmetric.
    """
    gram = check_gram(matrix)
    values, vectors = linalg.eigh(gram.values, driver="evd", check_finite=False)
    rounding = kernel_rounding(gram.epsilon, len(values), float(np.abs(values).max()))
    return Eigensystem(gram.values, values, vectors, rounding)


def kernel_rounding(epsilon: float, rows: int, largest: float) -> float:
    """`Eigensystem.rounding` of K (rows, rows) with entries of relative accuracy `epsilon`;
    `largest`: of its eigenvalues, in absolute value."""
    return max(epsilon, rows * float(np.finfo(np.float64).eps)) * largest


def relative_residuals(kernel: Floats, dual: Floats, targets: Floats, ridge: float) -> list[float]:
    """‖y − (K + ridge·I) α‖₂/‖y‖₂ per column, by a product with K itself; 0 for zero columns."""
    norms = np.linalg.norm(targets, axis=0)
    missing = np.linalg.norm(targets - kernel @ dual - ridge * dual, axis=0)
    return [float(r) for r in missing / np.where(norms > 0, norms, 1.0)]
