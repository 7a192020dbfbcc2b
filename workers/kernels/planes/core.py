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

One file, because numba's cache does not notice changes of functions in other files. Loops index
only by their own counter, into shifted views: an index that might be negative becomes a gather.
Loops are short on purpose: their chains of dependent operations must fit the scheduler of the CPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from workers.kernels.planes.jit import jit, wide
from workers.kernels.planes.layout import Geometry, Layers, Scratch, Side

Array = Any  # numba infers array types itself


@jit
def _add_three(a: Array, b: Array, c: Array, out: Array, n: int) -> None:
    wide()
    for k in range(n):
        out[k] = a[k] + b[k] + c[k]


@jit
def _copy(a: Array, out: Array, n: int) -> None:
    wide()
    for k in range(n):
        out[k] = a[k]


@jit
def _accumulate(a: Array, out: Array, n: int) -> None:
    wide()
    for k in range(n):
        out[k] += a[k]


@jit
def _scale(out: Array, factor: float, n: int) -> None:
    for k in range(n):
        out[k] *= factor


@jit
def _total(a: Array, n: int) -> float:
    wide()
    total = 0.0
    for k in range(n):
        total += np.float64(a[k])
    return total


@jit
def _zero_columns(a: Array, first: int, stride: int, width: int, n: int) -> None:
    """Zero `width` columns of each row; `first` is where the first of them stands."""
    for c in range(first, first + width):
        k = c % stride
        while k < n:
            a[k] = 0
            k += stride


@jit
def _gap(
    left: Array, mid: Array, right: Array, bias: float,
    sx: Array, sy: Array, ix: Array, iy: Array,
    s: Array, gap: Array, root: Array, low: Array, n: int,
) -> None:  # fmt: skip
    """S, U and t where rho >= 0. At the zero columns v = 0, hence S = U = t = 0."""
    wide()
    shift = s.dtype.type(bias)
    for k in range(n):
        v = sx[k] * sy[k]
        inverse = ix[k] * iy[k]
        value = min(left[k] + mid[k] + right[k] + shift, v)
        s[k] = value
        low[k] = value
        gap[k] = v - value
        root[k] = math.sqrt(gap[k] * inverse)


@jit
def _gap_signed(
    left: Array, mid: Array, right: Array, bias: float,
    sx: Array, sy: Array, ix: Array, iy: Array,
    s: Array, gap: Array, root: Array, low: Array, n: int,
) -> None:  # fmt: skip
    """S, U = v - |S| and t for either sign of rho."""
    wide()
    shift = s.dtype.type(bias)
    for k in range(n):
        v = sx[k] * sy[k]
        inverse = ix[k] * iy[k]
        value = max(min(left[k] + mid[k] + right[k] + shift, v), -v)
        s[k] = value
        low[k] = value
        gap[k] = v - abs(value)
        root[k] = math.sqrt(gap[k] * inverse)


@jit
def _slopes(
    left: Array, mid: Array, right: Array, low: Array, root: Array, gap: Array,
    ntk: Array, p: Array, r: Array, n: int,
) -> None:  # fmt: skip
    """T' (the NTK plane) and U t R(u), which replaces U: float32 coefficients."""
    wide()
    p0, p1, p2, p3, p4, p5, p6 = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    r0, r1, r2, r3, r4, r5 = r[0], r[1], r[2], r[3], r[4], r[5]
    one = p.dtype.type(1)
    for k in range(n):
        t = root[k]
        u = t * t
        acute = p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * (p5 + u * p6)))))
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * r5))))
        value = (left[k] + mid[k] + right[k] + low[k]) * (one - t * acute)
        gap[k] = gap[k] * (t * kappa)
        ntk[k] = value


