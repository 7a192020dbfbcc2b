"""The compiled recursion on planes of equal offset, for activations with two slopes.

With stride 1, K[s, s'] only meets entries of the same offset s' - s, so each offset is a plane on
which all layers run while it stays in the L1 cache (the same holds for the NTK). Per layer, with
v = s_x s_y from the variances of the two images (prepare.py) and box sums over the filter:

    S = box(K) + bias,  U = v - |S|,  u = U/v = 1 - |rho|,  t = sqrt(u)
    K' = S + U t R(u),  T' = (1 - t P(u)) (S + box(T))        (rho >= 0; duals/relu_like.py)

P and R are duals/arc_cosine.py, times 1 - gamma of the activation. U is formed in the precision
of the K plane, float64 by default: it is what plain float32 loses on equal patches.

Layout, SAME padding (`lag`): images are rows of W = Q + r numbers, r zero columns (r = half of the
widest filter), N = P W. A flat lag d pairs x[k] with y[k + d]: one plane holds the offsets
(i, j) and (i + 1, j - W), which the zero columns keep apart, and is contiguous. CIRCULAR: P Q
lags on a torus; rows have 2 r columns of halo, filled before each convolution.

One file, because numba's cache does not notice changes of functions in other files. Loops address
arrays as base + counter, both unsigned: an index that might be negative becomes a gather, and a
view of an array costs more than a short loop. Loops are short on purpose: their chains of
dependent operations must fit the scheduler of the CPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from workers.kernels.jit import inline, jit, wide
from workers.kernels.planes.layout import Geometry, Layers, Scratch, Side

Array = Any  # numba infers array types itself
Index = Any  # np.uint64


@inline
def _add_three(a: Array, x: Index, y: Index, z: Index, out: Index, n: Index) -> None:
    for k in range(n):
        a[out + k] = a[x + k] + a[y + k] + a[z + k]


@jit
def _copy(a: Array, source: Index, out: Index, n: Index) -> None:
    for k in range(n):
        a[out + k] = a[source + k]


@jit
def _accumulate(a: Array, source: Index, out: Index, n: Index) -> None:
    for k in range(n):
        a[out + k] += a[source + k]


@jit
def _scale(a: Array, out: Index, factor: float, n: Index) -> None:
    for k in range(n):
        a[out + k] *= factor


@inline
def _total(a: Array, base: Index, n: Index) -> float:
    total = 0.0
    for k in range(n):
        total += np.float64(a[base + k])
    return total


@inline
def _zero_columns(a: Array, base: Index, first: int, stride: int, width: int, n: int) -> None:
    """Zero `width` columns of each row; `first` is where the first of them stands."""
    for c in range(first, first + width):
        for k in range(np.uint64(c % stride), np.uint64(n), np.uint64(stride)):
            a[base + k] = 0


@inline
def _gap(
    high: Array, left: Index, mid: Index, right: Index, bias: float, s: Index,
    dx: Array, x: Index, dy: Array, y: Index, vx: Array, vy: Array,
    low: Array, gap: Index, root: Index, s_low: Index, n: Index,
) -> None:  # fmt: skip
    """S, U and t where rho >= 0. At the zero columns v = 0, hence S = U = t = 0."""
    shift = high.dtype.type(bias)
    for k in range(n):
        v = dx[x + k] * dy[y + k]
        inverse = vx[x + k] * vy[y + k]
        value = min((high[left + k] + high[mid + k]) + (high[right + k] + shift), v)
        high[s + k] = value
        low[s_low + k] = value
        low[gap + k] = v - value
        low[root + k] = math.sqrt(low[gap + k] * inverse)


@inline
def _gap_signed(
    high: Array, left: Index, mid: Index, right: Index, bias: float, s: Index,
    dx: Array, x: Index, dy: Array, y: Index, vx: Array, vy: Array,
    low: Array, gap: Index, root: Index, s_low: Index, n: Index,
) -> None:  # fmt: skip
    """S, U = v - |S| and t for either sign of rho."""
    shift = high.dtype.type(bias)
    for k in range(n):
        v = dx[x + k] * dy[y + k]
        inverse = vx[x + k] * vy[y + k]
        value = max(min(high[left + k] + high[mid + k] + high[right + k] + shift, v), -v)
        high[s + k] = value
        low[s_low + k] = value
        low[gap + k] = v - abs(value)
        low[root + k] = math.sqrt(low[gap + k] * inverse)


@inline
def _slopes(
    low: Array, left: Index, mid: Index, right: Index, ntk: Index,
    gap: Index, root: Index, s_low: Index, p: Array, r: Array, layer: int, n: Index,
) -> None:  # fmt: skip
    """T' (the NTK plane) and U t R(u), which replaces U: float32 coefficients."""
    p0, p1, p2, p3 = p[layer, 0], p[layer, 1], p[layer, 2], p[layer, 3]
    p4, p5, p6 = p[layer, 4], p[layer, 5], p[layer, 6]
    r0, r1, r2 = r[layer, 0], r[layer, 1], r[layer, 2]
    r3, r4, r5 = r[layer, 3], r[layer, 4], r[layer, 5]
    one = low.dtype.type(1)
    for k in range(n):
        t = low[root + k]
        u = t * t
        acute = p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * (p5 + u * p6)))))
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * r5))))
        theta = low[left + k] + low[mid + k] + low[right + k] + low[s_low + k]
        low[gap + k] = low[gap + k] * (t * kappa)
        low[ntk + k] = theta * (one - t * acute)


