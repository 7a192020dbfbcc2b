"""Pixel-pair matrices in tiles: one digest for every tile size, and what they are said to cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import datasets, matrices, open_matrix
from storage.blobs import BlobStore, open_blobs
from storage.datasets import DatasetInfo
from support.gram_runs import CONV, PIXEL_NETWORK, RELU, Run, pixel_task
from workers.errors import RepairMismatchError
from workers.gram import InvalidGramError
from workers.kernels import parse_kernel
from workers.kernels.errors import InvalidInputsError, InvalidKernelError
from workers.kernels.pixels import PixelKernel
from workers.kernels.pixels import plan as planning
from workers.memory import WORKER_BASE_BYTES
from workers.pixel_gram import (
    PixelTask,
    compute_pixel_batch,
    estimate_pixel_gram,
    pixel_manifest,
)
from workers.plan import TilePlan
from workers.tiles import TileFailure

NETWORK = parse_kernel(PIXEL_NETWORK)


@pytest.fixture
def low_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of two rows."""
    monkeypatch.setattr(planning, "SMALL_BLOCK_PIXELS", 8)
    monkeypatch.setattr(planning, "HALOS_PER_STRIP", 0)


@pytest.mark.usefixtures("low_strips")
@pytest.mark.parametrize("images", [(1, 1), (1, 0)])
def test_the_tile_size_does_not_change_the_digest(tmp_path: Path, images: tuple[int, int]) -> None:
    x = np.random.default_rng(0).random((2, 11, 4, 3)).astype(np.float32)
    right = None if images[0] == images[1] else x[images[1]]
    whole = PixelKernel(NETWORK)(x[images[0]], right)
    digests = []
    for tile_blocks in (1, 2, 8):
        blobs = open_blobs(tmp_path / str(tile_blocks))
        task = pixel_task(blobs, datasets.ingest(blobs, x), images, tile_blocks=tile_blocks)
        plan = TilePlan.of(task.manifest)
        assert (
            plan.n_tiles
            == {(1, 1): {1: 21, 2: 6, 8: 1}, (1, 0): {1: 36, 2: 9, 8: 1}}[images][tile_blocks]
        )
        run = Run(task)
        tiles = sorted(plan.tiles(), reverse=tile_blocks == 2)  # and not the order either
        result = compute_pixel_batch(task, tuple(tiles))
        assert not result.failed
        run.on_results(list(result.done))
        digests.append(run.digests())
        matrices.seal(blobs, task.manifest, run.digests(), {})
        stored = open_matrix(tmp_path / str(tile_blocks), task.manifest.id)
        shape = stored.attrs["gramian"]["provenance"]["pixel_shape"]
        for name, values in whole.items():
            np.testing.assert_array_equal(stored[name][:].reshape(*shape, *shape), values)
    assert digests[0] == digests[1] == digests[2]


@pytest.mark.usefixtures("low_strips")
def test_stored_tiles_are_found_and_repairs_must_agree(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    x = np.random.default_rng(0).random((1, 4, 4, 3)).astype(np.float32)
    task = pixel_task(blobs, datasets.ingest(blobs, x), (0, 0))
    tiles = ((0, 0), (0, 1), (1, 1))
    first = compute_pixel_batch(task, tiles)
    again = compute_pixel_batch(task, tiles)
    assert [result.computed for result in again.done] == [False, False, False]
    assert [r.records[0].digest for r in again.done] == [r.records[0].digest for r in first.done]
    blobs.put(task.stop_key, b"stop")
    assert compute_pixel_batch(task, tiles).stopped
    blobs.delete(task.stop_key)
    other = PixelTask(**{**vars(task), "repair": {("ntk", (0, 1)): b"\0" * 32}})
    failures: tuple[TileFailure, ...] = compute_pixel_batch(other, ((0, 1),)).failed
    assert [failure.kind for failure in failures] == [RepairMismatchError.kind]


def info(blobs: BlobStore, shape: tuple[int, ...]) -> DatasetInfo:
    return datasets.ingest(blobs, np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("side", "limit_bytes"), [(64, 2 << 30), (96, 2 << 30), (224, 3 << 30), (64, 1 << 30)]
)
def test_estimates_fit_small_workers(tmp_path: Path, side: int, limit_bytes: int) -> None:
    """96 x 96 within 8 GiB on two workers; the whole (P Q)^2 matrix is never in one process."""
    blobs = open_blobs(tmp_path)
    network = parse_kernel({"layers": [CONV, RELU] * 10 + [CONV]})
    x = info(blobs, (1, side, side, 3))
    manifest = pixel_manifest(network, x, (0, 0), dtype="float32", outputs=("ntk",))
    estimate = estimate_pixel_gram(
        network,
        x,
        manifest,
        workers=2,
        panel_cache_bytes=64 << 20,
        worker_base_bytes=WORKER_BASE_BYTES,
        measured_seconds_per_pair=None,
    )
    assert estimate.representation == "pixel-planes"
    assert estimate.tiles >= 3
    assert estimate.pairs == side**2 * (side**2 + 1) // 2
    assert estimate.bytes_written >= 4 * estimate.pairs
    assert estimate.bytes_written < 1.4 * 4 * estimate.pairs + (64 << 20)
    assert estimate.peak_bytes_per_worker < limit_bytes
    assert estimate.seconds_per_tile < 20


def test_measured_speed_replaces_the_model(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    x = info(blobs, (1, 64, 64, 3))
    manifest = pixel_manifest(NETWORK, x, (0, 0), dtype="float32", outputs=("ntk",))
    options = {"panel_cache_bytes": 0, "worker_base_bytes": 0}
    estimate = estimate_pixel_gram(
        NETWORK, x, manifest, workers=1, measured_seconds_per_pair=1e-6, **options
    )
    assert estimate.basis == "measured"
    assert estimate.seconds == pytest.approx(TilePlan.of(manifest).computed_pairs * 1e-6)


def test_what_cannot_be_planned_is_said(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    x, rows = info(blobs, (2, 6, 5, 3)), info(blobs, (4, 7))

    def plan(network: Any, data: DatasetInfo, images: tuple[int, int], *outputs: str) -> None:
        pixel_manifest(network, data, images, dtype="float32", outputs=outputs or ("ntk",))

    for images in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(InvalidGramError, match="2 samples"):
            plan(NETWORK, x, images)
    with pytest.raises(InvalidInputsError, match="images"):
        plan(NETWORK, rows, (0, 0))
    head = parse_kernel({"layers": [CONV, RELU, {"op": "flatten"}, {"op": "dense"}]})
    for spec in (head, parse_kernel({"preset": "fc", "depth": 1})):
        with pytest.raises(InvalidKernelError, match="readout"):
            plan(spec, x, (0, 0))
    jump = parse_kernel({"layers": [CONV, {"op": "activation", "fn": "sign"}, CONV]})
    with pytest.raises(InvalidKernelError, match="NTK"):
        plan(jump, x, (0, 0))
    plan(jump, x, (0, 0), "nngp")