@jit
def _slopes_signed(
    left: Array, mid: Array, right: Array, low: Array, root: Array, gap: Array,
    ntk: Array, p: Array, r: Array, gamma: float, n: int,
) -> None:  # fmt: skip
    """The same for either sign: 1 - t P where S >= 0, gamma + t P where S < 0."""
    wide()
    p0, p1, p2, p3, p4, p5, p6 = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    r0, r1, r2, r3, r4, r5 = r[0], r[1], r[2], r[3], r[4], r[5]
    one = p.dtype.type(1)
    lowest = p.dtype.type(gamma)
    for k in range(n):
        t = root[k]
        u = t * t
        acute = t * (p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * (p5 + u * p6))))))
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * r5))))
        slope = one - acute if low[k] >= 0 else lowest + acute
        value = (left[k] + mid[k] + right[k] + low[k]) * slope
        gap[k] = gap[k] * (t * kappa)
        ntk[k] = value


@jit
def _slopes_double(
    left: Array, mid: Array, right: Array, low: Array, root: Array, gap: Array,
    ntk: Array, p: Array, r: Array, gamma: float, n: int,
) -> None:  # fmt: skip
    """The same with the 17 float64 coefficients of both polynomials."""
    wide()
    p0, p1, p2, p3, p4, p5, p6, p7, p8 = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]
    p9, p10, p11, p12, p13, p14, p15, p16 = p[9], p[10], p[11], p[12], p[13], p[14], p[15], p[16]
    r0, r1, r2, r3, r4, r5, r6, r7, r8 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8]
    r9, r10, r11, r12, r13, r14, r15, r16 = r[9], r[10], r[11], r[12], r[13], r[14], r[15], r[16]
    for k in range(n):
        t = root[k]
        u = t * t
        acute = p13 + u * (p14 + u * (p15 + u * p16))
        acute = p9 + u * (p10 + u * (p11 + u * (p12 + u * acute)))
        acute = p5 + u * (p6 + u * (p7 + u * (p8 + u * acute)))
        acute = t * (p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * acute)))))
        kappa = r13 + u * (r14 + u * (r15 + u * r16))
        kappa = r9 + u * (r10 + u * (r11 + u * (r12 + u * kappa)))
        kappa = r5 + u * (r6 + u * (r7 + u * (r8 + u * kappa)))
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * kappa))))
        slope = 1 - acute if low[k] >= 0 else gamma + acute
        value = (left[k] + mid[k] + right[k] + low[k]) * slope
        gap[k] = gap[k] * (t * kappa)
        ntk[k] = value


@jit
def _lift(nngp: Array, rest: Array, n: int) -> None:
    """K' = S + U t R where rho >= 0."""
    wide()
    for k in range(n):
        nngp[k] += rest[k]


@jit
def _lift_signed(nngp: Array, rest: Array, gamma: float, n: int) -> None:
    """K' = S + U t R where S >= 0, gamma S + U t R where S < 0."""
    wide()
    below = nngp.dtype.type(gamma)
    for k in range(n):
        s = nngp[k]
        nngp[k] = (s if s >= 0 else below * s) + rest[k]


@jit
def _wrap(a: Array, guard: int, rows: int, columns: int, stride: int, up: int, side: int) -> None:
    """Fill the halo of a plane on a torus: `side` columns, then `up` rows of stride numbers."""
    for i in range(rows):
        row = a[guard + i * stride - side :]
        for b in range(side):
            row[b] = row[columns + b]
        for b in range(side):
            row[side + columns + b] = row[side + b]
    span = up * stride
    first, last = guard - side, guard - side + rows * stride
    for b in range(span):
        a[first - span + b] = a[last - span + b]
    for b in range(span):
        a[last + b] = a[first + b]


@jit
def _sum_rows(
    a: Array, guard: int, stride: int, up: int, side: int, n: int, out: Array
) -> None:  # fmt: skip
    """out[side + k] = sum of a over 2 up + 1 rows, for k in [-side, n + side)."""
    start = guard - side
    length = n + 2 * side
    if up == 1:
        _add_three(a[start - stride :], a[start:], a[start + stride :], out, length)
        return
    _copy(a[start - up * stride :], out, length)
    for row in range(1 - up, up + 1):
        _accumulate(a[start + row * stride :], out, length)


