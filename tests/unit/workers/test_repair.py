"""A repair writes what has the digest that was sealed, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from storage import matrices
from storage.blobs import BlobStore
from storage.digest import array_digest
from support.gram_runs import gram_task, random_dataset
from workers.tiles import compute_batch

TILE = (0, 0)


def test_a_tile_is_repaired_only_to_the_digest_it_had(blobs: BlobStore) -> None:
    task = gram_task(blobs, random_dataset(blobs, 50, features=3), kernel={"preset": "fc"})
    (done,) = compute_batch(task, (TILE,)).done
    (record,) = done.records
    layout = task.manifest.array("ntk")
    digest = array_digest(layout, [(TILE, record.digest)], task.manifest.block_rows)
    matrices.seal(blobs, task.manifest, {"ntk": digest}, {})
    good = matrices.read_chunk(blobs, task.manifest, "ntk", TILE).copy()
    wrong = good + 1
    matrices.write_chunk(blobs, task.manifest, "ntk", TILE, wrong, repair=True)

    other = compute_batch(replace(task, repair={("ntk", TILE): bytes(32)}), (TILE,))
    assert [(f.kind, f.fatal) for f in other.failed] == [("repair-mismatch", True)]
    np.testing.assert_array_equal(
        matrices.read_chunk(blobs, task.manifest, "ntk", TILE), wrong
    )  # nothing was written

    same = compute_batch(replace(task, repair={("ntk", TILE): record.digest}), (TILE,))
    assert same.failed == ()
    assert same.done[0].computed
    np.testing.assert_array_equal(matrices.read_chunk(blobs, task.manifest, "ntk", TILE), good)

    # Without `repair` a sealed matrix is never written.
    matrices.write_chunk(blobs, task.manifest, "ntk", TILE, wrong, repair=True)
    assert compute_batch(task, (TILE,)).done[0].computed is False
