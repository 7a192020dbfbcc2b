"""Fully connected kernels: how fast one core is, and what the service adds. Run by `make bench`.

python tests/benchmarks/fc_throughput.py --peer-python .venv-nt/bin/python
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

from kernel_rates import kernel_table, measure_kernels
from measure import host, table, write_results
from service_rates import measure_service


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", type=Path, help="Python that has neural-tangents 0.6.5")
    parser.add_argument("--kernel-rows", type=int, default=2048)
    parser.add_argument("--service-rows", type=int, default=24_576)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()

    peer = given.peer_python
    if peer is not None and not _has_peer(peer):
        print("neural-tangents is not installed: the comparison goes on without it")
        peer = None
    document: dict[str, Any] = {"host": host()}
    document["kernels"] = measure_kernels(
        rows=given.kernel_rows, repeats=given.repeats, depths=(3, 10), peer_python=peer
    )
    print(kernel_table(document["kernels"]), flush=True)
    document["service"] = [
        measure_service(rows=given.service_rows, repeats=given.repeats, workers=workers)
        for workers in given.workers
    ]
    print(_service_table(document["service"]), flush=True)
    for path in write_results("fc", document, _page(document)):
        print(f"written: {path}")


def _has_peer(python: Path) -> bool:
    """Whether this interpreter exists and has the peer and its JAX."""
    check = "import importlib.metadata as m; m.version('neural-tangents'); import jax"
    if not python.is_file():
        return False
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def _service_table(runs: list[dict[str, Any]]) -> str:
    def cell(sample: dict[str, Any], scale: float, unit: str) -> str:
        low, high = (scale * pick(sample["values"]) for pick in (min, max))
        return f"{scale * sample['median']:.1f}{unit} ({low:.1f}-{high:.1f})"

    lines = []
    for run in runs:
        lines.append(
            [
                str(run["workers"]),
                f"{run['yardstick_pairs_per_second'] / 1e6:.1f}",
                f"{run['service_pairs_per_second'] / 1e6:.1f}",
                cell(run["throughput_ratio_per_worker"], 100, " %"),
                cell(run["overhead_share"], 100, " %"),
                cell(run["start_to_first_tile_seconds"], 1, " s"),
            ]
        )
    heads = [
        "workers",
        "one process, Mpairs/s",
        "service, Mpairs/s",
        "service per worker / one process (goal: at least 80 %)",
        "overhead / compute time (goal: under 2 %)",
        "start to first tile, warm cache (goal: under 10 s)",
    ]
    return table(heads, lines)


def _page(document: dict[str, Any]) -> str:
    machine, kernels, service = document["host"], document["kernels"], document["service"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    peer = [
        rate["versions"]
        for rates in kernels["depths"].values()
        for rate in rates.values()
        if rate["versions"]
    ]
    rows, tile_rows = service[0]["rows"], service[0]["tile_rows"]
    paragraphs = [
        f"# Fully connected ReLU kernels, float32, d = {kernels['features']}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; Python {machine['python']}, {versions}; {machine['date']}; "
        f"load average before: {machine['load_before']:.1f}.",
        "Command: `make bench`. Inputs: MNIST digits and shifted copies, unit norm.",
        "## One core",
        f"NNGP and NTK of {kernels['rows']} × {kernels['rows']} pairs by one process bound to one "
        "core; medians of its CPU time, spread = interquartile range / median. "
        f"Peer: {peer[0] if peer else kernels['peer']}. neural-tangents and NumPy carry the "
        "correlation in float32 and lose close pairs; Gramian does not.",
        kernel_table(kernels),
        "## The whole service",
        f"Symmetric NTK of {rows} rows (depth 3, tiles of {tile_rows} rows), from submission to "
        "sealed matrix, beside one process that computes the same tiles in memory and writes them "
        "with `numpy.save`. Runs in turns; medians and (least-greatest).",
        _service_table(service),
        "Overhead is what the driver's wall time times workers exceeds the time spent inside tiles "
        "(compute and write), at the default batch size. Its sources: Dask messages, the start and "
        "the end of the job.",
    ]
    return "\n\n".join(paragraphs)


if __name__ == "__main__":
    main()
