"""The diagonal of (K + shift·I)⁻¹ from a tiled Cholesky factor, exactly, by all workers.

With K + shift·I = RᵀR the entry c of the diagonal is ‖R⁻ᵀ e_c‖². A task makes some columns of R⁻ᵀ
by streaming the blocks of R to the right of and below the first of them, keeps their squared norms
and forgets them: R⁻ᵀ as a whole is nowhere, and all tasks together cost m³/3 operations, as much
as the factorisation. What a task has found is kept beside the factor, so a job that dies goes on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from distributed import Client
from scipy.linalg import solve_triangular

from workers.solves.dask_tasks import run_to_end
from workers.solves.holder import cancellation_check
from workers.solves.scratch import ahead
from workers.solves.solution import Float64
from workers.solves.tiled_factor import TiledFactor

PANEL_BYTES = 256 << 20  # of the columns of R⁻ᵀ in one task: wider ones read the factor less often
_LEAST_COLUMNS = 16


def panel_columns(rows: int, block: int) -> int:
    """Columns of one task: a function of sizes alone, so that no machine changes the result."""
    fitting = PANEL_BYTES // (8 * rows)
    return min(block, max(_LEAST_COLUMNS, fitting - fitting % _LEAST_COLUMNS))


def panels(factor: TiledFactor) -> list[slice]:
    """The columns of each task, the longest first; none reaches beyond one block."""
    width = panel_columns(factor.rows, factor.block_rows)
    return [
        slice(start, min(start + width, extent.stop))
        for extent in map(factor.extent, range(factor.blocks))
        for start in range(extent.start, extent.stop, width)
    ]


def read_bytes(rows: int, block: int, itemsize: int) -> int:
    """What all tasks read of the factor, about: b³/6 blocks, once for each panel of a block."""
    blocks, each = -(-rows // block), -(-block // panel_columns(rows, block))
    return each * blocks * (blocks + 1) * (blocks + 2) // 6 * block * block * itemsize


def inverse_diagonal(
    client: Client | None,
    factor: TiledFactor,
    *,
    should_stop: Callable[[], bool],
    check_stop: Callable[[], None],
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> Float64:
    """Diagonal (m,) of (RᵀR)⁻¹. Raises SolveInterrupted, and what run_to_end raises."""
    listed = panels(factor)
    if client is None:
        parts = []
        for number, columns in enumerate(listed):
            parts.append(inverse_diagonal_part(factor, columns, check_stop))
            on_done(number + 1, len(listed))
        return np.concatenate(parts)
    futures = [client.submit(inverse_diagonal_part, factor, one, pure=False) for one in listed]
    futures.append(client.submit(np.concatenate, futures, pure=False))
    result: Float64 = run_to_end(client, futures, should_stop=should_stop, on_done=on_done)
    return result


def inverse_diagonal_part(
    factor: TiledFactor, columns: slice, check_stop: Callable[[], None] | None = None
) -> Float64:
    """Entries `columns`, within one block, of that diagonal. Runs in a worker or here."""
    check_stop = check_stop or cancellation_check()
    name, width = f"inverse-{columns.start}", columns.stop - columns.start
    kept: Float64 | None = factor.scratch.found(name, (width,), "float64")
    if kept is not None:
        return kept
    first = columns.start // factor.block_rows
    offset = factor.extent(first).start
    z = np.zeros((factor.rows - offset, width))  # rows above the panel's block are zero
    z[np.arange(columns.start, columns.stop) - offset, np.arange(width)] = 1.0
    order = [(j, i) for j in range(first, factor.blocks) for i in range(j, factor.blocks)]
    for (j, i), values in ahead(factor.read, order):  # Rᵀ Z = E
        check_stop()
        rows, cols = _moved(factor.extent(j), offset), _moved(factor.extent(i), offset)
        if i == j:
            z[rows] = solve_triangular(values, z[rows], trans="T", check_finite=False)
        else:
            z[cols] -= values.T @ z[rows].astype(values.dtype, copy=False)
    squares: Float64 = np.einsum("ij,ij->j", z, z)
    factor.scratch.write(name, squares)
    return squares


def _moved(extent: slice, offset: int) -> slice:
    return slice(extent.start - offset, extent.stop - offset)
