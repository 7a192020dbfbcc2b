"""Direct solve of a small system in float64: one Cholesky factorisation in one process.

The blocked, distributed and out-of-core factorisation for larger m belongs in a file of its own
beside this one, with the same `Solution`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.blas import dsymv
from scipy.linalg.lapack import dpocon
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from workers.solves.errors import InvalidSolveError
from workers.solves.holder import cancellation_check
from workers.solves.policy import MAX_DIRECT_ROWS
from workers.solves.products import multiply_tiles
from workers.solves.solution import Float64, Outcome, Solution, SolveStats
from workers.solves.source import TileSource, tiles_between

LANCZOS_TOLERANCE = 1e-2  # relative accuracy of the eigenvalue that the advice names


@dataclass(frozen=True)
class DirectTask:
    """(K + ridge·I) X = B, all of it in one worker process; `rhs` (m, k) float64."""

    source: TileSource
    rhs: Float64
    ridge: float
    tolerance: float


def solve_direct(task: DirectTask, check_stop: Callable[[], None] | None = None) -> Solution:
    """Factor, solve, and certify with a fresh pass over the stored tiles.

    Not positive definite: the outcome says so, and `details` holds an estimate of the smallest
    eigenvalue of K and the ridge that would make the system solvable.
    Raises InvalidSolveError above MAX_DIRECT_ROWS, SolveInterrupted when `check_stop` (by default:
    has the Dask task that runs this been cancelled?) says so.
    """
    check_stop = check_stop or cancellation_check()
    rows = task.source.layout.shape[0]
    if rows > MAX_DIRECT_ROWS:
        raise InvalidSolveError(
            f"A direct solve takes at most {MAX_DIRECT_ROWS} rows; the matrix has {rows}.",
            advice="Use method 'cg'.",
        )
    started = time.monotonic()
    stats = SolveStats(method="cholesky", placement="one worker", applications=1)
    square, sums = load_square(task.source, check_stop)
    stats.bytes_read = task.source.layout.stored_bytes
    if not np.isfinite(sums).all():
        return Solution(None, Outcome.NON_FINITE, stats)
    square[np.diag_indices(rows)] += task.ridge
    check_stop()
    try:
        # Column-major and lower: LAPACK factors in place, so the square is the only copy.
        factor = cholesky(square, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        del square
        stats.details = _diagnose(task, check_stop)
        stats.seconds = time.monotonic() - started
        return Solution(None, Outcome.NOT_POSITIVE_DEFINITE, stats)
    x = cho_solve((factor, True), task.rhs, check_finite=False)
    reciprocal, _ = dpocon(factor, float(sums.max()) + task.ridge, uplo="L")
    stats.condition_estimate = float(1 / reciprocal) if reciprocal > 0 else None
    del square, factor
    certificate = true_residual(task.source, x, task.rhs, task.ridge, check_stop)
    stats.applications += 1
    stats.precise_applications = 1
    stats.bytes_read *= 2
    stats.certified = certificate.tolist()
    worst = float(certificate.max(initial=0.0))
    stats.certified_history = [(0, worst)]
    stats.seconds = time.monotonic() - started
    if not np.isfinite(worst):
        return Solution(None, Outcome.NON_FINITE, stats)
    return Solution(x, Outcome.CONVERGED if worst <= task.tolerance else Outcome.FLOOR, stats)


def load_square(
    source: TileSource, check_stop: Callable[[], None] = lambda: None
) -> tuple[Float64, Float64]:
    """The lower triangle of a symmetric matrix, column-major (m, m) float64, and Σ|K[i, :]| (m,).

    Above the diagonal only the diagonal tiles are filled. The sums are not finite if an entry is
    not, and their maximum is the 1-norm.
    """
    rows = source.layout.shape[0]
    square = np.zeros((rows, rows), order="F")
    sums = np.zeros(rows)
    for tile in tiles_between(source.layout, 0, source.layout.stored_chunks):
        check_stop()
        values = source.read(tile).astype(np.float64)
        square[tile.cols, tile.rows] = values.T
        np.abs(values, out=values)
        sums[tile.rows] += values.sum(axis=1)
        if tile.mirrored:
            sums[tile.cols] += values.sum(axis=0)
    return square, sums


def true_residual(
    source: TileSource,
    x: Float64,
    rhs: Float64,
    ridge: float,
    check_stop: Callable[[], None] = lambda: None,
) -> Float64:
    """‖b − (K + λI)x‖₂/‖b‖₂ per column, with float64 products; 0 for zero columns."""
    tiles = tiles_between(source.layout, 0, source.layout.stored_chunks)
    product = multiply_tiles(source, tiles, x, precise=True, check_stop=check_stop).values
    norms = np.linalg.norm(rhs, axis=0)
    residual: Float64 = np.linalg.norm(rhs - product - ridge * x, axis=0)
    return residual / np.where(norms > 0, norms, 1.0)


def _diagnose(task: DirectTask, check_stop: Callable[[], None]) -> dict[str, float | str]:
    """Smallest eigenvalue of K by Lanczos, and the ridge that it asks for."""
    source, rows = task.source, task.source.layout.shape[0]
    square, _ = load_square(source, check_stop)

    def multiply(v: Float64) -> Float64:
        check_stop()
        product: Float64 = dsymv(1.0, square, v.ravel(), lower=1)
        return product

    if rows < 3:  # too small for Lanczos
        ends = np.linalg.eigvalsh(square)  # reads the lower triangle
        smallest, largest = float(ends[0]), float(ends[-1])
    else:
        operator = LinearOperator((rows, rows), matvec=multiply, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(rows)
        options = {"k": 1, "tol": LANCZOS_TOLERANCE, "v0": start, "return_eigenvectors": False}
        try:
            smallest = float(eigsh(operator, which="SA", **options)[0])
            largest = float(eigsh(operator, which="LA", **options)[0])
        except ArpackNoConvergence:
            return {"hint": "The smallest eigenvalue could not be estimated; double the ridge."}
    epsilon = float(np.finfo(source.layout.dtype).eps)
    needed = 2 * max(-smallest, 0.0) + 10 * epsilon * abs(largest)
    return {
        "smallest_eigenvalue": smallest,
        "largest_eigenvalue": largest,
        "suggested_ridge": needed,
        "hint": f"The smallest eigenvalue of K is about {smallest:.3g}; "
        f"a ridge of {needed:.3g} makes the system solvable.",
    }
