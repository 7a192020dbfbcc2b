"""What to compute next: the pure part of the driver.

Holds the tiles still to do, how often each has failed, and how long tiles take; knows nothing of
Dask. Batches are sized so that a task lasts about `batch_seconds`: Dask's overhead is 2 ms per
task, so tasks of seconds cost well under one percent, and no graph of all tiles ever exists.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from workers.plan import Tile, TilePlan

# Weight of the newest measurement in the running mean of seconds per tile.
_SMOOTHING = 0.3


class TileSchedule:
    """Tiles of one run that are neither stored nor in flight.

    `stored` is a boolean (grid rows, grid columns) array of tiles that need no work. Raises
    ValueError if it has another shape, or names tiles that a symmetric plan does not have.
    """

    def __init__(
        self,
        plan: TilePlan,
        stored: NDArray[np.bool_],
        *,
        seconds_per_tile: float,
        batch_seconds: float,
        max_batch_tiles: int,
        max_attempts: int,
    ) -> None:
        if stored.shape != plan.grid:
            raise ValueError(f"stored has shape {stored.shape}, the grid is {plan.grid}")
        if plan.symmetric and np.tril(stored, -1).any():
            raise ValueError("a symmetric matrix has no tiles below the diagonal to be stored")
        self._fresh: Iterator[Tile] = (tile for tile in plan.tiles() if not stored[tile])
        self._again: deque[tuple[Tile, ...]] = deque()
        self._attempts: dict[Tile, int] = {}
        self._seconds_per_tile = seconds_per_tile
        self._batch_seconds = batch_seconds
        self._max_batch_tiles = max_batch_tiles
        self._max_attempts = max_attempts
        self.remaining = plan.n_tiles - int(np.count_nonzero(stored))

    @property
    def seconds_per_tile(self) -> float:
        return self._seconds_per_tile

    def next_batch(self, workers: int) -> tuple[Tile, ...]:
        """Tiles for one task; empty when everything is done or in flight.

        Towards the end batches shrink, so that the last ones finish together on all workers.
        """
        if self._again:
            return self._again.popleft()
        by_time = self._batch_seconds / max(self._seconds_per_tile, 1e-9)
        by_share = math.ceil(self.remaining / (2 * max(workers, 1)))
        size = max(1, min(int(by_time), by_share, self._max_batch_tiles))
        return tuple(tile for _, tile in zip(range(size), self._fresh, strict=False))

    def finished(self, tile: Tile, seconds: float, *, computed: bool) -> None:
        self.remaining -= 1
        self._attempts.pop(tile, None)
        if computed:
            self._seconds_per_tile += _SMOOTHING * (seconds - self._seconds_per_tile)

    def returned(self, tiles: tuple[Tile, ...]) -> None:
        """Tiles that were never tried (scheduler lost, stop flag): no attempt is counted."""
        if tiles:
            self._again.append(tiles)

    def failed(self, tile: Tile) -> bool:
        """Count a failed attempt; True if the tile will be tried again."""
        self._attempts[tile] = self._attempts.get(tile, 0) + 1
        if self._attempts[tile] >= self._max_attempts:
            return False
        self._again.append((tile,))
        return True

    def killed_worker(self, tiles: tuple[Tile, ...]) -> Tile | None:
        """A batch took its workers down. Returns the culprit once it is known.

        A batch of several tiles is split into single tiles: the innocent ones finish, the guilty
        one comes back alone.
        """
        if len(tiles) == 1:
            return None if self.failed(tiles[0]) else tiles[0]
        self._again.extend((tile,) for tile in tiles)
        return None