@inline
def _slopes_signed(
    low: Array, left: Index, mid: Index, right: Index, ntk: Index,
    gap: Index, root: Index, s_low: Index, p: Array, r: Array, layer: int, gamma: float, n: Index,
) -> None:  # fmt: skip
    """The same for either sign: 1 - t P where S >= 0, gamma + t P where S < 0."""
    p0, p1, p2, p3 = p[layer, 0], p[layer, 1], p[layer, 2], p[layer, 3]
    p4, p5, p6 = p[layer, 4], p[layer, 5], p[layer, 6]
    r0, r1, r2 = r[layer, 0], r[layer, 1], r[layer, 2]
    r3, r4, r5 = r[layer, 3], r[layer, 4], r[layer, 5]
    one = low.dtype.type(1)
    lowest = low.dtype.type(gamma)
    for k in range(n):
        t = low[root + k]
        u = t * t
        acute = t * (p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * (p5 + u * p6))))))
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * r5))))
        theta = low[left + k] + low[mid + k] + low[right + k] + low[s_low + k]
        slope = one - acute if low[s_low + k] >= 0 else lowest + acute
        low[gap + k] = low[gap + k] * (t * kappa)
        low[ntk + k] = theta * slope


@jit
def _slopes_double(
    low: Array, left: Index, mid: Index, right: Index, ntk: Index,
    gap: Index, root: Index, s_low: Index, p: Array, r: Array, layer: int, gamma: float, n: Index,
) -> None:  # fmt: skip
    """The same with the 17 float64 coefficients of both polynomials."""
    wide()
    p0, p1, p2, p3 = p[layer, 0], p[layer, 1], p[layer, 2], p[layer, 3]
    p4, p5, p6, p7 = p[layer, 4], p[layer, 5], p[layer, 6], p[layer, 7]
    p8, p9, p10, p11 = p[layer, 8], p[layer, 9], p[layer, 10], p[layer, 11]
    p12, p13, p14, p15 = p[layer, 12], p[layer, 13], p[layer, 14], p[layer, 15]
    r0, r1, r2, r3 = r[layer, 0], r[layer, 1], r[layer, 2], r[layer, 3]
    r4, r5, r6, r7 = r[layer, 4], r[layer, 5], r[layer, 6], r[layer, 7]
    r8, r9, r10, r11 = r[layer, 8], r[layer, 9], r[layer, 10], r[layer, 11]
    r12, r13, r14, r15 = r[layer, 12], r[layer, 13], r[layer, 14], r[layer, 15]
    p16, r16 = p[layer, 16], r[layer, 16]
    for k in range(n):
        t = low[root + k]
        u = t * t
        acute = p13 + u * (p14 + u * (p15 + u * p16))
        acute = p9 + u * (p10 + u * (p11 + u * (p12 + u * acute)))
        acute = p5 + u * (p6 + u * (p7 + u * (p8 + u * acute)))
        acute = t * (p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * acute)))))
        kappa = r13 + u * (r14 + u * (r15 + u * r16))
        kappa = r9 + u * (r10 + u * (r11 + u * (r12 + u * kappa)))
        kappa = r5 + u * (r6 + u * (r7 + u * (r8 + u * kappa)))
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * kappa))))
        theta = low[left + k] + low[mid + k] + low[right + k] + low[s_low + k]
        slope = 1 - acute if low[s_low + k] >= 0 else gamma + acute
        low[gap + k] = low[gap + k] * (t * kappa)
        low[ntk + k] = theta * slope


