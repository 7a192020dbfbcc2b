"""What one would write first: the ReLU recursion with NumPy and arccosines, float32 throughout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]


def relu_kernels(
    x1: Float32Array, x2: Float32Array, depth: int
) -> tuple[Float32Array, Float32Array]:
    """(nngp, ntk), each (n1, n2), of a ReLU network with w_std = sqrt 2 and no biases."""
    two = np.float32(2)
    norms = np.sqrt(np.outer((x1**2).sum(axis=1), (x2**2).sum(axis=1)))
    norms *= two / x1.shape[1]
    nngp = (x1 @ x2.T) * (two / x1.shape[1])
    ntk = nngp.copy()
    for _ in range(depth):
        cosine = np.clip(nngp / norms, -1, 1)
        angle = np.arccos(cosine)
        outer = (np.float32(np.pi) - angle) / np.float32(np.pi)
        nngp = norms * (np.sqrt(1 - cosine**2) / np.float32(np.pi) + outer * cosine)
        ntk = nngp + outer * ntk
    return nngp, ntk
