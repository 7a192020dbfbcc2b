"""The compiled recursion on planes of equal offset, for activations with two slopes.

With stride 1, K[s, s'] only meets entries of the same offset s' - s, so each offset is a plane on
which all layers run while it stays in the L1 cache (the same holds for the NTK). Per layer, with
v = s_x s_y from the variances of the two images (prepare.py) and box sums over the filter:

    S = box(K) + bias,  U = v - |S|,  u = U/v = 1 - |rho|,  t = sqrt(u)
    K' = S + U t R(u),  T' = (1 - t P(u)) (S + box(T))        (rho >= 0; duals/relu_like.py)

P and R are duals/arc_cosine.py, times 1 - gamma of the activation. U is formed in the precision
of the K plane, float64 by default: it is what plain float32 loses on equal patches. Before a pool
the default adds U t R in float64 too: the pooled K are sums, and 1 - rho of these is a small
difference of large numbers. T is in no difference, so float32 does for it everywhere.

Layout, SAME padding (`lag`): images are rows of W = Q + r numbers, r zero columns (r = half of the
widest filter), N = P W. A flat lag d pairs x[k] with y[k + d]: one plane holds the offsets
(i, j) and (i + 1, j - W), which the zero columns keep apart, and is contiguous. CIRCULAR: P Q
lags on a torus; rows have 2 r columns of halo, filled before each convolution.

One file, because numba's cache does not notice changes of functions in other files. Loops address
arrays as base + counter, both unsigned: an index that might be negative becomes a gather, and a
view of an array costs more than a short loop. They run over whole vectors, beyond the end of a
plane, where v = 0 makes K and T 0. Loops are short on purpose: their chains of dependent operations
must fit the scheduler of the CPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from workers.compiled.jit import disjoint, inline, lean, wide
from workers.kernels.planes.layout import Folded, Geometry, Layers, PixelPairs, Scratch, Side

LANES = np.uint64(2**64 - 16)
"""Mask of lengths that are whole vectors: no loop then has a rest of single numbers."""

Array = Any  # numba infers array types itself
Index = Any  # np.uint64


@lean
def _copy(a: Array, source: Index, out: Index, n: Index) -> None:
    for k in range(n):
        a[out + k] = a[source + k]


@lean
def _accumulate(a: Array, source: Index, out: Index, n: Index) -> None:
    for k in range(n):
        a[out + k] += a[source + k]


@inline
def _total(a: Array, base: Index, n: Index) -> float:
    total = 0.0
    for k in range(n):
        total += np.float64(a[base + k])
    return total


@inline
def _nngp(
    high: Array, left: Index, mid: Index, right: Index, bias: float, plane: Index,
    dx: Array, x: Index, dy: Array, y: Index, vx: Array, vy: Array,
    low: Array, root: Index, s_low: Index, r: Array, layer: int, gamma: float, signed: bool,
    n: Index,
) -> None:  # fmt: skip
    """K' = S + U t R(u), or gamma S + U t R(u) where S < 0; S and t for the NTK. Where v = 0, all
    are 0. `signed`: a constant of each call, so that the case of rho >= 0 is a shorter loop."""
    r0, r1, r2 = r[layer, 0], r[layer, 1], r[layer, 2]
    r3, r4, r5 = r[layer, 3], r[layer, 4], r[layer, 5]
    shift, cast, below = high.dtype.type(bias), low.dtype.type, high.dtype.type(gamma)
    for k in range(n):
        v = dx[x + k] * dy[y + k]
        s = min((high[left + k] + high[mid + k]) + (high[right + k] + shift), v)
        if signed:
            s = max(s, -v)
            linear = s if s >= 0 else below * s
            gap = cast(v - abs(s))
        else:
            linear = s
            gap = cast(v - s)
        t = math.sqrt(gap * (vx[x + k] * vy[y + k]))
        u = t * t
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * r5))))
        low[root + k] = t
        low[s_low + k] = s
        high[plane + k] = linear + gap * (t * kappa)


@lean
def _nngp_double(
    high: Array, left: Index, mid: Index, right: Index, bias: float, plane: Index,
    dx: Array, x: Index, dy: Array, y: Index, vx: Array, vy: Array,
    low: Array, root: Index, s_low: Index, r: Array, layer: int, gamma: float, n: Index,
) -> None:  # fmt: skip
    """The same with the 17 coefficients of R in float64."""
    wide()
    disjoint()
    r0, r1, r2, r3 = r[layer, 0], r[layer, 1], r[layer, 2], r[layer, 3]
    r4, r5, r6, r7 = r[layer, 4], r[layer, 5], r[layer, 6], r[layer, 7]
    r8, r9, r10, r11 = r[layer, 8], r[layer, 9], r[layer, 10], r[layer, 11]
    r12, r13, r14, r15 = r[layer, 12], r[layer, 13], r[layer, 14], r[layer, 15]
    r16 = r[layer, 16]
    for k in range(n & LANES):
        v = dx[x + k] * dy[y + k]
        s = (high[left + k] + high[mid + k]) + (high[right + k] + bias)
        s = max(min(s, v), -v)
        gap = v - abs(s)
        t = math.sqrt(gap * (vx[x + k] * vy[y + k]))
        u = t * t
        kappa = r13 + u * (r14 + u * (r15 + u * r16))
        kappa = r9 + u * (r10 + u * (r11 + u * (r12 + u * kappa)))
        kappa = r5 + u * (r6 + u * (r7 + u * (r8 + u * kappa)))
        kappa = r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * kappa))))
        low[root + k] = t
        low[s_low + k] = s
        high[plane + k] = (s if s >= 0 else gamma * s) + gap * (t * kappa)


@inline
def _ntk(
    low: Array, left: Index, mid: Index, right: Index, plane: Index,
    root: Index, s_low: Index, inside: Index, p: Array, layer: int, gamma: float, signed: bool,
    n: Index,
) -> None:  # fmt: skip
    """T' = (1 - t P) theta where S >= 0, (gamma + t P) theta where S < 0.

    `inside` is 1, and 0 in the zero columns, which makes T' 0 there as K' is.
    """
    p0, p1, p2, p3 = p[layer, 0], p[layer, 1], p[layer, 2], p[layer, 3]
    p4, p5, p6 = p[layer, 4], p[layer, 5], p[layer, 6]
    lowest = low.dtype.type(gamma)
    for k in range(n):
        t = low[root + k]
        u = t * t
        acute = t * (p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * (p5 + u * p6))))))
        theta = (low[left + k] + low[mid + k]) + (low[right + k] + low[s_low + k])
        slope = low[inside + k] - acute
        if signed:
            slope = slope if low[s_low + k] >= 0 else lowest + acute
        low[plane + k] = theta * slope


@lean
def _ntk_double(
    low: Array, left: Index, mid: Index, right: Index, plane: Index,
    root: Index, s_low: Index, inside: Index, p: Array, layer: int, gamma: float, n: Index,
) -> None:  # fmt: skip
    """The same with the 17 coefficients of P in float64."""
    wide()
    p0, p1, p2, p3 = p[layer, 0], p[layer, 1], p[layer, 2], p[layer, 3]
    p4, p5, p6, p7 = p[layer, 4], p[layer, 5], p[layer, 6], p[layer, 7]
    p8, p9, p10, p11 = p[layer, 8], p[layer, 9], p[layer, 10], p[layer, 11]
    p12, p13, p14, p15 = p[layer, 12], p[layer, 13], p[layer, 14], p[layer, 15]
    p16 = p[layer, 16]
    for k in range(n & LANES):
        t = low[root + k]
        u = t * t
        acute = p13 + u * (p14 + u * (p15 + u * p16))
        acute = p9 + u * (p10 + u * (p11 + u * (p12 + u * acute)))
        acute = p5 + u * (p6 + u * (p7 + u * (p8 + u * acute)))
        acute = t * (p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * acute)))))
        theta = (low[left + k] + low[mid + k]) + (low[right + k] + low[s_low + k])
        slope = low[inside + k] - acute if low[s_low + k] >= 0 else gamma + acute
        low[plane + k] = theta * slope


@lean
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
    margin = (side + np.uint64(15)) & LANES  # of whole vectors: `plane` and `rows` are aligned
    start, length, rest = plane - margin, n + margin + margin, margin - side
    if up == one:
        above, below = start - stride, start + stride
        for k in range(length & LANES):
            a[rows + k] = a[above + k] + a[start + k] + a[below + k]
    else:
        _copy(a, start - up * stride, rows, length)
        for row in range(one, up + up + one):
            _accumulate(a, start + row * stride - up * stride, rows, length)
    if side == one:
        return rows + rest, rows + rest + one, rows + rest + one + one
    if side > one:
        _copy(a, rows + rest, box, n)
        for column in range(one, side + side + one):
            _accumulate(a, rows + rest + column, box, n)
        return zeros, box, zeros
    return zeros, rows, zeros


@lean
def _layers(
    geometry: Geometry, layers: Layers, high: Array, low: Array, segment: Index, n: Index,
    dx: Array, x: Index, dy: Array, y: Index, vx: Array, vy: Array, row: Index,
    fresh: bool, exact_nngp: int | None, exact_ntk: int | None,
) -> None:  # fmt: skip
    """All layers of a group on the plane of n entries in `high` (NNGP) and `low` (NTK).

    Scratch is divided into segments of `segment` numbers: see layout.Scratch. `x` and `y` are
    where the plane starts in the deviations of the first layer, `row` numbers per layer. `fresh`:
    the NTK plane is 0 and need not be written before.
    """
    wide()
    disjoint()
    rows, columns, stride, guard, _, torus = geometry
    filters, numbers, p, r = layers
    two = np.uint64(2)
    first, second, third = segment, two * segment, (two + np.uint64(1)) * segment
    root, s_low, inside = two * second, two * second + segment, two * third
    plane, width, length = np.uint64(guard), np.uint64(stride), n & LANES
    for layer in range(len(numbers)):
        up, side = filters[layer, 0], filters[layer, 1]
        bias, rescale = numbers[layer, 0], numbers[layer, 1]
        gamma, signed = numbers[layer, 2], numbers[layer, 3] != 0
        if torus:
            _wrap(high, guard, rows, columns, stride, int(up), int(side))
            _wrap(low, guard, rows, columns, stride, int(up), int(side))
        a, b, c = _box(high, plane, first, second, third, width, up, side, length)
        if exact_nngp is not None:
            _nngp_double(
                high, a, b, c, bias, plane, dx, x, dy, y, vx, vy, low, root, s_low, r, layer,
                gamma, length,
            )  # fmt: skip
        elif signed:
            _nngp(
                high, a, b, c, bias, plane, dx, x, dy, y, vx, vy, low, root, s_low, r, layer,
                gamma, True, length,
            )  # fmt: skip
        else:
            _nngp(
                high, a, b, c, bias, plane, dx, x, dy, y, vx, vy, low, root, s_low, r, layer,
                gamma, False, length,
            )  # fmt: skip
        a, b, c = third, third, third
        if layer > 0 or not fresh:
            a, b, c = _box(low, plane, first, second, third, width, up, side, length)
        if exact_ntk is not None:
            _ntk_double(low, a, b, c, plane, root, s_low, inside, p, layer, gamma, length)
        elif signed:
            _ntk(low, a, b, c, plane, root, s_low, inside, p, layer, gamma, True, length)
        else:
            _ntk(low, a, b, c, plane, root, s_low, inside, p, layer, gamma, False, length)
        if rescale != 1:
            for k in range(length):
                high[plane + k] *= rescale
                low[plane + k] *= rescale
        x += row
        y += row


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


@lean
def _gather(
    tensor: Array, x: Array, i: Index, y: Array, j: Index, out: Array, base: Index, n: Index
) -> None:  # fmt: skip
    """out[k] = tensor[x[k] + y[k]]."""
    for k in range(n):
        out[base + k] = tensor[x[i + k] + y[j + k]]


@lean
def _scatter(
    a: Array, base: Index, x: Array, i: Index, y: Array, j: Index, tensor: Array, n: Index
) -> None:  # fmt: skip
    """tensor[x[k] + y[k]] += a[k]."""
    for k in range(n):
        tensor[x[i + k] + y[j + k]] += a[base + k]


@lean
def _roll(
    source: Array, base: int, count: int, out: Array, geometry: Geometry, down: int, across: int
) -> None:  # fmt: skip
    """out[m, i, j] = source[base + ...][m, i + down, j + across] on the torus, m < count."""
    rows, columns, stride, row = geometry.rows, geometry.columns, geometry.stride, geometry.row
    for m in range(count):
        for i in range(rows):
            line = base + m * row + (i + down) % rows * stride
            for j in range(columns - across):
                out[m * row + i * stride + j] = source[line + across + j]
            for j in range(across):
                out[m * row + i * stride + columns - across + j] = source[line + j]


@lean
def _fold(
    a: Array, start: Index, count: Index, even: bool, folded: Array, here: Index, there: Index
) -> None:  # fmt: skip
    """Add the entries at even and at odd places of `a` to one folded plane, or to two."""
    if even:
        for h in range(count):
            folded[here + h] += a[start + h + h] + a[start + h + h + np.uint64(1)]
    else:
        for h in range(count):
            folded[here + h] += a[start + h + h]
            folded[there + h] += a[start + h + h + np.uint64(1)]


@lean
def _pool(
    high: Array, low: Array, base: int, n: int, ox: int, lag: int, twice: bool,
    folded: Folded, sink: PixelPairs,
) -> None:  # fmt: skip
    """Add a plane to the pooled tensor by way of folded planes, for windows of two columns.

    The pixels s = 2 h + c and s + lag are in the windows h and h + (c + lag) // 2 of their rows.
    So a plane is folded to one or two of half the length, the planes of neighbouring lags to the
    same ones, and only these are scattered.
    """
    first, size = ox // 2, len(folded.high) // 4
    start, count = np.uint64(base + 2 * first - ox), np.uint64((ox + n + 1) // 2 - first)
    slots = (0, 0)
    for c in range(2):
        coarse = (lag + c) // 2
        slot, key = 2 * (coarse & 1) + (coarse < 0), 2 * coarse + twice
        if folded.owner[slot] != key:
            _unfold(folded, slot, sink)
            folded.owner[slot] = key
        slots = (slots[1], slot * size + first)
    here, there = np.uint64(slots[0]), np.uint64(slots[1])
    _fold(high, start, count, lag % 2 == 0, folded.high, here, there)
    _fold(low, start, count, lag % 2 == 0, folded.low, here, there)


@lean
def _unfold(folded: Folded, slot: int, sink: PixelPairs) -> None:
    """Add a folded plane to the pooled tensor, and clear it."""
    key, size = folded.owner[slot], len(folded.high) // 4
    lag, twice = key >> 1, (key & 1) == 1
    for h in range(max(-lag, 0), size - max(lag, 0)):
        place = sink.left[2 * h] + sink.right[2 * (h + lag)]
        sink.nngp[place] += folded.high[slot * size + h]
        sink.ntk[place] += folded.low[slot * size + h]
        if twice:
            place = sink.left[2 * (h + lag)] + sink.right[2 * h]
            sink.nngp[place] += folded.high[slot * size + h]
            sink.ntk[place] += folded.low[slot * size + h]
    for h in range(slot * size, (slot + 1) * size):
        folded.high[h] = 0
        folded.low[h] = 0


@lean
def run_group(
    geometry: Geometry, layers: Layers, left: Side, right: Side, pairs: Array, lags: Array,
    half: Array, source: PixelPairs, sink: PixelPairs,
    scratch: Scratch, exact_nngp: int | None, exact_ntk: int | None, sums: Array,
) -> None:  # fmt: skip
    """The layers between two pools (or an end of the network) for the given pairs of images.

    `pairs` (m, 3): index in `left`, in `right`, and whether both are the same image, which then
    takes the lags `half` instead of `lags`, (count, 3) each: flat lag (or rows and columns on the
    torus) and how many planes it stands for. A group that reads a pooled tensor gets it as
    `source`, one that is followed by a pool adds to `sink`; both are empty otherwise. `sums`
    (m, 2) receives the sums over all pixel pairs of NNGP and NTK (last group only). Sides are flat
    (`Side.flat`).
    """
    wide()
    rows, _, stride, guard, size, torus = geometry
    high, low, folded = scratch.high, scratch.low, scratch.folded
    x_channels, dx, vx = left.channels, left.deviation, left.inverse
    y_channels, dy, vy = right.channels, right.deviation, right.inverse
    source_right, sink_left, sink_right = source.right, sink.left, sink.right
    if torus:
        y_channels, dy, vy = scratch.channels, scratch.deviation, scratch.inverse
        source_right = scratch.source_right
        sink_left, sink_right = scratch.sink_left, scratch.sink_right
    depth = len(layers.numbers)
    channels = len(x_channels) * depth // len(dx)
    base, segment, row = np.uint64(guard), np.uint64(scratch.segment), np.uint64(size)
    inside = np.uint64(6 * scratch.segment)
    fresh, last = len(source.nngp) == 0, len(sink.nngp) == 0
    for m in range(len(pairs)):
        a, b, same = pairs[m, 0], pairs[m, 1], pairs[m, 2] == 1
        chosen = half if same else lags
        nngp_sum, ntk_sum = 0.0, 0.0
        # Planes come in rising length, so beyond the end of each one there are zeros.
        for k in range(segment):
            high[k] = 0
            low[k] = 0
        for step in range(len(chosen)):
            lag, across, weight = chosen[step, 0], chosen[step, 1], chosen[step, 2]
            ox, oy, image = max(-lag, 0), max(lag, 0), b
            if torus:
                _roll(
                    right.channels, b * channels * size, channels, y_channels, geometry, lag, across
                )
                _roll(right.deviation, b * depth * size, depth, dy, geometry, lag, across)
                _roll(right.inverse, b * depth * size, depth, vy, geometry, lag, across)
                if not fresh:
                    _roll(source.right, 0, 1, source_right, geometry, lag, across)
                if not last:
                    _roll(sink.left, 0, 1, sink_left, geometry, lag, across)
                    _roll(sink.right, 0, 1, sink_right, geometry, lag, across)
                ox, oy, image = 0, 0, 0
            n = np.uint64(rows * stride - ox - oy)
            i, j, length = np.uint64(ox), np.uint64(oy), (n + np.uint64(15)) & LANES
            _multiply(left.inside, i, right.inside, j, low, inside, length)
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
                _gather(source.nngp, source.left, i, source_right, j, high, base, n)
                _gather(source.ntk, source.left, i, source_right, j, low, base, n)
            x, y = np.uint64(a * depth * size + ox), np.uint64(image * depth * size + oy)
            _layers(
                geometry, layers, high, low, segment, length, dx, x, dy, y, vx, vy, row,
                fresh, exact_nngp, exact_ntk,
            )  # fmt: skip
            if last:
                nngp_sum += weight * _total(high, base, length)
                ntk_sum += weight * _total(low, base, length)
            elif len(folded.high) > 0:
                _pool(high, low, guard, int(n), ox, lag, weight == 2, folded, sink)
            else:
                _scatter(high, base, sink.left, i, sink_right, j, sink.nngp, n)
                _scatter(low, base, sink.left, i, sink_right, j, sink.ntk, n)
                if weight == 2:
                    _scatter(high, base, sink.right, i, sink_left, j, sink.nngp, n)
                    _scatter(low, base, sink.right, i, sink_left, j, sink.ntk, n)
        if len(folded.high) > 0:
            for slot in range(4):
                _unfold(folded, slot, sink)
                folded.owner[slot] = 0
        sums[m, 0] = nngp_sum
        sums[m, 1] = ntk_sum