@inline
def _lift(high: Array, nngp: Index, low: Array, rest: Index, n: Index) -> None:
    """K' = S + U t R where rho >= 0."""
    for k in range(n):
        high[nngp + k] += low[rest + k]


@inline
def _lift_signed(
    high: Array, nngp: Index, low: Array, rest: Index, gamma: float, n: Index
) -> None:  # fmt: skip
    """K' = S + U t R where S >= 0, gamma S + U t R where S < 0."""
    below = high.dtype.type(gamma)
    for k in range(n):
        s = high[nngp + k]
        high[nngp + k] = (s if s >= 0 else below * s) + low[rest + k]


@jit
def _wrap(a: Array, base: int, rows: int, columns: int, stride: int, up: int, side: int) -> None:
    """Fill the halo of a plane on a torus: `side` columns, then `up` rows of stride numbers."""
    for i in range(rows):
        row = base + i * stride
        for b in range(side):
            a[row - side + b] = a[row + columns - side + b]
            a[row + columns + b] = a[row + b]
    span = up * stride
    first, last = base - side, base - side + rows * stride
    for b in range(span):
        a[first - span + b] = a[last - span + b]
        a[last + b] = a[first + b]


@inline
def _box(
    a: Array, plane: Index, rows: Index, box: Index, zeros: Index,
    stride: Index, up: Index, side: Index, n: Index,
) -> tuple[Index, Index, Index]:  # fmt: skip
    """Box sums as three bases of `a`, which are still to be added."""
    one = np.uint64(1)
    start, length = plane - side, n + side + side
    if up == one:
        _add_three(a, start - stride, start, start + stride, rows, length)
    else:
        _copy(a, start - up * stride, rows, length)
        for row in range(one, up + up + one):
            _accumulate(a, start + row * stride - up * stride, rows, length)
    if side == one:
        return rows, rows + one, rows + one + one
    if side > one:
        _copy(a, rows, box, n)
        for column in range(one, side + side + one):
            _accumulate(a, rows + column, box, n)
        return zeros, box, zeros
    return zeros, rows, zeros


@jit
def _layers(
    geometry: Geometry, layers: Layers, high: Array, low: Array, segment: Index, n: int,
    dx: Array, x: Index, dy: Array, y: Index, vx: Array, vy: Array,
    ox: int, oy: int, fresh: bool, precise: int | None,
) -> None:  # fmt: skip
    """All layers of a group on the plane of n entries in `high` (NNGP) and `low` (NTK).

    Scratch is divided into segments of `segment` numbers: see layout.Scratch. `x` and `y` are
    where the plane starts in the deviations of the first layer, `ox` and `oy` in the image.
    `fresh`: the NTK plane is 0 and need not be written before.
    """
    wide()
    rows, columns, stride, guard, torus = geometry
    filters, numbers, p, r = layers
    two = np.uint64(2)
    first, second, third = segment, two * segment, (two + np.uint64(1)) * segment
    gap, root, s_low = two * second, two * second + segment, two * third
    plane, length = np.uint64(guard), np.uint64(n)
    size, width = np.uint64(rows * stride), np.uint64(stride)
    for layer in range(len(numbers)):
        up, side = filters[layer, 0], filters[layer, 1]
        bias, rescale = numbers[layer, 0], numbers[layer, 1]
        gamma, signed = numbers[layer, 2], numbers[layer, 3] != 0
        if torus:
            _wrap(high, guard, rows, columns, stride, int(up), int(side))
            _wrap(low, guard, rows, columns, stride, int(up), int(side))
        a, b, c = _box(high, plane, first, second, third, width, up, side, length)
        d, e, f = third, third, third
        if layer > 0 or not fresh:
            d, e, f = _box(low, plane, first, second, third, width, up, side, length)
        if signed:
            _gap_signed(
                high, a, b, c, bias, plane, dx, x, dy, y, vx, vy, low, gap, root, s_low, length
            )  # fmt: skip
        else:
            _gap(high, a, b, c, bias, plane, dx, x, dy, y, vx, vy, low, gap, root, s_low, length)
        if precise is not None:
            _slopes_double(low, d, e, f, plane, gap, root, s_low, p, r, layer, gamma, length)
        elif signed:
            _slopes_signed(low, d, e, f, plane, gap, root, s_low, p, r, layer, gamma, length)
        else:
            _slopes(low, d, e, f, plane, gap, root, s_low, p, r, layer, length)
        if not torus:  # before the next loop, so that these short writes are out of the way
            _zero_columns(low, plane, columns - ox, stride, stride - columns, n)
            _zero_columns(low, plane, columns - oy, stride, stride - columns, n)
        if signed:
            _lift_signed(high, plane, low, gap, gamma, length)
        else:
            _lift(high, plane, low, gap, length)
        if rescale != 1:
            _scale(high, plane, rescale, length)
            _scale(low, plane, rescale, length)
        x += size
        y += size
    if torus:
        _zero_columns(high, plane, columns, stride, stride - columns, n)
        _zero_columns(low, plane, columns, stride, stride - columns, n)


