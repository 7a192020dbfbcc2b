"""Convolutional equilibrium networks written down plainly, iterated until nothing moves.

Shares no formula with workers/kernels: (P, Q, P, Q) tensors of one pair of images, arc cosines,
each filter offset its own sum, the recursion of Feng & Kolter 2020 (eqs. 15-24, with the base
case of its proof) and no solver. In longdouble the arc cosine limits entries at rho = 1 to 1e-10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]
PI = 4 * np.arctan(np.longdouble(1))
MAX_LAYERS = 5000


def equilibrium(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    w_var: float,
    u_var: float,
    window: tuple[int, int] = (3, 3),
    normalization: str = "post",
) -> tuple[Tensor, Tensor]:
    """The readout's tensors K and T (P, Q, P, Q) of two images (P, Q, C)."""
    x, y = x.astype(np.longdouble), y.astype(np.longdouble)
    pairs = [(x, y), (x, x), (y, y)]
    inputs = [np.einsum("ijc,klc->ijkl", a, b) for a, b in pairs]
    share = _sum(np.ones_like(inputs[0]), window)
    root = np.sqrt(np.einsum("ijij->ij", share))
    share = 1 / (root[:, :, None, None] * root)

    def through(m: Tensor) -> Tensor:
        return _sum(m, window) * share if normalization == "post" else _sum(m * share, window)

    own = 1 if normalization == "post" else share
    sigma = [through(k) for k in inputs]
    ntk = own * inputs[0]
    for _ in range(MAX_LAYERS):
        q1, q2 = (np.einsum("ijij->ij", s)[..., None, None] for s in sigma[1:])
        scales = [
            np.sqrt(a * np.moveaxis(b, (0, 1), (2, 3))) for a, b in ((q1, q2), (q1, q1), (q2, q2))
        ]
        dual = [_dual(s, scale) for s, scale in zip(sigma, scales, strict=True)]
        inner = [w_var * e + u_var * k for (e, _), k in zip(dual, inputs, strict=True)]
        k = own * inner[0]
        reached = through(ntk) if normalization == "post" else _sum(ntk, window)
        new = own * w_var * dual[0][1] * reached + k
        change = np.abs(new - ntk).max()
        sigma, ntk = [through(m) for m in inner], new
        if change < 1e-17 * np.abs(ntk).max():
            return k, ntk
    raise AssertionError("the plain iteration has not converged")


def _dual(c: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] of phi = sqrt(2) max(0, x)."""
    rho = np.divide(c, scale, out=np.zeros_like(c), where=scale > 0)
    rho = np.clip(rho, -1, 1)
    angle = np.arccos(rho)
    value = scale / PI * (np.sqrt(1 - rho * rho) + (PI - angle) * rho)
    return value, (PI - angle) / PI


def _sum(m: Tensor, window: tuple[int, int]) -> Tensor:
    """sum_r M[s + r, s' + r] over the window, zero outside the image."""
    rows, columns = m.shape[:2]
    a, b = window[0] // 2, window[1] // 2
    padded = np.pad(m, ((a, a), (b, b), (a, a), (b, b)))
    total = np.zeros_like(m)
    for i in range(window[0]):
        for j in range(window[1]):
            total += padded[i : i + rows, j : j + columns, i : i + rows, j : j + columns]
    return total
