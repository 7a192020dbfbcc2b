"""Pooled convolutional kernels by image resolution: CPU time per pair of one core.

python tests/benchmarks/resolution_rates.py

What `gramian paper limits` measures by the clock through a service, without the service and by CPU
time, so that other programs on the machine hardly count: Myrtle-5, Myrtle-10 and ResNet-50 on crops
of a photograph, and what that makes of the survey's two sizes.
"""

from __future__ import annotations

import argparse
import os

from measure import cpu_seconds, host, table, write_results
from network_rates import SINGLE_THREAD

IMAGES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32, 48, 64])
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    os.environ.update(SINGLE_THREAD | {"PJRT_NPROC": "1"})  # before NumPy and JAX are loaded
    from service.papers.limits import (
        KERNELS,
        LARGE_IMAGES,
        LARGE_SIDE,
        MILLION,
        SIDE,
        duration,
        from_last,
        law,
        pairs_of,
    )
    from service.papers.photograph import crops
    from workers.kernels import compile_kernel

    machine, rows, document = host(), [], {}
    for name, spec in KERNELS.items():
        seconds = []
        for side in given.sides:
            kernel = compile_kernel(spec)
            panel = kernel.panel(crops(IMAGES, side, seed=0), block_rows=IMAGES)

            def block(kernel=kernel, panel=panel) -> object:  # type: ignore[no-untyped-def]
                return kernel.block(
                    panel, panel, symmetric=True, outputs=("ntk",), block_rows=IMAGES
                )

            sample = cpu_seconds(block, repeats=given.repeats)
            seconds.append(sample.median / pairs_of(IMAGES))
            rows.append(
                [name, str(side), f"{1e3 * seconds[-1]:.3g}", f"{100 * sample.spread:.0f} %"]
            )
            print(rows[-1], flush=True)
        document[name] = dict(zip(map(str, given.sides), seconds, strict=True))
        quartic, fitted = from_last(given.sides, seconds, 4.0), law(given.sides, seconds)
        million = quartic.at(SIDE) if SIDE not in given.sides else seconds[given.sides.index(SIDE)]
        rows += [
            [name, f"{SIDE}, 10^6 images", duration(million * pairs_of(MILLION)), ""],
            [
                name,
                f"{LARGE_SIDE}, {LARGE_IMAGES} images",
                f"{duration(quartic.at(LARGE_SIDE) * pairs_of(LARGE_IMAGES))} by d^4,"
                f" {duration(fitted.at(LARGE_SIDE) * pairs_of(LARGE_IMAGES))} by"
                f" d^{fitted.exponent:.2f}",
                "",
            ],
        ]
    text = "\n\n".join(
        [
            "# Pooled convolutional kernels by resolution",
            f"{machine['cpu']}, {machine['date']}, load {machine['load_before']:.1f} before. CPU"
            f" time of one core per pair, blocks of {IMAGES} images, medians of {given.repeats}"
            " runs. Rows with a number of images are extrapolated.",
            table(["kernel", "side", "ms per pair", "spread"], rows),
        ]
    )
    for path in write_results("resolution", {"host": machine, "seconds": document}, text):
        print(f"written: {path}")
    print(text)


if __name__ == "__main__":
    main()
