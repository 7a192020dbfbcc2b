"""The same kernels by neural-tangents 0.6.5. Runs in its own environment; prints one JSON line.

.venv-nt/bin/python peer_neural_tangents.py images.npz DEPTH REPEATS [relu | erf | gelu | tanh]

tanh has no closed form there: it is integrated by 2-D Gauss-Hermite quadrature of QUADRATURE nodes.
"""

from __future__ import annotations

import json
import sys
import time
import types

QUADRATURE = 25
"""Nodes per dimension: its error for tanh at unit variance is about 1e-5 (3e-6 at 32)."""


def main(path: str, depth: int, repeats: int, activation: str = "relu") -> None:
    # Its experimental part imports TensorFlow, which is not used here and not installed.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("experimental")
    import jax
    import neural_tangents
    import numpy as np
    from neural_tangents import stax

    with np.load(path) as file:
        x1, x2 = file["x1"], file["x2"]
    root_two = 2**0.5
    phi = {
        "relu": stax.Relu,
        "erf": stax.Erf,
        "gelu": stax.Gelu,
        "tanh": lambda: stax.ElementwiseNumerical(jax.numpy.tanh, deg=QUADRATURE),
    }[activation]
    layers = [stax.Dense(512, W_std=root_two), phi()] * depth
    _, _, kernel_fn = stax.serial(*layers, stax.Dense(1, W_std=root_two))
    compiled = jax.jit(lambda a, b: kernel_fn(a, b, ("nngp", "ntk")))

    def run(step: int) -> None:
        for r in range(0, len(x1), step):
            for c in range(0, len(x2), step):
                out = compiled(x1[r : r + step], x2[c : c + step])
                # Into host memory, as the other implementations deliver it.
                np.asarray(out.nngp), np.asarray(out.ntk)

    seconds = {}
    for step in (512, len(x1)):
        run(step)
        times = []
        for _ in range(repeats):
            start = time.process_time()
            run(step)
            times.append(time.process_time() - start)
        seconds[str(step)] = times
    corner = compiled(x1[:8], x2[:8])
    document = {
        "versions": {"neural-tangents": neural_tangents.__version__, "jax": jax.__version__},
        "seconds": seconds,
        "corner": np.asarray(corner.ntk, dtype=float).tolist(),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
