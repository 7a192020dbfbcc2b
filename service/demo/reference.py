"""An independent float64 computation of single entries, to check the stored numbers with.

Plain NumPy and arccosines, one pair at a time, sharing no code with the kernels it checks.
Sources: Cho and Saul 2009, eq. (4)-(6) for the arc-cosine expectations; Jacot, Gabriel and Hongler
2018, theorem 1, for the recursion of the tangent kernel.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def relu_entry(
    x: NDArray[np.floating], y: NDArray[np.floating], *, depth: int, w_std: float
) -> tuple[float, float]:
    """(nngp, ntk) of one pair of rows under a fully connected ReLU network without biases.

    x, y: (d,) rows as uploaded; they are scaled to unit norm here. `depth` hidden layers, each a
    dense layer of weight deviation `w_std` and a ReLU, then a dense readout of the same `w_std`.
    A dense layer divides by its fan-in: the first kernel is w_std² · x·y / d. The relative error
    is below 1e-7 (an arccosine near 1 keeps half the digits of float64).
    """
    u, v = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
    variance = w_std**2
    kuu = kvv = variance / len(u)
    kuv = variance * float(u @ v) / len(u)
    ntk = kuv
    for _ in range(depth):
        scale = math.sqrt(kuu * kvv)
        angle = math.acos(min(1.0, max(-1.0, kuv / scale)))
        moment = scale * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)
        derivative = (math.pi - angle) / (2 * math.pi)
        kuv = variance * moment
        ntk = kuv + variance * derivative * ntk
        kuu, kvv = variance * kuu / 2, variance * kvv / 2
    return kuv, ntk
