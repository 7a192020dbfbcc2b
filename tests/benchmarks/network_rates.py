"""CPU time of equilibrium, residual and biased networks beside the ReLU network of depth 3.

    python tests/benchmarks/network_rates.py [--rows 2048] [--repeats 7]

Every kernel runs in turn in each repetition, in one process, so that what else the machine does
falls on all of them alike; ratios are of medians of CPU time. The limit is the product alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

SINGLE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

KERNELS: dict[str, Any] = {
    "ReLU, depth 3": {"preset": "fc", "depth": 3},
    "ReLU, depth 1": {"preset": "fc", "depth": 1},
    "DEQ 0.25-0.25-0.5": {"preset": "deq", "setting": "0.25-0.25-0.5"},
    "DEQ 0.8-0.2-0": {"preset": "deq", "setting": "0.8-0.2-0"},
    "ReLU, depth 100": {"preset": "fc", "depth": 100},
    "ReLU, depth 100, biases": {"preset": "fc", "depth": 100, "b_std": 0.1},
    "Hayou residual, L = 101": {"preset": "hayou_resnet", "affine_layers": 101, "w_std": 0.1},
    "Tirer residual, L = 100": {"preset": "tirer_resnet", "blocks": 100, "alpha": 0.1},
}


def measure(rows: int, repeats: int) -> dict[str, list[float]]:
    """CPU seconds per repetition of the NTK of `rows` digits against themselves, by kernel."""
    from images import digits

    from workers.kernels import compile_kernel

    x = digits(rows)
    work: dict[str, Callable[[], object]] = {"matrix product alone": lambda: x @ x.T}
    for name, spec in KERNELS.items():
        kernel = compile_kernel(spec)
        work[name] = lambda kernel=kernel: kernel(x, outputs=("ntk",))  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for call in work.values():
        call()  # compiles
    for _ in range(repeats):
        for name, call in work.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    os.environ.update(SINGLE_THREAD)  # before NumPy and JAX are loaded

    from measure import Sample, host, table

    load = os.getloadavg()[0]
    seconds = measure(options.rows, options.repeats)
    samples = {name: Sample(tuple(values)) for name, values in seconds.items()}
    base = samples["ReLU, depth 3"].median
    pairs = options.rows * (options.rows + 1) / 2
    print(
        f"NTK of {options.rows} digits (784 pixels, float32), one thread, "
        f"{options.repeats} repetitions; {host()['cpu']}, load {load:.1f} before, "
        f"{datetime.now(UTC):%Y-%m-%d}\n"
    )
    print(
        table(
            ["kernel", "CPU s", "spread", "ns per pair", "times ReLU depth 3"],
            [
                [
                    name,
                    f"{sample.median:.3f}",
                    f"{100 * sample.spread:.0f} %",
                    f"{sample.median / pairs * 1e9:.0f}",
                    f"{sample.median / base:.2f}",
                ]
                for name, sample in samples.items()
            ],
        )
    )


if __name__ == "__main__":
    main()
