"""The map of tiles counts every tile once, whatever the grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.events import EventBus
from service.jobs.progress import Reporter
from service.jobs.tile_progress import TILE_FAILED, TileProgress
from service.pictures.tile_map import tile_map, tiles_per_cell
from storage.catalog import open_catalog
from storage.catalog.records import TileRecord
from support.matrices import gram_manifest
from workers.plan import TilePlan
from workers.tiles import TileFailure, TileResult


@pytest.mark.parametrize("shape", [(1, 1), (100, 100), (1000, 1000), (90, 1000), (1000, 16)])
@pytest.mark.parametrize("cells", [1, 3, 64])
def test_every_tile_is_in_one_cell(shape: tuple[int, int], cells: int) -> None:
    for symmetric in {shape[0] == shape[1], False}:
        plan = TilePlan(shape, symmetric, tile_rows=16, block_rows=16)
        edge = tiles_per_cell(plan, cells)
        found = tile_map(plan, edge, [])
        assert max(found.total.shape) <= cells
        expected = np.zeros_like(found.total)
        for i, j in plan.tiles():
            expected[i // edge, j // edge] += 1
        np.testing.assert_array_equal(found.total, expected)
        assert not found.done.any()


def test_a_million_tiles_make_a_small_map() -> None:
    plan = TilePlan((1415 * 64, 1415 * 64), True, tile_rows=64, block_rows=64)
    assert plan.n_tiles > 1_000_000
    edge = tiles_per_cell(plan, 256)
    found = tile_map(plan, edge, [(0, 0, 21, 1.0)])
    assert found.total.size <= 256**2
    assert found.total.sum() == plan.n_tiles
    assert (found.total[0, 0], found.done[0, 0]) == (21, 21)


def record(i: int, j: int, seconds: float = 0.5) -> TileRecord:
    return TileRecord(
        array="ntk", i=i, j=j, digest=bytes(32), seconds=seconds, minimum=0.0, maximum=1.0,
        nonfinite=0, stored_bytes=10,
    )  # fmt: skip


def test_the_catalog_groups_tiles_and_progress_names_workers(tmp_path: Path) -> None:
    manifest = gram_manifest((100, 100))
    plan = TilePlan.of(manifest)
    job = "job-" + "2" * 32
    with open_catalog(f"sqlite:///{tmp_path}/catalog.sqlite") as catalog:
        catalog.create_job(id=job, task={"type": "gram"}, request_digest="r", body_digest="b")
        catalog.add_matrix(manifest.id, manifest.kind, {"any": "document"})
        reporter = Reporter(catalog, EventBus(), job, throttle_seconds=0.0, max_events=1000)
        progress = TileProgress(catalog, reporter, manifest, np.zeros(plan.grid, bool))
        tiles = list(plan.tiles())
        for number, (i, j) in enumerate(tiles):
            worker = f"tcp://{number % 50}"
            progress.on_results([TileResult((i, j), (record(i, j),), True, 0.5, worker=worker)])
        found = tile_map(plan, 2, catalog.tile_groups(manifest.id, "ntk", 2))
        np.testing.assert_array_equal(found.done, found.total)
        assert found.seconds.sum() == pytest.approx(0.5 * len(tiles))
        workers = progress.snapshot()["workers"]
        assert len(workers) == min(len(tiles), 32)
        assert workers[0] == {"worker": "tcp://0", "tiles": 1, "seconds": 0.5}

        for number in range(150):
            progress.on_failure(TileFailure((0, 1), "tile-failed", f"no. {number}", "retry", False))
        events = catalog.latest_events(job, TILE_FAILED, 1000)
        assert len(events) == 100  # and no more, however often tiles fail
        assert events[0].data == {
            "tile": [0, 1], "kind": "tile-failed", "message": "no. 99", "advice": "retry",
            "fatal": False,
        }  # fmt: skip
        assert [e.data["message"] for e in catalog.latest_events(job, TILE_FAILED, 2)] == [
            "no. 99",
            "no. 98",
        ]
