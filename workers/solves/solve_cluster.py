"""Where a solve over stored tiles runs: the workers of a client, or this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from distributed import Client

from workers.memory import WORKER_BASE_BYTES
from workers.solves.block_operator import BlockOperator, OperatorSettings
from workers.solves.dask_tasks import run_to_end
from workers.solves.errors import SolveInterrupted
from workers.solves.memory import placement_bytes
from workers.solves.operator import LocalOperator, diagonal_part
from workers.solves.policy import RequestedPlacement, choose_placement
from workers.solves.shares import cut
from workers.solves.solution import Float64
from workers.solves.source import TileSource

DIAGONAL_BATCHES_PER_WORKER = 4


@dataclass(frozen=True)
class SolveCluster:
    """`client` None: this process. `worker_memory_bytes` None: no limit is known."""

    client: Client | None
    should_stop: Callable[[], bool]
    worker_memory_bytes: int | None = None
    worker_base_bytes: int = WORKER_BASE_BYTES
    settings: OperatorSettings = field(default_factory=OperatorSettings)

    @property
    def workers(self) -> int:
        return len(self.client.nthreads()) if self.client is not None else 1

    def check_stop(self) -> None:
        """Raises SolveInterrupted once told to stop."""
        if self.should_stop():
            raise SolveInterrupted

    def operator(
        self,
        source: TileSource,
        rhs: int,
        *,
        placement: RequestedPlacement = "auto",
        rank: int = 0,
        reserved_bytes: int = 0,
    ) -> LocalOperator | BlockOperator:
        """Multiplies with the matrix of `source`; other work, never while it multiplies, takes
        `reserved_bytes` of a worker.

        Raises TooLargeError when the placement does not fit.
        """
        projected = placement_bytes(
            source.layout,
            rhs=rhs,
            rank=rank,
            workers=self.workers,
            base_bytes=self.worker_base_bytes,
        )
        # Tiles that are held are there beside the other work.
        beside = {where: peak + reserved_bytes for where, peak in projected.items()}
        beside["stream"] = max(projected["stream"], self.worker_base_bytes + reserved_bytes)
        chosen = choose_placement(
            placement, projected_bytes=beside, worker_memory_bytes=self.worker_memory_bytes
        )
        if self.client is None:
            return LocalOperator(source, placement=chosen, should_stop=self.should_stop)
        return BlockOperator(
            self.client,
            source,
            placement=chosen,
            should_stop=self.should_stop,
            settings=self.settings,
        )

    def multiply_once(self, source: TileSource, vectors: Float64) -> Float64:
        """K V in float64 by one pass over the tiles of `source`, which are not held.

        Raises as `Operator.apply`, and TooLargeError.
        """
        operator = self.operator(source, vectors.shape[1], placement="stream")
        try:
            return operator.apply(vectors, precise=True)
        finally:
            operator.close()

    def diagonal(self, source: TileSource) -> Float64:
        """Diagonal (m,) of a symmetric matrix. Raises SolveInterrupted, and storage errors."""
        panels = source.layout.grid[0]
        bounds = cut(panels, DIAGONAL_BATCHES_PER_WORKER * self.workers)
        if self.client is None:
            return np.concatenate([diagonal_part(source, b.start, b.stop) for b in bounds])
        futures = [
            self.client.submit(diagonal_part, source, b.start, b.stop, pure=False) for b in bounds
        ]
        joined = self.client.submit(np.concatenate, futures, pure=False)
        result: Float64 = run_to_end(self.client, [*futures, joined], should_stop=self.should_stop)
        return result