@inline
def _multiply(x: Array, i: Index, y: Array, j: Index, out: Array, base: Index, n: Index) -> None:
    for k in range(n):
        out[base + k] = x[i + k] * y[j + k]


@inline
def _multiply_add(
    x: Array, i: Index, y: Array, j: Index, out: Array, base: Index, n: Index
) -> None:  # fmt: skip
    for k in range(n):
        out[base + k] += x[i + k] * y[j + k]


@inline
def _multiply_three(
    x: Array, i: Index, y: Array, j: Index, row: Index, out: Array, base: Index, n: Index
) -> None:  # fmt: skip
    """Three channels at once: the usual case."""
    i1, i2, j1, j2 = i + row, i + row + row, j + row, j + row + row
    for k in range(n):
        out[base + k] = x[i + k] * y[j + k] + x[i1 + k] * y[j1 + k] + x[i2 + k] * y[j2 + k]


@jit
def _fill(a: Array, base: Index, n: Index) -> None:
    for k in range(n):
        a[base + k] = 0


@jit
def _gather(
    tensor: Array, x: Array, i: Index, y: Array, j: Index, out: Array, base: Index, n: Index
) -> None:  # fmt: skip
    """out[k] = tensor[x[k], y[k]], 0 where an index is negative."""
    for k in range(n):
        here, there = x[i + k], y[j + k]
        if here >= 0 and there >= 0:
            out[base + k] = tensor[here, there]
        else:
            out[base + k] = 0


@jit
def _scatter(
    a: Array, base: Index, x: Array, i: Index, y: Array, j: Index, tensor: Array, n: Index
) -> None:  # fmt: skip
    """tensor[x[k], y[k]] += a[k]. Zero columns hold zeros and the index of any pixel."""
    for k in range(n):
        tensor[x[i + k], y[j + k]] += a[base + k]


