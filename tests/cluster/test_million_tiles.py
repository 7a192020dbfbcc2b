"""A plan of a million tiles is driven through Dask in bounded memory and time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from storage.blobs import BlobStore
from storage.catalog.records import TileRecord
from support.gram_runs import gram_task, random_dataset
from workers.driver import DriverSettings, run_gram
from workers.plan import Tile, TilePlan
from workers.tiles import BatchResult, GramTask, TileResult

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


def pretend(task: GramTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """What compute_batch returns, without the work: what is left is Dask's and the driver's."""
    return BatchResult(
        done=tuple(
            TileResult(
                tile,
                (TileRecord("ntk", *tile, bytes(32), 0.001, 0.0, 1.0, 0, 16388),),
                computed=True,
                seconds=0.001,
            )
            for tile in tiles
        ),
        failed=(),
        stopped=False,
    )


def peak_bytes() -> int:
    """High-water mark of this process, in which driver, client and scheduler run."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def test_a_million_tiles_within_a_gibibyte(shared_client: Client, blobs: BlobStore) -> None:
    rows = 1414 * 64
    task = gram_task(blobs, random_dataset(blobs, rows, features=2))
    plan = TilePlan.of(task.manifest)
    assert plan.n_tiles > 1_000_000
    seen = np.zeros(plan.grid, np.uint8)

    def count(results: list[TileResult]) -> None:
        for result in results:
            seen[result.tile] += 1

    outcome = run_gram(
        shared_client,
        task,
        stored=np.zeros(plan.grid, bool),
        on_results=count,
        should_stop=lambda: False,
        seconds_per_tile=0.001,
        settings=DriverSettings(),
        compute=pretend,
    )
    assert outcome.computed_tiles == plan.n_tiles
    assert (seen[np.triu_indices(plan.grid[0])] == 1).all()
    assert peak_bytes() < 1 << 30
    # Far below the 1.9 ms that Dask takes for a task of one tile.
    assert outcome.wall_seconds / plan.n_tiles < 1e-3
