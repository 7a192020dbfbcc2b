"""Convolutional kernels by neural-tangents 0.6.5, in its own environment; prints one JSON line.

.venv-nt/bin/python peer_convolutional.py images.npz NETWORK float32|float64 BATCH REPEATS
"""

from __future__ import annotations

import json
import sys
import time
import types


def main(path: str, network: str, dtype: str, batch: int, repeats: int) -> None:
    # Its experimental part imports TensorFlow, which is not used here and not installed.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("experimental")
    import jax
    import neural_tangents
    import numpy as np
    from neural_tangents import stax

    jax.config.update("jax_enable_x64", dtype == "float64")
    with np.load(path) as file:
        images = file["images"].astype(dtype)
    root_two = 2**0.5

    def layers(count: int) -> list[object]:
        conv = stax.Conv(1, (3, 3), padding="SAME", W_std=root_two)
        return [conv, stax.Relu()] * count

    pool = stax.AvgPool((2, 2), strides=(2, 2))

    def conv(size: int, stride: int = 1) -> object:
        return stax.Conv(1, (size, size), strides=(stride, stride), padding="SAME")

    def bottleneck(stride: int, projected: bool) -> object:
        relu = stax.Relu()
        body = stax.serial(relu, conv(1), relu, conv(3, stride), relu, conv(1))
        shortcut = stax.serial(relu, conv(1, stride)) if projected else stax.Identity()
        return stax.serial(stax.FanOut(2), stax.parallel(shortcut, body), stax.FanInSum())

    myrtles = {"myrtle5": (2, 1, 1), "myrtle7": (2, 2, 2), "myrtle10": (3, 3, 3)}
    if network in myrtles:
        first, second, third = (layers(count) for count in myrtles[network])
        stages = [*first, pool, *second, pool, *third]
    elif network == "resnet50":
        blocks = [
            bottleneck(2 if stage and not block else 1, not block)
            for stage, count in enumerate((3, 4, 6, 3))
            for block in range(count)
        ]
        stages = [conv(7, 2), pool, *blocks, stax.Relu()]
    else:
        stages = layers(int(network))
    readout = 1.0 if network == "resnet50" else root_two
    net = stax.serial(*stages, stax.GlobalAvgPool(), stax.Dense(1, W_std=readout))
    compiled = jax.jit(lambda a, b: net[2](a, b, ("nngp", "ntk")))
    left, right = images[:batch], images[batch : 2 * batch]

    def run() -> object:
        out = compiled(left, right)
        return np.asarray(out.nngp), np.asarray(out.ntk)

    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append((time.process_time() - start) / batch**2)
    value = compiled(images[:1], images[1:2])
    document = {
        "versions": {"neural-tangents": neural_tangents.__version__, "jax": jax.__version__},
        "seconds": times,
        "ntk": float(value.ntk[0, 0]),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
