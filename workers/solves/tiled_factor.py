"""A Cholesky factor in blocks in the store, and solves with it that stream it.

K + shift·I = RᵀR with R upper triangular; block (j, i), j <= i, is R[rows of j, rows of i], the
orientation in which symmetric Gram matrices are stored. It is made by tiled_cholesky.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from workers.solves.cg_state import Preconditioner
from workers.solves.dask_tasks import run_to_end
from workers.solves.errors import SolveInterrupted
from workers.solves.holder import cancellation_check
from workers.solves.scratch import Scratch, ahead
from workers.solves.solution import Float64

Block = tuple[int, int]


@dataclass(frozen=True)
class TiledFactor:
    """Where R of a matrix with `rows` rows lies, in blocks of `block_rows`, float32 or float64."""

    scratch: Scratch
    rows: int
    block_rows: int
    dtype: str

    @property
    def blocks(self) -> int:
        """Blocks along one edge."""
        return -(-self.rows // self.block_rows)

    def extent(self, block: int) -> slice:
        """Rows of the matrix in one block row."""
        return slice(block * self.block_rows, min((block + 1) * self.block_rows, self.rows))

    def shape(self, j: int, i: int) -> tuple[int, int]:
        rows, cols = self.extent(j), self.extent(i)
        return rows.stop - rows.start, cols.stop - cols.start

    def read(self, block: Block) -> NDArray[Any]:
        """Raises CorruptChunkError when it is not what was written, NotFoundError without it."""
        return self.scratch.read(_name(*block), self.shape(*block), self.dtype)

    def write(self, block: Block, values: NDArray[Any]) -> int:
        return self.scratch.write(_name(*block), values)

    def has(self, block: Block) -> bool:
        return self.scratch.has(_name(*block), self.shape(*block), self.dtype)


def solve_with_factor(
    factor: TiledFactor, rhs: Float64, check_stop: Callable[[], None] | None = None
) -> Float64:
    """(RᵀR)⁻¹ B for B (m, k): the factor is read twice, never all of it at once.

    Products are made in the dtype of the factor and summed in float64. Runs in a worker or here.
    """
    check_stop = check_stop or cancellation_check()
    x = np.array(rhs, dtype=np.float64)
    last = factor.blocks
    forward = [(j, i) for j in range(last) for i in range(j, last)]
    for (j, i), values in ahead(factor.read, forward):  # Rᵀ Y = B
        check_stop()
        rows, cols = factor.extent(j), factor.extent(i)
        if i == j:
            x[rows] = solve_triangular(values, x[rows], trans="T", check_finite=False)
        else:
            x[cols] -= values.T @ x[rows].astype(values.dtype)
    backward = [(j, i) for j in reversed(range(last)) for i in reversed(range(j, last))]
    for (j, i), values in ahead(factor.read, backward):  # R X = Y
        check_stop()
        rows, cols = factor.extent(j), factor.extent(i)
        if i == j:
            x[rows] = solve_triangular(values, x[rows], check_finite=False)
        else:
            x[rows] -= values @ x[cols].astype(values.dtype)
    return x


def factor_preconditioner(
    factor: TiledFactor, client: Client | None, should_stop: Callable[[], bool]
) -> Preconditioner:
    """`solve_with_factor` in one worker of the client, or in this process.

    The callable raises SolveInterrupted when told to stop.
    """

    def check() -> None:
        if should_stop():
            raise SolveInterrupted

    def apply(vectors: Float64) -> Float64:
        if client is None:
            return solve_with_factor(factor, vectors, check)
        argument = client.scatter(vectors, hash=False)
        future = client.submit(solve_with_factor, factor, argument, pure=False)
        result: Float64 = run_to_end(client, [future], should_stop=should_stop)
        return result

    return apply


def _name(j: int, i: int) -> str:
    return f"{j}-{i}"