@jit
def _sum_columns(a: Array, side: int, n: int, out: Array) -> None:
    """out[k] = sum of a over 2 side + 1 columns; a[side + k] is the middle one."""
    _copy(a, out, n)
    for column in range(1, 2 * side + 1):
        _accumulate(a[column:], out, n)


@jit
def _layers(
    geometry: Geometry, layers: Layers, scratch: Scratch, n: int,
    sx: Array, sy: Array, ix: Array, iy: Array, ox: int, oy: int, precise: int | None,
) -> None:  # fmt: skip
    """All layers of a group on the plane in `scratch.nngp`, `scratch.ntk`, of n entries.

    `ox` and `oy` are where the plane starts in the rows of deviations (layers, N).
    """
    guard, stride = geometry.guard, geometry.stride
    nngp, ntk = scratch.nngp[guard:], scratch.ntk[guard:]
    gap, root, low = scratch.gap, scratch.root, scratch.low
    pads = stride - geometry.columns
    for layer in range(len(layers.bias)):
        up, side = layers.up[layer], layers.side[layer]
        if geometry.torus:
            rows, columns = geometry.rows, geometry.columns
            _wrap(scratch.nngp, guard, rows, columns, stride, up, side)
            _wrap(scratch.ntk, guard, rows, columns, stride, up, side)
        _sum_rows(scratch.nngp, guard, stride, up, side, n, scratch.nngp_rows)
        _sum_rows(scratch.ntk, guard, stride, up, side, n, scratch.ntk_rows)
        a, b, c = scratch.nngp_zeros, scratch.nngp_rows, scratch.nngp_zeros
        d, e, f = scratch.ntk_zeros, scratch.ntk_rows, scratch.ntk_zeros
        if side == 1:
            a, b, c = b, b[1:], b[2:]
            d, e, f = e, e[1:], e[2:]
        elif side > 1:
            _sum_columns(b, side, n, scratch.nngp_box)
            _sum_columns(e, side, n, scratch.ntk_box)
            b, e = scratch.nngp_box, scratch.ntk_box
        bias, gamma, signed = layers.bias[layer], layers.gamma[layer], layers.signed[layer]
        p, r = layers.p[layer], layers.r[layer]
        x, y, z, w = sx[layer, ox:], sy[layer, oy:], ix[layer, ox:], iy[layer, oy:]
        if signed:
            _gap_signed(a, b, c, bias, x, y, z, w, nngp, gap, root, low, n)
        else:
            _gap(a, b, c, bias, x, y, z, w, nngp, gap, root, low, n)
        if precise is not None:
            _slopes_double(d, e, f, low, root, gap, ntk, p, r, gamma, n)
        elif signed:
            _slopes_signed(d, e, f, low, root, gap, ntk, p, r, gamma, n)
        else:
            _slopes(d, e, f, low, root, gap, ntk, p, r, n)
        if signed:
            _lift_signed(nngp, gap, gamma, n)
        else:
            _lift(nngp, gap, n)
        if not geometry.torus:
            _zero_columns(ntk, geometry.columns - ox, stride, pads, n)
            _zero_columns(ntk, geometry.columns - oy, stride, pads, n)
        if layers.rescale[layer] != 1:
            _scale(nngp, layers.rescale[layer], n)
            _scale(ntk, layers.rescale[layer], n)
    if geometry.torus:
        _zero_columns(nngp, geometry.columns, stride, pads, n)
        _zero_columns(ntk, geometry.columns, stride, pads, n)


@jit
def _multiply(x: Array, y: Array, out: Array, n: int) -> None:
    wide()
    for k in range(n):
        out[k] = x[k] * y[k]


@jit
def _multiply_add(x: Array, y: Array, out: Array, n: int) -> None:
    wide()
    for k in range(n):
        out[k] += x[k] * y[k]


