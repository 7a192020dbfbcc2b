"""One convolutional Gram job on 1, 2 and 4 workers: equal digests, and what the second is worth.

python tests/benchmarks/conv_scale.py

Efficiency is the time on one worker over twice that on two, in turns, so that a machine that slows
down slows both. Four workers on two cores are there for the digest.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from images import digits
from measure import Sample, host, table, write_results

from service.client import Client
from service.demo.embedded import embedded_service

KERNEL = {"preset": "cntk", "depth": 5, "readout": "gap"}
WORKERS = (1, 2, 4)


def timed(folder: Path, workers: int, images: Any) -> dict[str, Any]:
    """Summary of the job on a service of its own, after a small one that compiles."""
    options = ["--workers", str(workers), "--log-level", "warning"]
    with (
        embedded_service(folder / f"data-{workers}", options=options) as service,
        Client(service.url) as client,
    ):
        warm = client.upload(images[: 8 * workers])
        client.delete_matrix(str(client.wait(client.gram(warm.id, kernel=KERNEL).id).matrix))
        data = client.upload(images)
        job = client.wait(client.gram(data.id, kernel=KERNEL).id)
        if job.state != "succeeded":
            raise SystemExit(f"the job {job.state}: {job.error}")
        summary: dict[str, Any] = client.result(job.id)["summary"]
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    images = digits(given.rows).reshape(-1, 28, 28, 1)
    machine = host()
    runs: dict[int, list[dict[str, Any]]] = {workers: [] for workers in WORKERS}
    for _ in range(given.repeats):
        for workers in WORKERS:
            with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
                runs[workers].append(timed(Path(folder), workers, images))
            print(workers, runs[workers][-1], flush=True)
    digests = {run["digest"] for found in runs.values() for run in found}
    if len(digests) != 1:
        raise SystemExit(f"the digests differ: {digests}")
    walls = {w: Sample(tuple(run["wall_seconds"] for run in found)) for w, found in runs.items()}
    ratios = [
        one["wall_seconds"] / (2 * two["wall_seconds"])
        for one, two in zip(runs[1], runs[2], strict=True)
    ]
    efficiency = Sample(tuple(ratios))
    pairs = given.rows * (given.rows + 1) // 2
    lines = [
        [
            str(w),
            f"{walls[w].median:.1f}",
            f"{np.median([run['tile_seconds'] for run in found]):.1f}",
            f"{pairs / walls[w].median:.1f}",
        ]
        for w, found in runs.items()
    ]
    text = "\n\n".join(
        [
            "# A convolutional Gram on several workers",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}, load"
            f" {machine['load_before']:.1f} before. CNTK of depth {KERNEL['depth']}, global"
            f" average pool, {given.rows} digits of 28 x 28: {pairs} pairs, medians of"
            f" {given.repeats} runs.",
            table(["workers", "wall s", "sum of tile seconds", "pairs/s"], lines),
            f"Efficiency of the second worker: {100 * efficiency.median:.0f} %"
            f" ({100 * min(ratios):.0f}-{100 * max(ratios):.0f} %). All digests are"
            f" {digests.pop()[:16]}….",
        ]
    )
    document = {
        "host": machine,
        "rows": given.rows,
        "runs": {str(w): found for w, found in runs.items()},
        "efficiency": efficiency.to_json(),
    }
    for path in write_results("conv-scale", document, text):
        print(f"written: {path}")
    print(text)


if __name__ == "__main__":
    main()
