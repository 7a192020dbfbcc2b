"""Cholesky factorisation K + shift·I = RᵀR in blocks, out of core and on any number of workers.

Left-looking: block row j of R is made of block row j of K and of the rows of R above it, which are
read from the store, so a worker holds a few blocks whatever m is, and each block of R is written
once. Two kinds of tasks (few: about b²/8 for b blocks along an edge):

    diagonal j:         R[j,j] = chol(K[j,j] + shift·I − Σ_{k<j} R[k,j]ᵀR[k,j])
    row j, columns I:   R[j,i] = R[j,j]⁻ᵀ (K[j,i] − Σ_{k<j} R[k,j]ᵀR[k,i]),  i in I

Their dependencies are handed to Dask at once, so rows overlap and lost tasks are run again; a task
whose blocks are there already has nothing to do, which is how a solve is resumed.

LAPACK only ever sees one block. That matters: the float64 potrf of the OpenBLAS in SciPy's and
NumPy's wheels crashes with several threads from about 16000 rows on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from storage.format import ArrayLayout
from workers.solves.dask_tasks import run_to_end
from workers.solves.holder import cancellation_check
from workers.solves.source import TileSource, tile_at
from workers.solves.tiled_factor import TiledFactor

BLOCK_ROWS = 2048  # of a block of R at least, if tiles are smaller
GROUP_BLOCKS = 4  # blocks of one row of R that a task makes; they share what it reads


@dataclass(frozen=True)
class Factoring:
    """Factor the symmetric matrix of `source`, plus shift·I, into `factor`."""

    source: TileSource
    factor: TiledFactor
    shift: float


@dataclass(frozen=True)
class Step:
    """Row `row` of R: its blocks [first, last); the diagonal one alone if first == row."""

    row: int
    first: int
    last: int


@dataclass(frozen=True)
class Done:
    """What one task, or all of them, did.

    failed_row: where K + shift·I is not positive definite. finite: False if an entry of K is not.
    smallest, largest: of the squared diagonal of R; their ratio is a lower bound of the condition
        number of K + shift·I.
    log_determinant: of K + shift·I, the part that these steps have.
    """

    bytes_read: int = 0
    bytes_written: int = 0
    failed_row: int | None = None
    finite: bool = True
    smallest: float = math.inf
    largest: float = 0.0
    log_determinant: float = 0.0

    @property
    def ok(self) -> bool:
        return self.failed_row is None and self.finite


def block_rows(layout: ArrayLayout, wanted: int = BLOCK_ROWS) -> int:
    """Rows of a block: whole tiles, at least `wanted` if there are as many."""
    tile = layout.chunk_shape[0]
    return tile * max(1, min(-(-wanted // tile), layout.grid[0]))


def factor_bytes(rows: int, block: int, itemsize: int) -> int:
    """Size of R in the store."""
    blocks = -(-rows // block)
    return blocks * (blocks + 1) // 2 * (block * block * itemsize + 4)


def read_bytes(rows: int, block: int, itemsize: int) -> int:
    """What the factorisation reads of R itself, about: b³/6 blocks, and a GROUP_BLOCKS-th more."""
    blocks = -(-rows // block)
    return int(blocks**3 / 6 * (1 + 1 / GROUP_BLOCKS) * block * block * itemsize)


def steps(blocks: int) -> Iterator[Step]:
    """All steps, every one after those it depends on."""
    for row in range(blocks):
        yield Step(row, row, row + 1)
        # Groups are aligned to fixed columns: each depends on one group of the row above.
        for group in range((row + 1) // GROUP_BLOCKS, -(-blocks // GROUP_BLOCKS)):
            first = max(row + 1, group * GROUP_BLOCKS)
            last = min(blocks, (group + 1) * GROUP_BLOCKS)
            if first < last:
                yield Step(row, first, last)


def needed_by(step: Step) -> list[tuple[int, int]]:
    """(row, group or -1 for the diagonal) of the steps whose blocks this one reads last."""
    if step.first == step.row:
        return [(step.row - 1, step.row // GROUP_BLOCKS)] if step.row else []
    own = [(step.row - 1, step.first // GROUP_BLOCKS)] if step.row else []
    return [(step.row, -1), *own]


def run_step(
    job: Factoring, step: Step, *before: Done, check_stop: Callable[[], None] | None = None
) -> Done:
    """Make the blocks of one step that are not there. Runs in a worker or in this process.

    Nothing is done after a failure in one of the steps `before`, which is passed on instead.
    """
    for one in before:
        if not one.ok:
            return Done(failed_row=one.failed_row, finite=one.finite)
    check_stop = check_stop or cancellation_check()
    if step.first == step.row:
        return _diagonal(job, step.row, check_stop)
    return _row(job, step, check_stop)


def factorise(
    client: Client | None,
    job: Factoring,
    *,
    should_stop: Callable[[], bool],
    check_stop: Callable[[], None],
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> Done:
    """All steps; the sum of what they did. Raises SolveInterrupted, and what run_to_end raises."""
    listed = list(steps(job.factor.blocks))
    results: dict[tuple[int, int], Any] = {}
    for number, step in enumerate(listed):
        before = [results[key] for key in needed_by(step)]
        if client is None:
            made: Any = run_step(job, step, *before, check_stop=check_stop)
            on_done(number + 1, len(listed))
        else:
            made = client.submit(run_step, job, step, *before, pure=False)
        group = -1 if step.first == step.row else step.first // GROUP_BLOCKS
        results[(step.row, group)] = made
    if client is None:
        return total(*results.values())
    futures = list(results.values())
    futures.append(client.submit(total, *futures, pure=False))
    result: Done = run_to_end(client, futures, should_stop=should_stop, on_done=on_done)
    return result


def total(*parts: Done) -> Done:
    """The sum, with the first failure."""
    failed = [part.failed_row for part in parts if part.failed_row is not None]
    return Done(
        sum(part.bytes_read for part in parts),
        sum(part.bytes_written for part in parts),
        min(failed, default=None),
        all(part.finite for part in parts),
        min((part.smallest for part in parts), default=math.inf),
        max((part.largest for part in parts), default=0.0),
        math.fsum(part.log_determinant for part in parts),
    )


def _diagonal(job: Factoring, j: int, check_stop: Callable[[], None]) -> Done:
    factor = job.factor
    if factor.has((j, j)):
        return _pivots(factor.read((j, j)), Done())
    block = _load(job, j, j)
    read = block.nbytes
    if not np.isfinite(block).all():
        return Done(read, finite=False)
    (syrk,) = get_blas_funcs(("syrk",), (block,))
    (potrf,) = get_lapack_funcs(("potrf",), (block,))
    # Transposes of C-ordered blocks are what LAPACK takes without a copy: the upper triangle of
    # the block is the lower one of its transpose.
    lower = block.T
    for k in range(j):
        check_stop()
        above = factor.read((k, j))
        read += above.nbytes
        lower = syrk(-1.0, above.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    lower, info = potrf(lower, lower=1, clean=1, overwrite_a=1)
    if info:
        return Done(read, failed_row=factor.extent(j).start + info - 1)
    return _pivots(lower.T, Done(read, factor.write((j, j), lower.T)))


def _pivots(block: NDArray[Any], done: Done) -> Done:
    squares = np.diagonal(block).astype(np.float64) ** 2
    return replace(
        done,
        smallest=float(squares.min()),
        largest=float(squares.max()),
        log_determinant=float(np.log(squares).sum()),
    )


def _row(job: Factoring, step: Step, check_stop: Callable[[], None]) -> Done:
    factor, j = job.factor, step.row
    todo = [i for i in range(step.first, step.last) if not factor.has((j, i))]
    if not todo:
        return Done()
    blocks = {i: _load(job, j, i).T for i in todo}
    read = sum(block.nbytes for block in blocks.values())
    if not all(np.isfinite(block).all() for block in blocks.values()):
        return Done(read, finite=False)
    first = blocks[todo[0]]
    gemm, trsm = get_blas_funcs(("gemm", "trsm"), (first,))
    for k in range(j):
        left = factor.read((k, j))
        read += left.nbytes
        for i in todo:
            check_stop()
            right = factor.read((k, i))
            read += right.nbytes
            blocks[i] = gemm(-1.0, right.T, left.T, beta=1.0, c=blocks[i], trans_b=1, overwrite_c=1)
    diagonal = factor.read((j, j))
    read += diagonal.nbytes
    written = 0
    for i in todo:
        check_stop()
        solved = trsm(1.0, diagonal.T, blocks[i], side=1, lower=1, trans_a=1, overwrite_b=1)
        written += factor.write((j, i), solved.T)
    return Done(read, written)


def _load(job: Factoring, j: int, i: int) -> NDArray[Any]:
    """Block (j, i), j <= i, of K + shift·I in the dtype of the factor; upper triangle if j = i."""
    factor, layout = job.factor, job.source.layout
    rows, cols = factor.extent(j), factor.extent(i)
    values = np.zeros(factor.shape(j, i), dtype=factor.dtype)
    tile = layout.chunk_shape[0]
    for a in range(rows.start // tile, -(-rows.stop // tile)):
        for b in range(max(a, cols.start // tile), -(-cols.stop // tile)):
            part = tile_at(layout, a, b)
            down = slice(part.rows.start - rows.start, part.rows.stop - rows.start)
            along = slice(part.cols.start - cols.start, part.cols.stop - cols.start)
            values[down, along] = job.source.read(part)
    if i == j:
        values[np.diag_indices(len(values))] += job.shift
    return values
