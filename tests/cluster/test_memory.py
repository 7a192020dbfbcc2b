"""Measured peak memory of a real worker process never exceeds the projection."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from distributed import Client

from storage.blobs import BlobStore
from support.gram_runs import RELU3, Run, gram_task, random_dataset
from workers.cluster import ClusterSettings, connect, start_local
from workers.estimate import estimate_gram
from workers.kernels.spec import parse_kernel
from workers.memory import WORKER_BASE_BYTES

pytestmark = pytest.mark.cluster

ERF = {"preset": "fc", "depth": 4, "activation": "erf", "w_std": 1.3, "b_std": 0.1}


def peak_bytes(client: Client) -> int:
    """High-water mark of the resident set of the only worker."""
    pid = next(iter(client.run(os.getpid).values()))
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


@pytest.mark.parametrize(
    ("rows", "features", "block", "tile", "outputs", "kernel"),
    [
        (600, 20, 64, 64, ("ntk",), RELU3),
        (3000, 784, 512, 1024, ("ntk",), RELU3),
        pytest.param(4096, 784, 512, 2048, ("nngp", "ntk"), RELU3, marks=pytest.mark.slow),
        (2048, 784, 512, 1024, ("nngp", "ntk"), ERF),
        (1024, 20000, 512, 512, ("ntk",), RELU3),
    ],
)
def test_measured_peak_is_at_most_the_projection(
    tmp_path: Path,
    compilation_cache: Path,
    blobs: BlobStore,
    rows: int,
    features: int,
    block: int,
    tile: int,
    outputs: tuple[str, ...],
    kernel: dict[str, object],
) -> None:
    info = random_dataset(blobs, rows, features)
    task = gram_task(blobs, info, kernel=kernel, outputs=outputs, block_rows=block, tile_rows=tile)
    estimate = estimate_gram(
        parse_kernel(kernel),
        info,
        task.manifest,
        workers=1,
        panel_cache_bytes=task.panel_cache_bytes,
        worker_base_bytes=WORKER_BASE_BYTES,
        measured_seconds_per_pair=None,
    )
    settings = ClusterSettings(
        n_workers=1, scratch_dir=tmp_path / "dask", compilation_cache_dir=compilation_cache
    )
    with start_local(settings) as cluster, connect(settings, cluster) as client:
        Run(task).go(client)
        measured = peak_bytes(client)
    assert measured <= estimate.peak_bytes_per_worker
    # The projection must also be of use: not several times what is needed.
    assert estimate.peak_bytes_per_worker < 3 * measured
