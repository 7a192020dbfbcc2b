"""The driver on real worker processes: right numbers, stop, resume, faults of tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from storage import datasets, matrices
from storage.blobs import BlobStore, open_blobs
from support.gram_runs import RELU3, Run, gram_task, random_dataset
from workers.errors import NonFiniteKernelError, TileFailedError
from workers.kernels import compile_kernel
from workers.plan import TilePlan

pytestmark = pytest.mark.cluster


def whole(blobs: BlobStore, run: Run, name: str = "ntk") -> np.ndarray:
    layout = run.task.manifest.array(name)
    out = np.full(layout.shape, np.nan, layout.dtype)
    for i in range(layout.grid[0]):
        for j in range(layout.grid[1]):
            out[layout.chunk_extent((i, j))] = matrices.read_chunk(
                blobs, run.task.manifest, name, (i, j)
            )
    return out


def test_symmetric_and_cross_tiles_equal_the_kernel_function(
    shared_client: Client, blobs: BlobStore
) -> None:
    x1, x2 = random_dataset(blobs, 300, seed=1), random_dataset(blobs, 150, seed=2)
    kernel = compile_kernel(RELU3)
    a = datasets.read_rows(blobs, x1, 0, 300)
    b = datasets.read_rows(blobs, x2, 0, 150)
    square = Run(gram_task(blobs, x1, outputs=("nngp", "ntk"), tile_rows=128))
    square.go(shared_client)
    cross = Run(gram_task(blobs, x2, x1))
    cross.go(shared_client)
    expected = kernel(a.astype(np.float64))
    for name in ("nngp", "ntk"):
        stored = whole(blobs, square, name)
        assert (stored == stored.T).all()
        np.testing.assert_allclose(stored, expected[name], rtol=1e-6)
    np.testing.assert_allclose(
        whole(blobs, cross), kernel(b.astype(np.float64), a.astype(np.float64))["ntk"], rtol=1e-6
    )


def test_values_and_digest_do_not_depend_on_the_tile_size(
    shared_client: Client, tmp_path: Path
) -> None:
    digests, values = [], []
    for tile_rows in (64, 128, 512):
        blobs = open_blobs(tmp_path / str(tile_rows))
        run = Run(gram_task(blobs, random_dataset(blobs, 300), tile_rows=tile_rows))
        run.go(shared_client)
        digests.append(run.digests()["ntk"])
        values.append(whole(blobs, run))
    assert len(set(digests)) == 1
    assert (values[0] == values[1]).all()
    assert (values[0] == values[2]).all()


def test_stopping_leaves_no_task_and_resuming_computes_only_the_rest(
    shared_client: Client, blobs: BlobStore, tmp_path: Path
) -> None:
    run = Run(gram_task(blobs, random_dataset(blobs, 1500)))
    total = TilePlan.of(run.task.manifest).n_tiles
    outcome = run.go(shared_client, should_stop=lambda: len(run.results) > 20)
    assert outcome.stopped
    assert 20 < len(run.results) < total
    assert not any(shared_client.processing().values())
    assert blobs.size(run.task.stop_key) is None
    first = len(run.results)
    outcome = run.go(shared_client)
    assert not outcome.stopped
    assert outcome.computed_tiles == total - first
    undisturbed_store = open_blobs(tmp_path / "other")
    undisturbed = Run(gram_task(undisturbed_store, random_dataset(undisturbed_store, 1500)))
    undisturbed.go(shared_client)
    assert run.digests() == undisturbed.digests()


def test_tiles_stored_without_a_record_are_found_not_computed(
    shared_client: Client, blobs: BlobStore
) -> None:
    run = Run(gram_task(blobs, random_dataset(blobs, 300)))
    run.go(shared_client)
    forgetful = Run(run.task)
    outcome = forgetful.go(shared_client)
    assert outcome.computed_tiles == 0
    assert outcome.found_tiles == TilePlan.of(run.task.manifest).n_tiles
    assert forgetful.digests() == run.digests()


def test_a_damaged_chunk_without_a_record_is_computed_again(
    shared_client: Client, blobs: BlobStore
) -> None:
    run = Run(gram_task(blobs, random_dataset(blobs, 300)))
    run.go(shared_client)
    path = next(
        path
        for key in blobs.list(f"matrices/{run.task.manifest.id}")
        if key.endswith("c/1/2") and (path := blobs.path(key)) is not None
    )
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(data)
    again = Run(run.task)
    outcome = again.go(shared_client)
    assert outcome.computed_tiles == 1
    assert again.digests() == run.digests()


def test_a_tile_that_always_fails_fails_the_run_and_keeps_the_others(
    shared_client: Client, blobs: BlobStore
) -> None:
    x = np.random.default_rng(0).standard_normal((1200, 2000)).astype(np.float32)
    info = datasets.ingest(blobs, x)
    assert info.rows_per_chunk < 1200 - 128
    run = Run(gram_task(blobs, info, tile_rows=128))
    chunks = sorted(k for k in blobs.list(f"datasets/{info.id}") if "/c/" in k)
    path = blobs.path(chunks[-1])  # the last rows: tiles of the last columns cannot be computed
    assert path is not None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(TileFailedError) as caught:
        run.go(shared_client)
    assert caught.value.details["cause"] == "corrupt-chunk"
    assert run.results
    assert not any(shared_client.processing().values())


def test_a_kernel_that_overflows_fails_the_run_at_once(
    shared_client: Client, blobs: BlobStore
) -> None:
    huge = {"preset": "fc", "depth": 200, "activation": "relu", "w_std": 4.0}
    run = Run(gram_task(blobs, random_dataset(blobs, 100), kernel=huge))
    with pytest.raises(TileFailedError, match="float32 cannot hold") as caught:
        run.go(shared_client)
    assert caught.value.details["cause"] == "kernel-out-of-range"
    assert run.results == []


def test_a_stored_tile_with_infinities_is_refused(shared_client: Client, blobs: BlobStore) -> None:
    run = Run(gram_task(blobs, random_dataset(blobs, 100)))
    block = np.ones((64, 36), np.float32)
    block[3, 5] = np.inf
    matrices.write_chunk(blobs, run.task.manifest, "ntk", (0, 1), block)
    with pytest.raises(NonFiniteKernelError, match="1 entries"):
        run.go(shared_client)
