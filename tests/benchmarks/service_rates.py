"""Parts 2 to 4: what the whole service costs on top of computing tiles.

The yardstick is one process that computes the same tiles with the same kernel from samples in
memory and writes each with `numpy.save`. Service and yardstick run in turns, so that a machine that
slows down slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from images import digits
from measure import Sample

from service.client import Client
from service.demo.embedded import EmbeddedService, embedded_service

KERNEL = {"preset": "fc", "depth": 3}
WARM_ROWS = 1024


def measure_service(*, rows: int, repeats: int, workers: int) -> dict[str, Any]:
    """Throughput, ratio to the yardstick, overhead, and start-up of a service with `workers`."""
    x = digits(rows + repeats)
    yardstick, service_wall, driver_wall, overhead, starts = [], [], [], [], []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        with _service(folder, workers) as service, Client(service.url) as client:
            _gram(client, x[:WARM_ROWS])  # compiles the kernel, also into the cache on disk
            tile_rows = 0
            for run in range(repeats):
                # Other rows, so that nothing is found stored; as many, so that work is equal.
                part = x[run : run + rows]
                seconds, summary, tile_rows = _gram(client, part)
                service_wall.append(seconds)
                driver_wall.append(summary["wall_seconds"])
                busy = summary["tile_seconds"]
                overhead.append((summary["wall_seconds"] * workers - busy) / busy)
                yardstick.append(_yardstick(part, tile_rows, folder))
        for run in range(repeats):
            starts.append(_start_to_first_tile(folder, workers, x[run : run + 4 * WARM_ROWS]))
    pairs = rows * (rows + 1) // 2
    ratios = [one / (wall * workers) for one, wall in zip(yardstick, service_wall, strict=True)]
    return {
        "rows": rows,
        "pairs": pairs,
        "tile_rows": tile_rows,
        "workers": workers,
        "yardstick_seconds": Sample(tuple(yardstick)).to_json(),
        "service_seconds": Sample(tuple(service_wall)).to_json(),
        "driver_seconds": Sample(tuple(driver_wall)).to_json(),
        "yardstick_pairs_per_second": pairs / Sample(tuple(yardstick)).median,
        "service_pairs_per_second": pairs / Sample(tuple(service_wall)).median,
        "throughput_ratio_per_worker": Sample(tuple(ratios)).to_json(),
        "overhead_share": Sample(tuple(overhead)).to_json(),
        "start_to_first_tile_seconds": Sample(tuple(starts)).to_json(),
    }


def _service(folder: Path, workers: int) -> Any:
    return embedded_service(
        folder / "data", options=["--workers", str(workers), "--log-level", "warning"]
    )


def _gram(client: Client, x: Any) -> tuple[float, dict[str, Any], int]:
    """(seconds from submission to success, the job's summary, tile edge). Leaves nothing stored."""
    data = client.upload(x)
    start = time.perf_counter()
    job = client.wait(client.gram(data.id, kernel=KERNEL).id)
    seconds = time.perf_counter() - start
    if job.state != "succeeded":
        raise RuntimeError(f"the job {job.state}: {job.error}")
    summary = client.result(job.id)["summary"]
    matrix = client.matrix(str(job.matrix))
    tile_rows = int(matrix.arrays["ntk"]["chunk_shape"][0])
    client.delete_matrix(matrix.id)
    client.delete_dataset(data.id)
    return seconds, summary, tile_rows


def _start_to_first_tile(folder: Path, workers: int, x: Any) -> float:
    """Seconds from starting the service's process to the first chunk of a new job on disk."""
    with _service(folder, workers) as service, Client(service.url) as client:
        data = client.upload(x)
    start = time.perf_counter()
    with _service(folder, workers) as service, Client(service.url) as client:
        job = client.gram(data.id, kernel=KERNEL)
        chunks = folder / "data" / "store" / "matrices" / str(job.job.matrix) / "ntk" / "c"
        while not any(chunks.glob("*/*")):
            _check_alive(service, start)
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        client.wait(job.id)
        client.delete_matrix(str(job.matrix))
        client.delete_dataset(data.id)
    return seconds


def _check_alive(service: EmbeddedService, start: float) -> None:
    if service.process.poll() is not None or time.perf_counter() - start > 120:
        raise RuntimeError(f"no tile appeared; see {service.log}")


def _yardstick(x: Any, tile_rows: int, folder: Path) -> float:
    """Seconds of one process for the same tiles, computed in memory and written with NumPy."""
    from workers.cluster import worker_environment

    samples, out = folder / "samples.npy", folder / "yardstick"
    np.save(samples, x)
    out.mkdir()
    cache = folder / "data" / "xla-cache"
    done = subprocess.run(
        [sys.executable, __file__, str(samples), str(tile_rows), str(out)],
        env=os.environ | worker_environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(out)
    if done.returncode != 0:
        raise RuntimeError(f"the yardstick failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def main() -> None:
    """The yardstick process: prints one JSON line."""
    from workers.kernels import compile_kernel
    from workers.plan import TilePlan, choose_block_rows

    parser = argparse.ArgumentParser()
    parser.add_argument("samples", type=Path)
    parser.add_argument("tile_rows", type=int)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    x = np.load(given.samples)
    kernel = compile_kernel(KERNEL)
    block_rows = choose_block_rows(len(x), 512)
    plan = TilePlan((len(x), len(x)), True, given.tile_rows, block_rows)

    def block(left: Any, right: Any, *, symmetric: bool) -> Any:
        return kernel.block(
            left, right, symmetric=symmetric, outputs=("ntk",), block_rows=block_rows
        )["ntk"]

    first = kernel.panel(x[:block_rows], block_rows=block_rows)
    block(first, first, symmetric=True)  # compiles, as the service has already
    block(first, first, symmetric=False)
    start = time.perf_counter()
    panels = [
        kernel.panel(x[r : r + block_rows], block_rows=block_rows)
        for r in range(0, len(x), block_rows)
    ]
    for i, j in plan.tiles():
        rows, cols = plan.extent((i, j))
        tile = np.empty((rows.stop - rows.start, cols.stop - cols.start), np.float32)
        for r in range(rows.start, rows.stop, block_rows):
            for c in range(r if i == j else cols.start, cols.stop, block_rows):
                values = block(panels[r // block_rows], panels[c // block_rows], symmetric=r == c)
                to = (
                    slice(r - rows.start, min(r + block_rows, rows.stop) - rows.start),
                    slice(c - cols.start, min(c + block_rows, cols.stop) - cols.start),
                )
                tile[to] = values[: to[0].stop - to[0].start, : to[1].stop - to[1].start]
                if i == j and r != c:
                    tile[to[::-1]] = tile[to].T
        np.save(given.out / f"{i}-{j}.npy", tile)
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
