"""Part 1: pairs per second of one core, Gramian's block path beside NumPy and neural-tangents.

`measure_kernels` starts each implementation as a process of its own, bound to one core, and counts
the CPU time it uses, so neither thread pools nor other programs on the machine enter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from images import digits
from measure import Sample, cpu_seconds, table

HERE = Path(__file__).parent
BLOCK_ROWS = 512
# NNGP and NTK, float32: what each implementation delivers per pair.
OUTPUT_BYTES_PER_PAIR = 8


def measure_kernels(
    *, rows: int, repeats: int, depths: tuple[int, ...], peer_python: Path | None
) -> dict[str, Any]:
    """Rates of every implementation and depth; `peer` is a reason when it was left out."""
    x = digits(2 * rows)
    found: dict[str, Any] = {"rows": rows, "features": x.shape[1], "depths": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez(path, x1=x[:rows], x2=x[rows:])
        for depth in depths:
            found["depths"][str(depth)] = _one_depth(path, rows, depth, repeats, peer_python)
    found["peer"] = "measured" if peer_python is not None else "neural-tangents is not installed"
    return found


def _one_depth(
    path: Path, rows: int, depth: int, repeats: int, peer_python: Path | None
) -> dict[str, Any]:
    ours = Path(__file__)
    runs = {
        "gramian": [sys.executable, str(ours), "gramian", str(path), str(depth), str(repeats)],
        "numpy": [sys.executable, str(ours), "numpy", str(path), str(depth), str(repeats)],
    }
    if peer_python is not None:
        peer = HERE / "peer_neural_tangents.py"
        runs["neural-tangents"] = [str(peer_python), str(peer), str(path), str(depth), str(repeats)]
    rates: dict[str, Any] = {}
    corners = {}
    for name, command in runs.items():
        document = json.loads(one_core(command))
        corners[name] = np.array(document["corner"])
        for step, seconds in document["seconds"].items():
            pairs_per_second = Sample(tuple(rows**2 / s for s in seconds))
            rates[f"{name}, blocks of {step}"] = {
                "pairs_per_second": pairs_per_second.to_json(),
                "gigabytes_per_second": pairs_per_second.median * OUTPUT_BYTES_PER_PAIR / 1e9,
                "versions": document.get("versions"),
            }
    for name, corner in corners.items():
        # A comparison of speeds means nothing unless all computed the same thing.
        np.testing.assert_allclose(corner, corners["gramian"], rtol=2e-4, err_msg=name)
    return rates


def one_core(command: list[str]) -> str:
    from workers.cluster import worker_environment

    core = {min(os.sched_getaffinity(0))}
    done = subprocess.run(
        command,
        env=os.environ | worker_environment(),
        preexec_fn=lambda: os.sched_setaffinity(0, core),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


def kernel_table(found: dict[str, Any]) -> str:
    lines = []
    for depth, rates in found["depths"].items():
        ours = rates[f"gramian, blocks of {BLOCK_ROWS}"]["pairs_per_second"]["median"]
        for name, rate in rates.items():
            pairs = rate["pairs_per_second"]
            lines.append(
                [
                    depth,
                    name,
                    f"{pairs['median'] / 1e6:.1f}",
                    f"{100 * pairs['spread']:.0f} %",
                    f"{rate['gigabytes_per_second']:.3f}",
                    f"{ours / pairs['median']:.1f}×",
                ]
            )
    heads = ["depth", "implementation", "Mpairs/s per core", "spread", "GB/s", "Gramian is faster"]
    return table(heads, lines)


def _gramian(x1: Any, x2: Any, depth: int) -> tuple[Callable[[], object], Any]:
    from workers.kernels import compile_kernel

    kernel = compile_kernel({"preset": "fc", "depth": depth})

    def panels(x: Any) -> list[Any]:
        starts = range(0, len(x), BLOCK_ROWS)
        return [kernel.panel(x[r : r + BLOCK_ROWS], block_rows=BLOCK_ROWS) for r in starts]

    def block(left: Any, right: Any) -> dict[str, Any]:
        out: dict[str, Any] = kernel.block(
            left, right, symmetric=False, outputs=("nngp", "ntk"), block_rows=BLOCK_ROWS
        )
        return out

    def run() -> None:
        # As a tile task does: panels are prepared once and used by every block of the tile.
        columns = panels(x2)
        for left in panels(x1):
            for right in columns:
                block(left, right)

    return run, block(panels(x1)[0], panels(x2)[0])["ntk"][:8, :8]


def _numpy(x1: Any, x2: Any, depth: int) -> tuple[Callable[[], object], Any]:
    from plain_numpy import relu_kernels

    return lambda: relu_kernels(x1, x2, depth), relu_kernels(x1[:8], x2[:8], depth)[1]


def main() -> None:
    """The measured process: prints one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("implementation", choices=["gramian", "numpy"])
    parser.add_argument("path", type=Path)
    parser.add_argument("depth", type=int)
    parser.add_argument("repeats", type=int)
    given = parser.parse_args()
    with np.load(given.path) as file:
        x1, x2 = file["x1"], file["x2"]
    make = _gramian if given.implementation == "gramian" else _numpy
    run, corner = make(x1, x2, given.depth)
    seconds = cpu_seconds(run, repeats=given.repeats)
    step = BLOCK_ROWS if given.implementation == "gramian" else len(x1)
    print(json.dumps({"seconds": {str(step): seconds.values}, "corner": corner.tolist()}))


if __name__ == "__main__":
    main()
