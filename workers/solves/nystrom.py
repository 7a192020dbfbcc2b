"""Inducing points as the model: minimise ‖K_mS α − y‖² + λ αᵀ K_SS α over M = |S| columns of K.

This is (K_Sm K_mS + λ K_SS) α = K_Sm y (Rudi, Camoriano, Rosasco 2015, eq. 9), solved as the least
squares problem it comes from: QR of [K_mS; √λ T] with TᵀT = K_SS. Forming K_Sm K_mS would square
the condition number, which NNGP kernels at small ridges do not survive.

Row panels of K_mS are assembled from stored tiles in worker tasks and folded into a triangular
factor at once, so a task keeps (M + k)² numbers whatever m is, and factors are merged in a fixed
tree: the answer does not depend on which worker did what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, qr, solve_triangular

from workers.solves.errors import InvalidSolveError
from workers.solves.holder import cancellation_check
from workers.solves.solution import Float64, Outcome, Solution, SolveStats
from workers.solves.source import TileSource, row_panel

FIRST_JITTER = 1e-12  # × tr(K_SS)/M, added to K_SS before its Cholesky factorisation
# The most jitter tried: that, or what the rounding of float32 entries can make necessary.
LAST_JITTER = 1e-10
LAST_JITTER_EPSILONS = 100.0
BATCHES_PER_WORKER = 4  # tasks; more give finer progress, each returns one factor

T = TypeVar("T")


@dataclass(frozen=True)
class PanelTask:
    """Fold grid rows [start, stop) of K. `columns`: sorted indices S (M,) of the inducing rows.

    `rhs`: the right-hand sides of those rows only, (rows, k) float64.
    """

    source: TileSource
    columns: NDArray[np.int64]
    rhs: Float64
    start: int
    stop: int


@dataclass(frozen=True)
class Factor:
    """Some rows of the problem, folded: RᵀR = [K_pS y_p]ᵀ[K_pS y_p], R (<= M + k, M + k)."""

    r: Float64
    kernel_rows: Float64  # (rows of S in these panels, M): their part of K_SS
    kernel_index: NDArray[np.int64]  # which rows of K_SS those are
    bytes_read: int


def choose_inducing(rows: int, count: int, seed: int) -> NDArray[np.int64]:
    """`count` distinct row indices drawn uniformly, sorted; the same for the same seed."""
    if not 1 <= count <= rows:
        raise InvalidSolveError(
            f"{count} inducing points were asked for; the matrix has {rows} rows.",
            advice=f"Ask for 1 to {rows}.",
        )
    return np.sort(np.random.default_rng(seed).choice(rows, size=count, replace=False))


def panel(source: TileSource, i: int, columns: NDArray[np.int64]) -> tuple[Float64, int]:
    """K[rows of grid row i, columns] (rows, M) in float64, and the bytes read for it."""
    layout = source.layout
    width = layout.chunk_shape[0]
    start = i * width
    values = np.empty((min(start + width, layout.shape[0]) - start, columns.size))
    bytes_read = 0
    for j, tile in enumerate(row_panel(layout, i)):
        low, high = np.searchsorted(columns, [j * width, (j + 1) * width])
        if low == high:
            continue
        entries = source.read(tile)
        bytes_read += entries.nbytes
        oriented = entries.T if tile.i != i else entries
        values[:, low:high] = oriented[:, columns[low:high] - j * width]
    return values, bytes_read


def fold_panels(task: PanelTask, check_stop: Callable[[], None] | None = None) -> Factor:
    """The factor of some panels. Runs in a worker or in this process."""
    check_stop = check_stop or cancellation_check()
    layout, columns = task.source.layout, task.columns
    width = layout.chunk_shape[0]
    first_row = task.start * width
    r = np.zeros((0, columns.size + task.rhs.shape[1]))
    waiting: list[Float64] = []
    kernel_rows, kernel_index, bytes_read = [], [], 0
    for i in range(task.start, task.stop):
        check_stop()
        values, read = panel(task.source, i, columns)
        bytes_read += read
        low, high = np.searchsorted(columns, [i * width, (i + 1) * width])
        kernel_rows.append(values[columns[low:high] - i * width])
        kernel_index.append(np.arange(low, high))
        at = i * width - first_row
        waiting.append(np.hstack([values, task.rhs[at : at + len(values)]]))
        # A QR costs (M + k)² times all its rows, so wait for as many new ones as the factor has.
        if sum(map(len, waiting)) >= columns.size or i == task.stop - 1:
            r = _triangle(np.vstack([r, *waiting]))
            waiting = []
    return Factor(r, np.vstack(kernel_rows), np.concatenate(kernel_index), bytes_read)


def merge(a: Factor, b: Factor) -> Factor:
    """The factor of the rows of both."""
    return Factor(
        _triangle(np.vstack([a.r, b.r])),
        np.vstack([a.kernel_rows, b.kernel_rows]),
        np.concatenate([a.kernel_index, b.kernel_index]),
        a.bytes_read + b.bytes_read,
    )


def finish(factor: Factor, *, rhs: int, ridge: float, tolerance: float, epsilon: float) -> Solution:
    """Solve the folded problem: value (M, k) in the order of the columns.

    `epsilon`: of the stored dtype. The certificate is the relative residual of the normal
    equations, evaluated without them: ‖K_Sm(K_mS α − y) + λ K_SS α‖₂ / ‖K_Sm y‖₂.
    """
    m_s = factor.kernel_rows.shape[1]
    stats = SolveStats(method="nystrom", applications=1, bytes_read=factor.bytes_read)
    kernel = np.empty((m_s, m_s))
    kernel[factor.kernel_index] = factor.kernel_rows
    if not (np.isfinite(factor.r).all() and np.isfinite(kernel).all()):
        return Solution(None, Outcome.NON_FINITE, stats)
    try:
        root, jitter = rounded_root(kernel, epsilon)
    except LinAlgError:
        stats.details["hint"] = "K_SS is indefinite beyond the rounding of the stored entries."
        return Solution(None, Outcome.NOT_POSITIVE_DEFINITE, stats)
    stacked = np.vstack([factor.r, np.hstack([np.sqrt(ridge) * root, np.zeros((m_s, rhs))])])
    triangle = _triangle(stacked)
    r, z = triangle[:m_s, :m_s], triangle[:m_s, m_s:]
    pivots = np.abs(np.diagonal(r))
    stats.details["jitter"] = jitter
    if len(r) < m_s or pivots.min() <= np.finfo(float).eps * pivots.max():
        stats.details["hint"] = "The inducing columns are linearly dependent and the ridge is 0."
        return Solution(None, Outcome.NOT_POSITIVE_DEFINITE, stats)
    alpha = solve_triangular(r, z, check_finite=False)
    stats.condition_estimate = float((pivots.max() / pivots.min()) ** 2)
    r_k, z_k = factor.r[:, :m_s], factor.r[:, m_s:]
    target = r_k.T @ z_k
    gradient = r_k.T @ (r_k @ alpha - z_k) + ridge * (kernel @ alpha)
    norms = np.linalg.norm(target, axis=0)
    stats.certified = (np.linalg.norm(gradient, axis=0) / np.where(norms > 0, norms, 1.0)).tolist()
    fit = np.linalg.norm(r_k @ alpha - z_k, axis=0)
    size = np.linalg.norm(z_k, axis=0)
    stats.details["training_residual"] = (fit / np.where(size > 0, size, 1.0)).tolist()
    within = max(stats.certified) <= tolerance
    return Solution(alpha, Outcome.CONVERGED if within else Outcome.FLOOR, stats)


def panel_tasks(
    source: TileSource, columns: NDArray[np.int64], rhs: Float64, workers: int
) -> list[PanelTask]:
    """All panels, in at most BATCHES_PER_WORKER tasks for each worker."""
    panels, width = source.layout.grid[0], source.layout.chunk_shape[0]
    count = max(1, min(panels, BATCHES_PER_WORKER * max(workers, 1)))
    bounds = [panels * k // count for k in range(count + 1)]
    return [
        PanelTask(source, columns, rhs[start * width : stop * width], start, stop)
        for start, stop in pairwise(bounds)
    ]


def reduce_tree(leaves: list[T], combine: Callable[[T, T], T]) -> T:
    """Combine neighbours, then neighbours of the results, until one is left."""
    level = leaves
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[-1:] if len(level) % 2 else []
        level = [combine(left, right) for left, right in pairs] + odd
    return level[0]


def embed(solution: Solution, columns: NDArray[np.int64], rows: int) -> Float64 | None:
    """The coefficients as a dual (m, k) that is zero off the inducing rows, for `predict`."""
    if solution.value is None:
        return None
    dual = np.zeros((rows, solution.value.shape[1]))
    dual[columns] = solution.value
    return dual


def _triangle(rows: Float64) -> Float64:
    r: Any = qr(rows, mode="r", overwrite_a=True, check_finite=False)[0]
    return np.ascontiguousarray(r[: rows.shape[1]])


def rounded_root(kernel: Float64, epsilon: float) -> tuple[Float64, float]:
    """Upper T with TᵀT = K_SS + jitter·I, the least jitter that works, and that jitter.

    Raises LinAlgError if K_SS is indefinite beyond the rounding `epsilon` of its entries.
    """
    m_s = len(kernel)
    scale = float(np.trace(kernel)) / m_s
    symmetric = 0.5 * (kernel + kernel.T)
    jitter = FIRST_JITTER * scale
    last = max(LAST_JITTER, LAST_JITTER_EPSILONS * epsilon) * scale
    while True:
        try:
            return cholesky(symmetric + jitter * np.eye(m_s), check_finite=False), jitter
        except LinAlgError:
            if not 0 < 10 * jitter <= last:
                raise
            jitter *= 10