@jit
def _gather(tensor: Array, x: Array, y: Array, out: Array, n: int) -> None:
    """out[k] = tensor[x[k], y[k]], 0 where an index is negative."""
    for k in range(n):
        if x[k] >= 0 and y[k] >= 0:
            out[k] = tensor[x[k], y[k]]
        else:
            out[k] = 0


@jit
def _scatter(a: Array, x: Array, y: Array, tensor: Array, n: int) -> None:
    """tensor[x[k], y[k]] += a[k]. Zero columns hold zeros and the index of any pixel."""
    for k in range(n):
        tensor[x[k], y[k]] += a[k]


@jit
def _rolled(source: Array, out: Array, geometry: Geometry, down: int, across: int) -> None:
    """out[i, j] = source[i + down, j + across] on the torus, for each leading row."""
    rows, columns, stride = geometry.rows, geometry.columns, geometry.stride
    for m in range(source.shape[0]):
        for i in range(rows):
            line = source[m, (i + down) % rows * stride :]
            target = out[m, i * stride :]
            for j in range(columns - across):
                target[j] = line[across + j]
            rest = target[columns - across :]
            for j in range(across):
                rest[j] = line[j]


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
    guard, total = geometry.guard, geometry.rows * geometry.stride
    for m in range(len(pairs)):
        a, b, same = pairs[m, 0], pairs[m, 1], pairs[m, 2] == 1
        chosen = half if same else lags
        nngp_sum, ntk_sum = 0.0, 0.0
        # Planes come in rising length, so beyond the end of each one there are zeros.
        scratch.nngp[:] = 0
        scratch.ntk[:] = 0
        nngp, ntk = scratch.nngp[guard:], scratch.ntk[guard:]
        for step in range(len(chosen)):
            weight = chosen[step, 2]
            channels, sy, iy = right.channels[b], right.deviation[b], right.inverse[b]
            own, cell = right.pixel, right.cell
            if geometry.torus:
                down, across = chosen[step, 0], chosen[step, 1]
                _rolled(channels, scratch.channels, geometry, down, across)
                _rolled(sy, scratch.deviation, geometry, down, across)
                _rolled(iy, scratch.inverse, geometry, down, across)
                _rolled(own, scratch.pixel, geometry, down, across)
                _rolled(cell, scratch.cell, geometry, down, across)
                channels, sy, iy = scratch.channels, scratch.deviation, scratch.inverse
                own, cell = scratch.pixel, scratch.cell
                ox, oy = 0, 0
            else:
                lag = chosen[step, 0]
                ox, oy = max(-lag, 0), max(lag, 0)
            n = total - ox - oy
            if len(source[0]) == 0:
                x = left.channels[a]
                _multiply(x[0, ox:], channels[0, oy:], nngp, n)
                for channel in range(1, len(x)):
                    _multiply_add(x[channel, ox:], channels[channel, oy:], nngp, n)
                for k in range(n):
                    ntk[k] = 0
            else:
                _gather(source[0], left.pixel[0, ox:], own[0, oy:], nngp, n)
                _gather(source[1], left.pixel[0, ox:], own[0, oy:], ntk, n)
            sx, ix = left.deviation[a], left.inverse[a]
            _layers(geometry, layers, scratch, n, sx, sy, ix, iy, ox, oy, precise)
            if len(sink[0]) == 0:
                nngp_sum += weight * _total(nngp, n)
                ntk_sum += weight * _total(ntk, n)
            else:
                first, second = left.cell[0, ox:], cell[0, oy:]
                _scatter(nngp, first, second, sink[0], n)
                _scatter(ntk, first, second, sink[1], n)
                if weight == 2:
                    _scatter(nngp, second, first, sink[0], n)
                    _scatter(ntk, second, first, sink[1], n)
        sums[m, 0] = nngp_sum
        sums[m, 1] = ntk_sum
