"""A factor F (m, r) with K ≈ F Fᵀ from r columns of K, chosen a block at a time.

Block randomly pivoted Cholesky (Chen, Epperly, Tropp, Webber, Randomly pivoted Cholesky, CPAM 2025;
the block form with pruning is that of Epperly, Tropp, Webber, Embrace rejection, 2024): a block of
columns is drawn with probability proportional to the diagonal of what is not yet approximated,
near-dependent ones are dropped, the rest become Cholesky columns. With one block and a constant
diagonal that is uniform Nyström sampling. Tiles make random columns as dear as a whole pass, so
there are few, large blocks: the first shows what the second should look at.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpstrf

from workers.solves.solution import Float64

Columns = Callable[[NDArray[np.int64]], NDArray[np.floating]]  # ascending (b,) -> K[:, b] (m, b)

# Pivots below this many roundings of an entry are dropped as dependent: their columns are noise.
NOISE_FACTOR = 30.0
LEAST_TILES = 8  # that chunk-aligned columns are drawn from
STRIP_ROWS = 4096  # rows of new columns worked on at a time


def pivoted_columns(
    columns: Columns,
    diagonal: Float64,
    rank: int,
    *,
    rounds: int = 2,
    seed: int = 0,
    epsilon: float = 1.2e-7,
    pool: NDArray[np.int64] | None = None,
    enough: float = 0.0,
    on_round: Callable[[int], None] = lambda done: None,
) -> tuple[Float64, NDArray[np.int64]]:
    """F (m, <= rank) and the pivots, in the order of F's columns.

    `diagonal` (m,) of K; `columns(b)` gives K[:, b] for sorted indices b, at one pass over the
    stored tiles at most; `epsilon` is the rounding of its entries. Columns are drawn from
    `pool` (None: from all), and no further block once the trace that is left out is at most
    `enough`. Deterministic for a seed. All of F is NaN if a column holds what is not finite.
    """
    rows = diagonal.size
    rng = np.random.default_rng(seed)
    factor = np.empty((rows, rank))
    pivots: list[int] = []
    remaining = diagonal.astype(np.float64, copy=True)
    noise = NOISE_FACTOR * epsilon * float(diagonal.max(initial=0.0))
    used = 0
    for number in range(rounds):
        want = (rank - used) // (rounds - number)
        candidates = np.flatnonzero(remaining > noise)
        if pool is not None:
            candidates = np.intersect1d(candidates, pool)
        if number and remaining.sum() <= enough:
            break
        if want == 0 or candidates.size == 0:
            break
        weight = remaining[candidates] / remaining[candidates].sum()
        chosen = np.sort(
            rng.choice(candidates, size=min(want, candidates.size), replace=False, p=weight)
        )
        block = columns(chosen).astype(np.float64)
        if not np.isfinite(block).all():
            factor[:, :] = np.nan
            return factor, np.array(pivots, dtype=np.int64)
        for start in range(0, rows, STRIP_ROWS):
            strip = slice(start, start + STRIP_ROWS)
            block[strip] -= factor[strip, :used] @ factor[chosen, :used].T
        kept, triangle = _independent(block[chosen], noise)
        new = slice(used, used + kept.size)
        for start in range(0, rows, STRIP_ROWS):
            strip = slice(start, start + STRIP_ROWS)
            factor[strip, new] = solve_triangular(
                triangle, block[strip][:, kept].T, lower=True, check_finite=False
            ).T
        remaining -= np.einsum("ij,ij->i", factor[:, new], factor[:, new])
        remaining[chosen] = 0.0
        np.maximum(remaining, 0.0, out=remaining)
        pivots.extend(chosen[kept].tolist())
        used = new.stop
        on_round(number + 1)
    return factor[:, :used], np.array(pivots, dtype=np.int64)


def aligned_pool(rows: int, tile_rows: int, rank: int, *, seed: int) -> NDArray[np.int64]:
    """Columns of a few whole tiles, of at least LEAST_TILES where there are as many.

    Gathering `rank` of them reads those tiles only, in place of all. More tiles than needed,
    because neighbours in a data set may be alike (sorted by class).
    """
    tiles = -(-rows // tile_rows)
    count = min(tiles, max(LEAST_TILES, -(-rank // tile_rows)))
    chosen = np.sort(np.random.default_rng(seed).choice(tiles, size=count, replace=False))
    columns = [np.arange(t * tile_rows, min((t + 1) * tile_rows, rows)) for t in chosen]
    return np.concatenate(columns)


def _independent(core: Float64, tolerance: float) -> tuple[NDArray[np.int64], Float64]:
    """Pivots kept (p,) and the lower L (p, p) with L Lᵀ = core[kept][:, kept]."""
    c, order, count, _ = dpstrf(0.5 * (core + core.T), tol=tolerance, lower=1)
    kept = (order[:count] - 1).astype(np.int64)
    return kept, np.tril(c[:count, :count])
