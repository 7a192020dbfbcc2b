"""CPU time of networks of smooth activations, beside the product alone and neural-tangents.

    python tests/benchmarks/activation_rates.py [--rows 1024] [--repeats 5]

NNGP and NTK of three hidden layers, float32, between two sets of digits. Every kernel of ours runs
in turn in each repetition, in one process, on one thread; neural-tangents follows in a process of
its own, once per activation, bound to one core. Ratios are of medians of CPU time. Rows have one
length (and the spec says so), or each its own, which the kernels of smooth activations notice.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

DEPTH = 3
ACTIVATIONS = ("relu", "erf", "gelu", "tanh")
TOLERANCE = {"relu": 2e-4, "erf": 2e-4, "gelu": 2e-4, "tanh": 5e-3}
"""Largest relative difference from the peer; for tanh its quadrature is what differs."""


def ours(
    inputs: dict[str, tuple[Any, Any]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """CPU seconds per repetition, and corners of the NTK of rows of one length."""
    import jax

    from workers.kernels import compile_kernel

    x1, x2 = inputs["one length"]
    by_xla = jax.jit(lambda left, right: left @ right.T)
    work: dict[str, Callable[[], Any]] = {
        "matrix product alone": lambda: x1 @ x2.T,
        "matrix product alone, by XLA": lambda: by_xla(x1, x2).block_until_ready(),
    }
    corners = {}
    for activation in ACTIVATIONS:
        for lengths, sides in inputs.items():
            normalize = "none" if lengths == "own lengths" else "unit"
            spec = {"preset": "fc", "depth": DEPTH, "activation": activation}
            kernel = compile_kernel(spec | {"normalize": normalize})
            work[f"{activation}, {lengths}"] = lambda k=kernel, s=sides: k(*s)  # type: ignore[misc]
        corners[activation] = compile_kernel(spec)(x1[:8], x2[:8])["ntk"]
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for call in work.values():
        call()  # compiles
    for _ in range(repeats):
        for name, call in work.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return seconds, corners


def peer(python: str, x1: Any, x2: Any, repeats: int) -> dict[str, Any]:
    """CPU seconds of neural-tangents by activation at its faster block size, and its corners.

    Starts processes by fork: call before JAX is loaded.
    """
    from kernel_rates import HERE, one_core

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez(path, x1=x1, x2=x2)
        for activation in ACTIVATIONS:
            count = str(repeats if activation != "tanh" else 1)
            script = str(HERE / "peer_neural_tangents.py")
            command = [python, script, str(path), str(DEPTH), count, activation]
            document = json.loads(one_core(command))
            fastest = min(document["seconds"].values(), key=np.median)
            found[activation] = float(np.median(fastest)), document["corner"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", default=".venv-nt/bin/python")
    options = parser.parse_args()

    from network_rates import SINGLE_THREAD

    if any(os.environ.get(name) != value for name, value in SINGLE_THREAD.items()):
        # NumPy's threads are counted when it is loaded: start again with one.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | SINGLE_THREAD)

    from images import digits
    from measure import Sample, host, table

    load = os.getloadavg()[0]
    x = digits(2 * options.rows)
    lengths = np.random.default_rng(0).uniform(0.5, 2.0, (len(x), 1)).astype(np.float32)
    x1, x2 = np.split(x, 2)
    l1, l2 = np.split(lengths, 2)
    theirs: dict[str, Any] = {}
    if Path(options.peer).exists():
        theirs = peer(options.peer, x1, x2, options.repeats)
    inputs = {
        "one length": (x1, x2),
        "own lengths": (x1 * l1, x2 * l2),
        "centred": (x1 - x1.mean(axis=0), x2 - x1.mean(axis=0)),
    }
    seconds, corners = ours(inputs, options.repeats)
    for activation, (_, corner) in theirs.items():
        # A comparison of speeds means nothing unless both computed the same thing.
        tolerance = TOLERANCE[activation]
        np.testing.assert_allclose(corner, corners[activation], rtol=tolerance, err_msg=activation)
    samples = {name: Sample(tuple(values)) for name, values in seconds.items()}
    product = samples["matrix product alone"].median
    lines = []
    for name, sample in samples.items():
        found, _ = theirs.get(name.split(",")[0], (None, None))
        lines.append(
            [
                name,
                f"{sample.median:.3f}",
                f"{100 * sample.spread:.0f} %",
                f"{sample.median / options.rows**2 * 1e9:.0f}",
                f"{sample.median / product:.1f}",
                f"{found:.2f}" if found else "",
                f"{found / sample.median:.1f}" if found else "",
            ]
        )
    print(
        f"NNGP and NTK of {DEPTH} hidden layers between two sets of {options.rows} digits "
        f"(784 pixels, float32), one thread, {options.repeats} repetitions; {host()['cpu']}, "
        f"load {load:.1f} before, {datetime.now(UTC):%Y-%m-%d}\n"
    )
    heads = ["kernel", "CPU s", "spread", "ns per pair", "times the product"]
    print(table([*heads, "neural-tangents, CPU s", "Gramian is faster"], lines))


if __name__ == "__main__":
    main()
