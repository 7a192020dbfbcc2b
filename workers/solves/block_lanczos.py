"""The largest eigenvalues of a large symmetric matrix: block Lanczos with full reorthogonalisation.

A block wider than the number of wanted eigenvalues needs far fewer passes over K than a vector at
a time: 4 to 8 for the top 10 or 50 of ReLU kernels. The space is thick-restarted when it reaches
its limit (Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000, in block form). Products are float32
while the space is built; at the end one float64 product gives Rayleigh quotients and the residuals
that certify them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh, qr

from workers.solves.errors import InvalidSolveError, SolveInterrupted, require_usable
from workers.solves.operator import Products
from workers.solves.solution import Float64, Outcome, SolveStats
from workers.solves.spectrum import Spectrum

EXTRA_COLUMNS = 10  # of a block beyond the wanted eigenvalues
BLOCK_MULTIPLE = 16  # wider blocks need fewer passes over K
SPACE_BYTES = 512 << 20  # of the basis; at least three blocks are kept whatever their size
TOP_TOLERANCE = 1e-4  # of `top_eigenvalue`
FLOOR_FACTOR = 3.0  # × eps × λ_max: residuals that float32 products cannot go below


def top_eigenpairs(
    operator: Products,
    count: int,
    *,
    tolerance: float = 1e-5,
    max_applications: int = 100,
    seed: int = 0,
    space_bytes: int = SPACE_BYTES,
    on_progress: Callable[[int, float], None] = lambda applications, residual: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Spectrum:
    """The `count` largest eigenvalues of K (m, m) with vectors (m, count) and residuals.

    Converged when every ‖K v − λ v‖₂ <= tolerance·λ_max; the certificate is in `residuals`. The
    error of a value is at most its residual, and mostly about the residual squared over the gap.
    Outcome FLOOR: float32 products reached their rounding above the tolerance. Raises
    InvalidSolveError unless 1 <= count <= m.
    """
    rows = operator.shape[0]
    if not 1 <= count <= rows:
        raise InvalidSolveError(
            f"{count} eigenvalues were asked for; the matrix has {rows} rows.",
            advice=f"Ask for 1 to {rows}.",
        )
    started = time.monotonic()
    stats = SolveStats(method="block-lanczos", placement=operator.placement)
    space = _Space(rows, count, np.random.default_rng(seed), space_bytes)
    outcome = Outcome.MAX_APPLICATIONS
    try:
        while stats.applications < max_applications - 1:  # one is kept for the certificate
            if should_stop():
                raise SolveInterrupted
            image = operator.apply(space.next)
            stats.applications += 1
            if not np.isfinite(image).all():
                return _ended(Outcome.NON_FINITE, stats, started)
            space.extend(image)
            worst = float(space.residuals.max()) / max(abs(float(space.values[0])), 1e-300)
            stats.residual_history.append(worst)
            on_progress(stats.applications, worst)
            floor = FLOOR_FACTOR * operator.epsilon
            if worst <= max(tolerance / 2, floor) or space.exhausted:
                outcome = Outcome.CONVERGED
                break
        vectors = space.vectors()
        image = operator.apply(vectors, precise=True)
    except SolveInterrupted:
        return _ended(Outcome.CANCELLED, stats, started)
    stats.applications += 1
    stats.precise_applications += 1
    values, turn = np.linalg.eigh(_symmetric(vectors.T @ image))
    order = np.argsort(values)[::-1]
    values, turn = values[order], turn[:, order]
    vectors, image = vectors @ turn, image @ turn
    residuals: Float64 = np.linalg.norm(image - vectors * values, axis=0)
    scale = float(np.abs(values).max(initial=0.0))
    if outcome is Outcome.CONVERGED and residuals.max() > tolerance * scale:
        outcome = Outcome.FLOOR
    stats.iterations = len(stats.residual_history)
    stats.largest_ritz = float(values[0])
    stats.certified = (residuals / scale).tolist() if scale > 0 else [0.0] * count
    stats.seconds = time.monotonic() - started
    return Spectrum(values, vectors, residuals, count == rows, outcome, stats)


def block_columns(count: int) -> int:
    """Vectors that are multiplied at once to find `count` eigenvalues."""
    return -(-(count + EXTRA_COLUMNS) // BLOCK_MULTIPLE) * BLOCK_MULTIPLE


def top_eigenvalue(operator: Products, *, should_stop: Callable[[], bool]) -> float:
    """λ₁ to TOP_TOLERANCE. Raises SolveInterrupted, and SolveFailedError if there is none."""
    found = top_eigenpairs(operator, 1, tolerance=TOP_TOLERANCE, should_stop=should_stop)
    require_usable(found.outcome, "The largest eigenvalue")
    return float(found.values[0])


class _Space:
    """An orthonormal basis V of a Krylov space, T = VᵀKV, and the next block to multiply."""

    def __init__(self, rows: int, count: int, rng: np.random.Generator, space_bytes: int) -> None:
        self.block = min(rows, block_columns(count))
        self.count = count
        # Room for what a restart keeps (one block) and for two more.
        self.limit = max(space_bytes // (8 * rows), 3 * self.block)
        self.basis: Float64 = np.zeros((rows, 0))
        self.projected: Float64 = np.zeros((0, 0))
        self.next: Float64 = _orthonormal(rng.standard_normal((rows, self.block)))[0]
        self.values: Float64 = np.zeros(0)
        self.residuals: Float64 = np.zeros(0)
        self.exhausted = False
        self._turn: Float64 = np.zeros((0, 0))

    def extend(self, image: Float64) -> None:
        """Take in the next block and `image`, K times it."""
        width = self.next.shape[1]
        self.basis = np.hstack([self.basis, self.next])
        size = self.basis.shape[1]
        coefficients = self.basis.T @ image
        image = image - self.basis @ coefficients
        again = self.basis.T @ image  # once is not enough in floating point
        image -= self.basis @ again
        coefficients += again
        grown = np.zeros((size, size))
        grown[: size - width, : size - width] = self.projected
        grown[:, size - width :] = coefficients
        grown[size - width :, :] = coefficients.T
        grown[size - width :, size - width :] = _symmetric(coefficients[size - width :])
        self.projected = grown
        values, turn = eigh(grown, check_finite=False)
        top = slice(None, -self.count - 1, -1)
        self._turn = turn
        self.values = values[top]
        room = self.basis.shape[0] - size
        if room <= 0:
            self.exhausted, self.residuals = True, np.zeros(self.count)
            return
        self.next = self._complement(image, min(width, room))
        coupling = self.next.T @ image
        self.residuals = np.linalg.norm(coupling @ turn[size - width :, top], axis=0)
        if size + self.block > self.limit:
            self._restart(values, turn)

    def vectors(self) -> Float64:
        """Ritz vectors (m, count) of the largest Ritz values."""
        result: Float64 = self.basis @ self._turn[:, : -self.count - 1 : -1]
        return result

    def _complement(self, image: Float64, columns: int) -> Float64:
        """Orthonormal columns that span `image` where it has them, orthogonal to the basis."""
        q: Float64 = qr(image, mode="economic", pivoting=True, check_finite=False)[0][:, :columns]
        # Where the image has no more columns (K of low rank), q is made of rounding errors.
        for _ in range(2):
            q = _orthonormal(q - self.basis @ (self.basis.T @ q))[0]
        return q

    def _restart(self, values: Float64, turn: Float64) -> None:
        kept = slice(len(values) - self.block, None)
        self.basis = self.basis @ turn[:, kept]
        self.projected = np.diag(values[kept])
        self._turn = np.eye(self.block)


def _ended(outcome: Outcome, stats: SolveStats, started: float) -> Spectrum:
    stats.seconds = time.monotonic() - started
    return Spectrum(np.zeros(0), None, None, False, outcome, stats)


def _orthonormal(block: Float64) -> tuple[Float64, Float64]:
    q, r = qr(block, mode="economic", check_finite=False)
    return q, r


def _symmetric(a: Float64) -> Float64:
    return 0.5 * (a + a.T)
