"""Tiles are followed by their previews, and lose nothing when these cannot be written."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from storage import matrices, previews
from storage.blobs import BlobStore, LocalBlobs
from support.gram_runs import gram_task, random_dataset
from workers.tiles import compute_batch

TILES = ((0, 0), (0, 1), (1, 1))


def preview(blobs: BlobStore, task: object, tile: tuple[int, int]) -> bytes:
    return blobs.get(previews.key(task.manifest, "ntk", tile))  # type: ignore[attr-defined]


def test_a_computed_tile_and_one_found_stored_have_the_same_preview(blobs: BlobStore) -> None:
    task = gram_task(blobs, random_dataset(blobs, 100, features=3), kernel={"preset": "fc"})
    first = compute_batch(task, TILES)
    assert [r.missing_previews for r in first.done] == [0, 0, 0]
    written = {tile: preview(blobs, task, tile) for tile in TILES}
    array = previews.pyramid(task.manifest.array("ntk"))
    assert array is not None
    for tile in TILES:
        values = matrices.read_chunk(blobs, task.manifest, "ntk", tile)
        assert written[tile] == previews.encode(array, tile, values)

    blobs.delete(previews.key(task.manifest, "ntk", TILES[1]))
    blobs.put(previews.key(task.manifest, "ntk", TILES[2]), b"cut off")
    again = compute_batch(task, TILES)
    assert not any(result.computed for result in again.done)
    assert {tile: preview(blobs, task, tile) for tile in TILES} == written


def test_a_disk_without_room_for_previews_costs_no_tile(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = gram_task(blobs, random_dataset(blobs, 100, features=3), kernel={"preset": "fc"})
    put = LocalBlobs.put

    def full(self: LocalBlobs, key: str, data: bytes | memoryview) -> None:
        if previews.FOLDER in key:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, key, data)

    monkeypatch.setattr(LocalBlobs, "put", full)
    result = compute_batch(task, TILES)
    assert result.failed == ()
    assert [(r.tile, r.computed, r.missing_previews) for r in result.done] == [
        (tile, True, 1) for tile in TILES
    ]
    monkeypatch.undo()
    values = matrices.read_chunk(blobs, task.manifest, "ntk", TILES[1])
    assert np.isfinite(values).all()
    healed = compute_batch(task, TILES)  # found stored: now there is room
    assert [(r.computed, r.missing_previews) for r in healed.done] == [(False, 0)] * 3
    assert all(previews.is_there(blobs, task.manifest, "ntk", tile) for tile in TILES)
