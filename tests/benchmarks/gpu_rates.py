"""Convolutional kernels on a GPU: microseconds per image pair of the fused kernel.

python tests/benchmarks/gpu_rates.py

CNTK-GAP of 32 x 32 x 3 images, 3 x 3 filters, at several depths. Wall time of blocks of pairs from
prepared images to sums on the host, medians after a warm-up call (compilation not counted), beside
the bound that the instructions of the recursion set on an H200, and what the Gram matrix of the
50 000 training images of CIFAR-10 would take. Without a GPU it measures nothing and says so.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from conv_rates import images_of, network_of
from measure import Sample, host, table, write_results

DEPTHS = (5, 11, 21)
PRECISIONS = ("mixed", "fast")
FLOOR_MICROSECONDS = {
    "fast": {5: 7.0, 11: 15.4, 21: 29.5},
    "mixed": {5: 10.0, 11: 22.0, 21: 42.0},
}
"""Per pair on an H200 (132 multiprocessors at 1.98 GHz): instructions of a hand-written kernel with
planes in registers, one warp instruction per scheduler and clock, nothing waited for."""

CIFAR_PAIRS = 50_000 * 50_001 // 2
CHECKED_IMAGES = 4


def require_gpu() -> str:
    """What kind of GPU JAX computes on. Raises SystemExit without one."""
    import jax

    backend = jax.default_backend()
    if backend != "gpu":
        raise SystemExit(
            f"Nothing is measured: JAX computes on {backend!r} here. This benchmark needs an NVIDIA"
            " GPU and JAX's CUDA libraries: pip install 'gramian[gpu]'."
        )
    return str(jax.devices()[0].device_kind)


def measure(depth: int, precision: Any, images: Any, repeats: int) -> dict[str, Any]:
    """Microseconds per pair, and the largest relative difference of NTKs from the CPU's double."""
    from workers.kernels.planes import gram_block, prepare
    from workers.kernels.planes.fused import try_fused

    network = network_of(str(depth))
    start = time.perf_counter()
    try_fused(network, precision, interpret=False)
    compiled = time.perf_counter() - start
    ready = prepare(network, images, precision, core="fused")
    times = []
    for run in range(repeats + 1):
        start = time.perf_counter()
        gram_block(network, ready, ready, False, precision)
        if run:
            times.append(1e6 * (time.perf_counter() - start) / len(images) ** 2)
    errors = {}
    for kind in ("random", "saturated", "constant"):
        few = images_of(kind)[:CHECKED_IMAGES]
        side, exact = (
            prepare(network, few, precision, core="fused"),
            prepare(network, few, "double"),
        )
        found = gram_block(network, side, side, False, precision)["ntk"]
        expected = gram_block(network, exact, exact, False, "double")["ntk"]
        errors[kind] = float(np.abs(found / expected - 1).max())
    return {"microseconds": Sample(tuple(times)).to_json(), "first": compiled, "errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64, help="of one side of a block")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    device = require_gpu()
    rng = np.random.default_rng(1)
    images = rng.random((given.images, 32, 32, 3))
    document: dict[str, Any] = {"host": host(), "device": device, "runs": {}}
    rows = []
    for precision in PRECISIONS:
        for depth in DEPTHS:
            run = measure(depth, precision, images, given.repeats)
            document["runs"][f"{precision}-{depth}"] = run
            found, floor = run["microseconds"]["median"], FLOOR_MICROSECONDS[precision][depth]
            rows.append(
                [
                    precision,
                    str(depth),
                    f"{found:.1f}",
                    f"{100 * run['microseconds']['spread']:.0f} %",
                    f"{floor:g}",
                    f"{found / floor:.2f}",
                    f"{1e-6 * found * CIFAR_PAIRS / 3600:.1f}",
                    *(f"{error:.1e}" for error in run["errors"].values()),
                    f"{run['first']:.1f}",
                ]
            )
            print(rows[-1], flush=True)
    text = page(document, rows, given.images)
    name = "-".join(["gpu", *device.lower().split()])
    for path in write_results(name, document, text):
        print(f"written: {path}")
    print(text)


def page(document: dict[str, Any], rows: list[list[str]], images: int) -> str:
    """The results as Markdown."""
    heads = [
        "precision",
        "layers",
        "us per pair",
        "spread",
        "bound on an H200, us",
        "times the bound",
        "hours for the Gram of CIFAR-10",
        "NTK error, random",
        "saturated",
        "constant",
        "first call, s",
    ]
    machine = document["host"]
    return "\n\n".join(
        [
            "# CNTK with global average pooling on a GPU, 32 x 32 x 3, 3 x 3 filters",
            f"{document['device']}; {machine['cpu']}; JAX {machine['versions']['jax']};"
            f" {machine['date']}. Blocks of {images} x {images} pairs, wall time.",
            "Command: `python tests/benchmarks/gpu_rates.py`. The bound counts instructions of a"
            " hand-written kernel on an H200, whatever the card is. Hours: one card, all"
            f" {CIFAR_PAIRS} pairs of 50 000 images, kernel time only. NTK errors: largest relative"
            " difference from the CPU's float64. A first call compiles.",
            table(heads, rows),
        ]
    )


if __name__ == "__main__":
    main()
