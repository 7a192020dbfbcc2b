"""Preconditioners of block CG: the diagonal, or a damped low-rank approximation of K.

The low-rank one comes from a factor F (m, r) with K ≈ F Fᵀ (pivoted_columns.py). With the
eigendecomposition F Fᵀ = U S Uᵀ,

    P⁻¹ = U (S + λ)⁻¹ Uᵀ + (I − U Uᵀ) / (λ + ρ),

where ρ stands for the eigenvalues of K that the factor leaves out. With ρ = 0 (the textbook form)
the system keeps the spread between λ and those eigenvalues; Frangella, Tropp and Udell
(Randomized Nyström preconditioning, SIAM J. Matrix Anal. Appl. 44, 2023, eq. 1.3) take the
smallest of S. Here it is the larger of that and the mean of what was left out, (tr K − tr S)/(m −
r), which also holds where the columns were nearly dependent and the smallest of S is far too
small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workers.solves.cg_state import Preconditioner
from workers.solves.solution import Float64

# Relative error of P⁻¹ on the directions of the largest eigenvalues at which float32 is given up.
FLOAT32_ERROR = 1e-2
STRIP_ROWS = 4096  # rows of a factor turned into eigenvectors at a time


def jacobi(diagonal: Float64, ridge: float) -> Preconditioner:
    """P = diag(K) + λ. `diagonal` (m,) must be positive after the ridge is added."""
    scale = (diagonal + ridge)[:, None]
    return lambda vectors: vectors / scale


@dataclass(frozen=True)
class LowRank:
    """K ≈ U S Uᵀ: `basis` U (m, r) orthonormal, `values` S (r,), descending and positive.

    `remainder`: the mean of the eigenvalues left out, (tr K − tr S)/(m − r), at least 0.
    """

    basis: NDArray[np.floating]
    values: Float64
    remainder: float

    @property
    def rank(self) -> int:
        return int(self.values.size)

    def exact_enough(self, ridge: float) -> LowRank:
        """The same with a float64 basis where float32 is too coarse for this ridge."""
        if self.basis.dtype == np.float32 and self._needs_float64(ridge + self._rho):
            return replace(self, basis=self.basis.astype(np.float64))
        return self

    def damped(self, ridge: float) -> Preconditioner:
        """The preconditioner for K + ridge·I."""
        if not self.rank:
            return lambda vectors: vectors
        basis, rho = self.exact_enough(ridge).basis, self._rho
        weights = ((ridge + rho) / (self.values + ridge) - 1.0)[:, None]

        def apply(vectors: Float64) -> Float64:
            # In units of 1/(λ + ρ); CG does not see the scale of its preconditioner.
            inner = basis.T @ vectors.astype(basis.dtype, copy=False)
            correction = basis @ (weights * inner).astype(basis.dtype, copy=False)
            result: Float64 = vectors + correction
            return result

        return apply

    def damped_without(self, rows: NDArray[np.int64], ridge: float) -> Preconditioner:
        """`damped` for K with `rows` and columns of zeros.

        The same rows and columns left out of P = U (S − ρ) Uᵀ + (λ + ρ) I, inverted by Woodbury's
        identity with the eigendecomposition of an (r, r) matrix: one basis serves all choices.
        """
        if not self.rank:
            return lambda vectors: vectors
        basis, damping = self.exact_enough(ridge).basis, ridge + self._rho
        root = np.sqrt(np.maximum(self.values - self._rho, 0.0))
        left_out = basis[rows].astype(np.float64)
        gram = np.eye(self.rank) - left_out.T @ left_out
        values, vectors = np.linalg.eigh(root[:, None] * gram * root)
        turn = root[:, None] * vectors
        weights = -1.0 / (np.maximum(values, 0.0) + damping)

        def apply(vectors: Float64) -> Float64:
            seen = vectors.astype(basis.dtype)
            seen[rows] = 0.0
            weighted = turn @ (weights[:, None] * (turn.T @ (basis.T @ seen)))
            result: Float64 = vectors + basis @ weighted.astype(basis.dtype, copy=False)
            result[rows] = vectors[rows]
            return result

        return apply

    @property
    def _rho(self) -> float:
        return max(self.remainder, float(self.values[-1])) if self.rank else self.remainder

    def _needs_float64(self, damping: float) -> bool:
        epsilon = float(np.finfo(np.float32).eps)
        return epsilon * float(self.values[0]) > FLOAT32_ERROR * damping


def low_rank(factor: Float64, trace: float, *, smallest_ridge: float = 0.0) -> LowRank:
    """Eigendecomposition of F Fᵀ for F (m, r), which is overwritten.

    `trace`: of K. The basis is kept in float32 where that is exact enough for a damping of
    `smallest_ridge` and more.
    """
    rows, rank = factor.shape
    gram = factor.T @ factor
    values, vectors = np.linalg.eigh(0.5 * (gram + gram.T))
    # What rounding has made of zero eigenvalues has no eigenvector to trust.
    keep = values > rank * np.finfo(np.float64).eps * values.max(initial=0.0)
    values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
    left_out = max(trace - float(values.sum()), 0.0) / max(rows - values.size, 1)
    # Where K is below the mean of what is left out, the factor knows no better than the damping;
    # with its small values (columns nearly dependent) it would do harm.
    keep = values > left_out
    values, vectors = values[keep], vectors[:, keep]
    damping = smallest_ridge + max(left_out, float(values[-1]) if values.size else 0.0)
    top = float(values[0]) if values.size else 0.0
    narrow = float(np.finfo(np.float32).eps) * top <= FLOAT32_ERROR * damping
    turn = vectors / np.sqrt(values)
    basis: NDArray[np.floating] = (
        np.empty((rows, values.size), dtype=np.float32) if narrow else factor[:, : values.size]
    )
    for start in range(0, rows, STRIP_ROWS):
        strip = slice(start, start + STRIP_ROWS)
        basis[strip] = factor[strip] @ turn
    return LowRank(basis, values, left_out)
