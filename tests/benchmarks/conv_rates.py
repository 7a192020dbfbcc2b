"""Convolutional kernels: CPU time per image pair of one core, beside neural-tangents.

python tests/benchmarks/conv_rates.py --peer-python .venv-nt/bin/python

CNTK-GAP of 32 x 32 x 3 images, 3 x 3 filters, at several depths, Myrtle-5, 7 and 10, and ResNet-50.
Every implementation runs as a process of its own on one core; times are medians of its CPU time
after one warm-up call (compilation not counted), without the preparation of images, which is given
beside them. `--networks 5 11 21 myrtle5` leaves the others out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from kernel_rates import one_core
from measure import host, table, write_results
from numpy.typing import NDArray

HERE = Path(__file__).parent
SIDE = 32
OURS = {
    "numba mixed (default)": ("compiled", "mixed"),
    "numba fast": ("compiled", "fast"),
    "numba double": ("compiled", "double"),
    "JAX mixed": ("traced", "mixed"),
    "JAX fast": ("traced", "fast"),
}
# Strides: all pairs of pixels at once (workers/kernels/spatial), by dtype.
RESNET = {
    "JAX tensors, float32 (default)": ("tensor", "float32"),
    "JAX tensors, float64": ("tensor", "float64"),
}
EXACT = ("numba double", "JAX tensors, float64")
MYRTLES = {"myrtle5": (2, 1, 1), "myrtle7": (2, 2, 2), "myrtle10": (3, 3, 3)}
NETWORKS = ("5", "11", "21", *MYRTLES, "resnet50")
# (dtype, images per side of a call): the peer is faster per pair on batches, in float64 by 15 % on
# 4 x 4 pairs than on 2 x 2; its float32 is the slower one on any. Ours has 2 x 2 pairs.
PEER = (("float32", 1), ("float64", 4))
PEER_IMAGES = 8
KINDS = ("random", "saturated", "constant")


def network_of(name: str) -> Any:
    """One of MYRTLES, or a number of layers."""
    from workers.kernels.duals.relu_like import ReluLikeDual
    from workers.kernels.planes import Activation, AveragePool, Convolution, Network

    layer = (Convolution((3, 3), w_std=2**0.5), Activation(ReluLikeDual(1.0, 0.0)))
    if name not in MYRTLES:
        return Network((SIDE, SIDE), layer * int(name), 2**0.5)
    pool = AveragePool((2, 2))
    first, second, third = MYRTLES[name]
    stages = (*layer * first, pool, *layer * second, pool, *layer * third)
    return Network((SIDE, SIDE), stages, 2**0.5)


def noise_of(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(1).random((count, SIDE, SIDE, 3))


def images_of(kind: str) -> NDArray[np.float64]:
    """(4, 32, 32, 3): noise; mostly black and white pixels; constants of different values."""
    noise = noise_of(4)
    if kind == "saturated":
        return np.clip(3 * noise - 1, 0, 1).round(1)
    if kind == "constant":
        return np.ones_like(noise) * np.array([1.0, 1.0, 0.5, 0.25])[:, None, None, None]
    return noise


def entries(name: str) -> float | None:
    """Entries times layers of one pair."""
    if name in MYRTLES:
        return sum(n * (SIDE >> level) ** 4 for level, n in enumerate(MYRTLES[name]))
    return int(name) * SIDE**4 if name.isdigit() else None


def tensors(dtype: str) -> tuple[Any, Any]:
    """How to prepare images and what gives their NTKs, for ResNet-50 in the kernel language."""
    from workers.kernels import compile_kernel

    kernel = compile_kernel("resnet50-preact")

    def prepare(images: NDArray[Any]) -> Any:
        return kernel.panel(images.astype(dtype), block_rows=len(images))

    def block(left: Any, right: Any) -> Any:
        return kernel.block(left, right, symmetric=False, block_rows=right.rows)

    return prepare, block


def planes(network: str, core: Any, precision: Any) -> tuple[Any, Any]:
    """The same for a network of `network_of`."""
    from workers.kernels.planes import gram_block, prepare

    net = network_of(network)
    return (
        lambda images: prepare(net, images, precision, core=core),
        lambda left, right: gram_block(net, left, right, False, precision),
    )


def run_ours(path: str, network: str, core: str, precision: str, repeats: int) -> None:
    """The measured process: prints one JSON line."""
    prepare, block = tensors(precision) if core == "tensor" else planes(network, core, precision)
    with np.load(path) as file:
        images = {kind: file[kind] for kind in KINDS}
    noise = images["random"]
    start = time.process_time()
    block(prepare(noise[:2]), prepare(noise[2:]))
    first = time.process_time() - start
    start = time.process_time()
    left, right = prepare(noise[:2]), prepare(noise[2:])
    prepared = (time.process_time() - start) / len(noise)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        block(left, right)
        times.append((time.process_time() - start) / 4)
    values = {}
    for kind, stack in images.items():
        values[kind] = block(prepare(stack[:2]), prepare(stack))["ntk"].tolist()
    document = {"seconds": times, "prepare": prepared, "first": first, "values": values}
    print(json.dumps(document))


def measure(
    networks: list[str], repeats: int, peer_python: Path | None, dtypes: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Seconds per pair and NTK values of every implementation, for one network after another."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        stacks = {kind: images_of(kind) for kind in KINDS}
        np.savez(path, images=noise_of(PEER_IMAGES), **stacks)
        for network in networks:
            runs = {}
            for name, (core, precision) in (RESNET if network == "resnet50" else OURS).items():
                command = [str(Path(__file__)), "--ours", str(path), network, core, precision]
                runs[name] = json.loads(one_core([sys.executable, *command, str(repeats)]))
                print(network, name, statistics.median(runs[name]["seconds"]), flush=True)
            if peer_python is not None:
                for dtype, batch in [mode for mode in PEER if mode[0] in dtypes]:
                    name = f"neural-tangents {dtype}, {batch} x {batch} pairs"
                    peer = str(HERE / "peer_convolutional.py")
                    command = [str(peer_python), peer, str(path), network, dtype, str(batch)]
                    runs[name] = json.loads(one_core([*command, str(max(1, repeats // 2))]))
                    print(network, name, statistics.median(runs[name]["seconds"]), flush=True)
            yield network, runs


def rows_of(network: str, runs: dict[str, Any]) -> list[list[str]]:
    """One table row per implementation."""
    peers = [statistics.median(r["seconds"]) for n, r in runs.items() if n.startswith("neural")]
    reference = next(runs[name] for name in EXACT if name in runs)
    exact = {kind: np.array(v) for kind, v in reference["values"].items()}
    rows, size = [], entries(network)
    for name, run in runs.items():
        median = statistics.median(run["seconds"])
        spread = (max(run["seconds"]) - min(run["seconds"])) / median
        errors = ["", "", ""]
        if "values" in run and name not in EXACT:
            errors = [
                f"{np.abs(np.array(run['values'][kind]) / exact[kind] - 1).max():.1e}"
                for kind in KINDS
            ]
        elif "ntk" in run:
            errors[0] = f"{abs(run['ntk'] / exact['random'][0, 1] - 1):.1e}"
        rows.append(
            [
                network,
                name,
                f"{1e3 * median:.1f}",
                f"{100 * spread:.0f} %",
                "" if size is None else f"{1e9 * median / size:.2f}",
                f"{min(peers) / median:.1f}" if peers else "",
                *errors,
                f"{1e3 * run['prepare']:.1f}" if "prepare" in run else "",
                f"{run['first']:.1f}" if "first" in run else "",
            ]
        )
    return rows


def main() -> None:
    if "--ours" in sys.argv:
        path, network, core, precision, repeats = sys.argv[sys.argv.index("--ours") + 1 :]
        run_ours(path, network, core, precision, int(repeats))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", type=Path, help="Python that has neural-tangents 0.6.5")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--peer-dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    peer = given.peer_python if given.peer_python and given.peer_python.is_file() else None
    document: dict[str, Any] = {"host": host(), "networks": {}}
    # Written after each network: the whole run takes long.
    for network, runs in measure(given.networks, given.repeats, peer, given.peer_dtypes):
        document["networks"][network] = runs
        paths = write_results("conv", document, page(document))
    print(page(document))
    for path in paths:
        print(f"written: {path}")


def page(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    heads = [
        "layers, or network",
        "implementation",
        "CPU ms per pair",
        "spread",
        "ns per entry and layer",
        "times as fast as the faster mode of the peer",
        *(f"NTK error, {kind}" for kind in KINDS),
        "prepare, ms per image",
        "first call, CPU s",
    ]
    rows = [row for name, runs in document["networks"].items() for row in rows_of(name, runs)]
    machine = document["host"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return "\n\n".join(
        [
            f"# Convolutional kernels with global average pooling, {SIDE} x {SIDE} x 3, one core",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['system']}; Python {machine['python']}, {versions}; {machine['date']}; "
            f"load average before: {machine['load_before']:.1f}.",
            "Command: `python tests/benchmarks/conv_rates.py --peer-python .venv-nt/bin/python`. "
            "Medians of CPU time; spread = (largest - smallest)/median. NTK errors: largest "
            "relative difference from `numba double` (`JAX tensors, float64`), which the tests "
            "compare with full tensors at small sizes; for the peer, of one pair. A first call "
            "compiles, or reads what was compiled from its cache.",
            table(heads, rows),
        ]
    )


if __name__ == "__main__":
    main()
