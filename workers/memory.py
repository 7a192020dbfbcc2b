"""Projected peak memory of one worker process, from sizes alone. All sizes are in bytes.

The claim "projected >= measured" has a test with real worker processes
(tests/cluster/test_memory.py). A job whose projection exceeds a worker's limit is refused before
it starts.
"""

from __future__ import annotations

from dataclasses import dataclass

# Resident bytes of a worker process that has imported JAX, and its peak while XLA compiles (which
# a warm compilation cache avoids), without any data. tests/cluster/test_memory.py measures whole
# jobs against the sum that includes this.
WORKER_BASE_BYTES = 640 << 20


@dataclass(frozen=True)
class TaskMemory:
    """The parts of the projected peak of one worker running Gram tiles."""

    base: int  # the idle process: interpreter, Dask, JAX and its compiled code
    panels: int  # cached row panels of the data sets
    tiles: int  # output arrays of the tile being computed, and one encoded chunk
    blocks: int  # temporaries of one compute block inside XLA

    @property
    def total(self) -> int:
        return self.base + self.panels + self.tiles + self.blocks


def gram_task_memory(
    *,
    tile_rows: int,
    features: int,
    data_itemsize: int,
    itemsize: int,
    outputs: int,
    block_bytes: int,
    panel_bytes_per_sample: int,
    panel_cache_bytes: int,
    base_bytes: int,
) -> TaskMemory:
    """Peak bytes of a worker that computes (tile_rows, tile_rows) tiles of `outputs` arrays.

    A tile uses two panels of `tile_rows` samples with `features` numbers; the cache keeps at least
    those two whatever its limit. While one more is prepared, its rows exist as they are stored
    (`data_itemsize`), in the kernel's dtype, and prepared (`panel_bytes_per_sample`).
    """
    chunk = tile_rows**2 * itemsize
    numbers = tile_rows * features
    return TaskMemory(
        base=base_bytes,
        panels=max(panel_cache_bytes, 2 * tile_rows * panel_bytes_per_sample)
        + numbers * (data_itemsize + itemsize)
        + tile_rows * panel_bytes_per_sample,
        # A buffer per output; one chunk that was found stored, or the transpose that the symmetry
        # of a diagonal tile is checked against.
        tiles=outputs * chunk + chunk,
        blocks=block_bytes,
    )
