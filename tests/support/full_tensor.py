"""Convolutional NNGP and NTK written down plainly: the (P, Q, P, Q) tensor of every image pair.

Shares no formula with workers/kernels: covariances, not correlations; arc cosines, not
polynomials; every tensor materialised, every filter offset its own sum. Memory is
O(n^2 P^2 Q^2), so a handful of images of a dozen pixels a side. In float64 the arc cosine limits
entries at rho = 1 to about 1e-8; `dtype=np.longdouble` moves that to 1e-10.

    state = inputs(images)                                  # (n, P, Q, C)
    state = relu_like(conv(state, (3, 3), w_std=2**0.5))
    values = dense(global_avg_pool(state), w_std=2**0.5)    # values.nngp, values.ntk: (n, n)

Formulas: Novak et al. 2019 (arXiv:1810.05148) and Arora et al. 2019 (arXiv:1904.11955).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]
Duals = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""E and Edot of (q, q', c), arrays that broadcast."""


class State(NamedTuple):
    """Kernels of all pairs of images and pixels, (n, n, P, Q, P, Q) each."""

    nngp: Tensor
    ntk: Tensor


class Values(NamedTuple):
    """Kernels of all pairs of images, (n, n) each."""

    nngp: Tensor
    ntk: Tensor


def inputs(images: NDArray[Any], dtype: Any = np.float64) -> State:
    """<x_s, x'_s'>/C of images (n, P, Q, C)."""
    x = np.asarray(images, dtype)
    nngp = np.einsum("nijc,mklc->nmijkl", x, x) / x.shape[-1]
    return State(nngp, np.zeros_like(nngp))


def conv(
    state: State,
    kernel: tuple[int, int],
    *,
    w_std: float = 1.0,
    b_std: float = 0.0,
    strides: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    fan: str = "filter",
) -> State:
    """Padding SAME (zeros), VALID or CIRCULAR; fan `filter` (C |ker|) or `channels` (C)."""
    count = kernel[0] * kernel[1] if fan == "filter" else 1

    def affine(tensor: Tensor, bias: float) -> Tensor:
        return w_std**2 / count * _window_sum(tensor, kernel, strides, padding) + bias

    nngp = affine(state.nngp, b_std**2)
    return State(nngp, nngp + affine(state.ntk, 0.0))


def _window_sum(
    tensor: Tensor, kernel: tuple[int, int], strides: tuple[int, int], padding: str
) -> Tensor:
    """sum_r M[s + r, s' + r]: the same offset r on both sides."""
    rows, columns = tensor.shape[2:4]
    sides = [
        _sides(n, k, s, padding) for n, k, s in zip((rows, columns), kernel, strides, strict=True)
    ]
    widths = [(0, 0), (0, 0), *sides, *sides]
    if padding == "CIRCULAR":
        padded = np.pad(tensor, widths, mode="wrap")
    else:
        padded = np.pad(tensor, widths)
    out_rows = (padded.shape[2] - kernel[0]) // strides[0] + 1
    out_columns = (padded.shape[3] - kernel[1]) // strides[1] + 1
    total = 0
    for a in range(kernel[0]):
        for b in range(kernel[1]):
            i = slice(a, a + strides[0] * (out_rows - 1) + 1, strides[0])
            j = slice(b, b + strides[1] * (out_columns - 1) + 1, strides[1])
            total = total + padded[:, :, i, j, i, j]
    return total


def _sides(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """How many pixels are added before and after: TensorFlow's SAME."""
    if padding == "VALID":
        return 0, 0
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def activation(state: State, duals: Duals) -> State:
    """phi at every pixel. `duals(q, q', c)` returns E and Edot."""
    q = np.einsum("nnijij->nij", state.nngp)
    value, slope = duals(q[:, None, :, :, None, None], q[None, :, None, None, :, :], state.nngp)
    return State(value, slope * state.ntk)


def relu_like(state: State, positive: float = 1.0, negative: float = 0.0) -> State:
    """Slopes `positive` for x > 0 and `negative` for x <= 0, by arc cosines."""

    def duals(q: Tensor, q2: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        scale = np.sqrt(q * q2)
        rho = np.divide(c, scale, out=np.zeros_like(c), where=np.broadcast_to(scale > 0, c.shape))
        angle = np.arccos(np.clip(rho, -1, 1))
        even, odd = (positive - negative) / 2, (positive + negative) / 2  # of |x| and of x
        absolute = 2 / _pi(c) * (np.sin(angle) + np.cos(angle) * (_pi(c) / 2 - angle))
        value = odd**2 * c + even**2 * scale * absolute
        return value, odd**2 + even**2 * (1 - 2 * angle / _pi(c))

    return activation(state, duals)


def erf(state: State) -> State:
    """The error function: Williams 1997."""

    def duals(q: Tensor, q2: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        norm = np.sqrt((1 + 2 * q) * (1 + 2 * q2))
        ratio = 2 * c / norm
        value = 2 / _pi(c) * np.arcsin(np.clip(ratio, -1, 1))
        return value, 4 / _pi(c) / np.sqrt((1 + 2 * q) * (1 + 2 * q2) - 4 * c * c)

    return activation(state, duals)


def _pi(like: Tensor) -> Any:
    """pi in the precision of `like`."""
    return 4 * np.arctan(like.dtype.type(1))


def pool(
    state: State,
    window: tuple[int, int],
    strides: tuple[int, int] | None = None,
    *,
    mean: bool = True,
) -> State:
    """Average (or sum) over windows, which must fit: no padding."""
    steps = window if strides is None else strides
    matrices = [
        _pooling(n, w, s) for n, w, s in zip(state.nngp.shape[2:4], window, steps, strict=True)
    ]
    factor = (window[0] * window[1]) ** 2 if mean else 1
    a, b = (m.astype(state.nngp.dtype) for m in matrices)

    def apply(tensor: Tensor) -> Tensor:
        return np.einsum("pi,qj,rk,sl,nmijkl->nmpqrs", a, b, a, b, tensor, optimize=True) / factor

    return State(apply(state.nngp), apply(state.ntk))


def _pooling(size: int, window: int, stride: int) -> NDArray[Any]:
    """The 0/1 matrix from pixels to sums over windows, along one axis."""
    starts = range(0, size - window + 1, stride)
    return np.array([[float(s <= i < s + window) for i in range(size)] for s in starts])


def add(left: State, right: State, scale: float = 1.0) -> State:
    """A skip connection: left + scale * right, with independent weights in the two branches."""
    return State(left.nngp + scale**2 * right.nngp, left.ntk + scale**2 * right.ntk)


def global_avg_pool(state: State) -> Values:
    """Mean over all pairs of pixels."""
    return Values(state.nngp.mean(axis=(2, 3, 4, 5)), state.ntk.mean(axis=(2, 3, 4, 5)))


def flatten(state: State) -> Values:
    """Mean over the pixels, each with itself: what a dense layer over all pixels sees."""
    pixels = state.nngp.shape[2] * state.nngp.shape[3]
    return Values(*(np.einsum("nmijij->nm", tensor) / pixels for tensor in state))


def dense(values: Values, *, w_std: float = 1.0, b_std: float = 0.0) -> Values:
    """The readout layer."""
    nngp = w_std**2 * values.nngp + b_std**2
    return Values(nngp, nngp + w_std**2 * values.ntk)