@jit
def _roll(
    source: Array, base: int, count: int, out: Array, geometry: Geometry, down: int, across: int
) -> None:  # fmt: skip
    """out[m, i, j] = source[base + ...][m, i + down, j + across] on the torus, m < count."""
    rows, columns, stride = geometry.rows, geometry.columns, geometry.stride
    for m in range(count * rows):
        line = base + (m // rows * rows + (m % rows + down) % rows) * stride
        for j in range(columns - across):
            out[m * stride + j] = source[line + across + j]
        for j in range(across):
            out[m * stride + columns - across + j] = source[line + j]


@jit
def run_group(
    geometry: Geometry, layers: Layers, left: Side, right: Side, pairs: Array, lags: Array,
    half: Array, source: tuple[Array, Array], sink: tuple[Array, Array],
    scratch: Scratch, precise: int | None, sums: Array,
) -> None:  # fmt: skip
    """The layers between two pools (or an end of the network) for the given pairs of images.

    `pairs` (m, 3): index in `left`, in `right`, and whether both are the same image, which then
    takes the lags `half` instead of `lags`, (count, 3) each: flat lag (or rows and columns on the
    torus) and how many planes it stands for. A group that reads a pooled tensor gets it as
    `source`, one that is followed by a pool adds to `sink`, both (pixels, pixels) for NNGP and
    NTK, and empty otherwise. `sums` (m, 2) receives the sums over all pixel pairs of NNGP and
    NTK (last group only).
    """
    wide()
    rows, _, stride, guard, torus = geometry
    high, low = scratch.high, scratch.low
    x_channels, x_pixel, x_cell = left.channels.ravel(), left.pixel, left.cell
    dx, vx = left.deviation.ravel(), left.inverse.ravel()
    all_channels, all_deviations = right.channels.ravel(), right.deviation.ravel()
    all_inverses = right.inverse.ravel()
    y_channels, y_pixel, y_cell, dy, vy = (
        all_channels, right.pixel, right.cell, all_deviations, all_inverses
    )  # fmt: skip
    if torus:
        y_channels, y_pixel, y_cell = scratch.channels, scratch.pixel, scratch.cell
        dy, vy = scratch.deviation, scratch.inverse
    channels, depth, size = left.channels.shape[1], len(layers.numbers), rows * stride
    base, segment, row = np.uint64(guard), np.uint64(scratch.segment), np.uint64(size)
    fresh = len(source[0]) == 0
    for m in range(len(pairs)):
        a, b, same = pairs[m, 0], pairs[m, 1], pairs[m, 2] == 1
        chosen = half if same else lags
        nngp_sum, ntk_sum = 0.0, 0.0
        # Planes come in rising length, so beyond the end of each one there are zeros.
        _fill(high, np.uint64(0), segment)
        _fill(low, np.uint64(0), segment)
        for step in range(len(chosen)):
            lag, across, weight = chosen[step, 0], chosen[step, 1], chosen[step, 2]
            ox, oy, image = max(-lag, 0), max(lag, 0), b
            if torus:
                _roll(
                    all_channels, b * channels * size, channels, y_channels, geometry, lag, across
                )
                _roll(all_deviations, b * depth * size, depth, dy, geometry, lag, across)
                _roll(all_inverses, b * depth * size, depth, vy, geometry, lag, across)
                _roll(right.pixel, 0, 1, y_pixel, geometry, lag, across)
                _roll(right.cell, 0, 1, y_cell, geometry, lag, across)
                ox, oy, image = 0, 0, 0
            n = size - ox - oy
            length, i, j = np.uint64(n), np.uint64(ox), np.uint64(oy)
            if fresh:
                x, y = np.uint64(a * channels * size + ox), np.uint64(image * channels * size + oy)
                if channels == 3:
                    _multiply_three(x_channels, x, y_channels, y, row, high, base, length)
                else:
                    _multiply(x_channels, x, y_channels, y, high, base, length)
                    for _ in range(1, channels):
                        x += row
                        y += row
                        _multiply_add(x_channels, x, y_channels, y, high, base, length)
            else:
                _gather(source[0], x_pixel, i, y_pixel, j, high, base, length)
                _gather(source[1], x_pixel, i, y_pixel, j, low, base, length)
            x, y = np.uint64(a * depth * size + ox), np.uint64(image * depth * size + oy)
            _layers(
                geometry, layers, high, low, segment, n, dx, x, dy, y, vx, vy, ox, oy,
                fresh, precise,
            )  # fmt: skip
            if len(sink[0]) == 0:
                nngp_sum += weight * _total(high, base, length)
                ntk_sum += weight * _total(low, base, length)
            else:
                _scatter(high, base, x_cell, i, y_cell, j, sink[0], length)
                _scatter(low, base, x_cell, i, y_cell, j, sink[1], length)
                if weight == 2:
                    _scatter(high, base, y_cell, j, x_cell, i, sink[0], length)
                    _scatter(low, base, y_cell, j, x_cell, i, sink[1], length)
        sums[m, 0] = nngp_sum
        sums[m, 1] = ntk_sum
