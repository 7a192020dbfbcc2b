"""Eigenvalues as a result, and how far to trust them; the dense way to get them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workers.solves.errors import InvalidSolveError, SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.policy import MAX_DIRECT_ROWS
from workers.solves.solution import Float64, Outcome, SolveStats

READ_COLUMNS = 2048  # columns of K taken at a time


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a symmetric matrix, the largest first.

    values (k,): k = m when `complete`. vectors (m, k) orthonormal, or None if not asked for.
    residuals (k,): ‖K v − λ v‖₂ from a fresh float64 product, which bounds the error of each value;
    None where no product was made (a dense eigensolver is backward stable: its error is about
    m·eps·‖K‖).
    """

    values: Float64
    vectors: Float64 | None
    residuals: Float64 | None
    complete: bool
    outcome: Outcome
    stats: SolveStats

    @property
    def noise(self) -> float:
        """Eigenvalues of a complete spectrum below this are rounding, whatever their sign."""
        return float(self.stats.details.get("noise", 0.0))

    @property
    def condition_number(self) -> float | None:
        """λ_max/λ_min of a complete spectrum; None if λ_min is lost in rounding."""
        if not self.complete or not self.values.size or self.values[-1] <= self.noise:
            return None
        return float(self.values[0] / self.values[-1])

    def effective_dimension(self, ridge: float) -> float | None:
        """Σ λ/(λ + ridge) of a complete spectrum, ridge > 0; None otherwise."""
        if not self.complete or ridge <= 0:
            return None
        positive = np.maximum(self.values, 0.0)
        return float((positive / (positive + ridge)).sum())

    def log_determinant(self, ridge: float) -> float | None:
        """log det(K + ridge·I) of a complete spectrum; None if that is not positive definite."""
        shifted = self.values + ridge
        if not self.complete or not shifted.size or shifted[-1] <= 0:
            return None
        return float(np.log(shifted).sum())


def dense_spectrum(
    operator: Operator, *, vectors: bool = False, check_stop: Callable[[], None] = lambda: None
) -> Spectrum:
    """All eigenvalues, and eigenvectors if asked, by LAPACK in this process.

    Takes 8 m² bytes, with eigenvectors 24 m². Raises InvalidSolveError above MAX_DIRECT_ROWS
    (use `top_eigenpairs` or `lanczos_quadrature`).
    """
    started, rows = time.monotonic(), operator.shape[0]
    if rows > MAX_DIRECT_ROWS:
        raise InvalidSolveError(
            f"A dense eigendecomposition takes at most {MAX_DIRECT_ROWS} rows; there are {rows}.",
            advice="Ask for the largest eigenvalues or a spectral density instead.",
        )
    stats = SolveStats(method="dense-eigen", placement=operator.placement, applications=1)
    square = np.empty((rows, rows), order="F")
    nothing = np.zeros(0)
    try:
        for start in range(0, rows, READ_COLUMNS):
            check_stop()
            chosen = np.arange(start, min(start + READ_COLUMNS, rows))
            square[:, chosen] = operator.columns(chosen)
        check_stop()
    except SolveInterrupted:
        return Spectrum(nothing, None, None, False, Outcome.CANCELLED, stats)
    if not np.isfinite(square).all():
        return Spectrum(nothing, None, None, False, Outcome.NON_FINITE, stats)
    if vectors:
        values, basis = np.linalg.eigh(square)
        found: Float64 | None = basis[:, ::-1]
    else:
        values, found = np.linalg.eigvalsh(square), None
    values = values[::-1]
    # The entries were rounded to their dtype before anybody looked: ‖E‖₂ ≤ eps·‖|K|‖ ~ eps·λ_max.
    largest = float(np.abs(values).max(initial=0.0))
    float64_noise = rows * float(np.finfo(np.float64).eps)
    stats.details["noise"] = max(operator.epsilon, float64_noise) * largest
    stats.seconds = time.monotonic() - started
    stats.largest_ritz, stats.smallest_ritz = float(values[0]), float(values[-1])
    spectrum = Spectrum(values, found, None, True, Outcome.CONVERGED, stats)
    stats.condition_estimate = spectrum.condition_number
    return spectrum
