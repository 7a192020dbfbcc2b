"""Tiles of a convolutional Gram: shaped samples, and a digest that no tile size changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import datasets, matrices
from storage.blobs import open_blobs
from support.gram_runs import Run, gram_task
from workers.estimate import estimate_gram, seconds_per_pair_model
from workers.gram import TileLimits, plan_gram
from workers.kernels import compile_kernel, parse_kernel
from workers.kernels.planes.paths import PATH_VARIABLE
from workers.plan import MAX_BLOCK_FLOPS, TilePlan, choose_costly_block_rows
from workers.tiles import compute_batch

CNTK = {"preset": "cntk", "depth": 2}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((11, 5, 4, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "kernel",
    [
        {**CNTK, "readout": "gap"},
        {**CNTK, "readout": "flatten"},
        {"preset": "cdeq", "readout": "trace"},
        {"preset": "cdeq", "readout": "gap"},
    ],
    ids=["gap", "flatten", "equilibrium", "equilibrium-gap"],
)
def test_tile_size_does_not_change_the_digest(
    tmp_path: Path, images: np.ndarray, kernel: dict[str, Any]
) -> None:
    digests = []
    for tile_rows in (2, 4, 16):
        blobs = open_blobs(tmp_path / str(tile_rows))
        info = datasets.ingest(blobs, images)
        task = gram_task(blobs, info, kernel=kernel, block_rows=2, tile_rows=tile_rows)
        run = Run(task)
        result = compute_batch(task, tuple(TilePlan.of(task.manifest).tiles()))
        assert not result.failed
        run.on_results(list(result.done))
        digests.append(run.digests()["ntk"])
        values = matrices.read_chunk(blobs, task.manifest, "ntk", (0, 0))
        whole = compile_kernel(kernel)(images)["ntk"]
        np.testing.assert_array_equal(values, whole[: len(values), : len(values)])
    assert len(set(digests)) == 1


def test_tiles_of_the_fused_kernel_are_those_of_the_compiled_core(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the request to the stored chunks; the kernel for GPUs is interpreted here."""
    chunks, digests = {}, {}
    for path, tile_rows in (("compiled", 4), ("fused", 4), ("fused", 8)):
        monkeypatch.setenv(PATH_VARIABLE, path)
        blobs = open_blobs(tmp_path / f"{path}-{tile_rows}")
        info = datasets.ingest(blobs, images[:8])
        kernel = {**CNTK, "readout": "gap"}
        task = gram_task(blobs, info, kernel=kernel, block_rows=4, tile_rows=tile_rows)
        run = Run(task)
        result = compute_batch(task, tuple(TilePlan.of(task.manifest).tiles()))
        assert not result.failed
        run.on_results(list(result.done))
        digests[path, tile_rows] = run.digests()["ntk"]
        chunks[path, tile_rows] = matrices.read_chunk(blobs, task.manifest, "ntk", (0, 0))
    np.testing.assert_allclose(chunks["fused", 4], chunks["compiled", 4], rtol=3e-7)
    assert digests["fused", 4] == digests["fused", 8]


def test_a_block_is_left_between_two_of_its_rows(images: np.ndarray) -> None:
    kernel = compile_kernel({**CNTK, "readout": "flatten"})
    panel = kernel.panel(images, block_rows=16)
    asked = []

    class StopSeenError(Exception):
        pass

    def check_stop() -> None:
        asked.append(len(asked))
        if len(asked) == 3:
            raise StopSeenError

    with pytest.raises(StopSeenError):
        kernel.block(panel, panel, symmetric=True, block_rows=16, check_stop=check_stop)
    assert len(asked) == 3 < len(images)


def test_the_estimate_names_the_representation_and_sizes_tiles_by_cost(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    x = np.random.default_rng(0).random((64, 32, 32, 3)).astype(np.float32)
    info = datasets.ingest(blobs, x)
    estimates = {}
    for readout, representation in (("flatten", "diagonal"), ("gap", "planes")):
        spec = parse_kernel({"preset": "cntk", "depth": 21, "readout": readout})
        manifest = plan_gram(
            spec,
            info,
            None,
            dtype="float32",
            outputs=("ntk",),
            tile_rows=None,
            limits=TileLimits(max_tile_seconds=10.0),
            workers=2,
            seconds_per_pair=seconds_per_pair_model(spec, info, "float32"),
        )
        estimate = estimate_gram(
            spec,
            info,
            manifest,
            workers=2,
            panel_cache_bytes=1 << 20,
            worker_base_bytes=0,
            measured_seconds_per_pair=None,
        )
        assert estimate.representation == representation
        assert estimate.seconds_per_tile < 15
        estimates[readout] = estimate
    assert estimates["gap"].tile_rows < estimates["flatten"].tile_rows
    assert estimates["gap"].seconds > 10 * estimates["flatten"].seconds


def test_blocks_of_costly_kernels_are_small_and_depend_on_the_spec_only() -> None:
    assert choose_costly_block_rows(10_000, 512, 1e3) == 512
    assert choose_costly_block_rows(10_000, 512, MAX_BLOCK_FLOPS) == 1
    assert choose_costly_block_rows(10_000, 512, 10 * MAX_BLOCK_FLOPS) == 1
    assert choose_costly_block_rows(5, 512, 1e3) == 8
    for flops in (1e6, 3e8, 1e9):
        edge = choose_costly_block_rows(10_000, 512, flops)
        assert edge**2 * flops <= MAX_BLOCK_FLOPS
        assert edge & (edge - 1) == 0
