"""The compiled recursion on bands of pixel pairs, for activations with two slopes.

With stride 1, K[s, s'] only meets entries of the same offset s' - s, so each offset is a plane on
which all layers run while it stays in the cache (the same holds for the NTK). Per layer, with
v = s_x s_y from the variances of the two images (prepare.py) and box sums over the filter:

    S = box(K) + bias,  U = v - |S|,  u = U/v = 1 - |rho|,  t = sqrt(u)
    K' = S + U t R(u),  T' = (1 - t P(u)) (S + box(T))        (rho >= 0; duals/relu_like.py)

P and R are duals/arc_cosine.py, times 1 - gamma of the activation. U is formed in the precision
of the K plane, float64 by default: it is what plain float32 loses on equal patches. Before a pool
the default adds U t R in float64 too: the pooled K are sums, and 1 - rho of these is a small
difference of large numbers. T is in no difference, so float32 does for it everywhere.

A band is LANES neighbouring planes: vector k holds the pairs of pixel k of the left image with
LANES pixels that follow each other in the right one. So the numbers of the left pixel are the same
in all lanes, those of the right ones one load, and the neighbours that a filter adds up are whole
vectors, of which the sums over rows pass from one pixel to the next in registers: a layer is one
pass that reads K and T and writes them elsewhere.

Layout, SAME padding (`lag`): images are rows of W = Q + r pixels, r of them zero (r = half of the
widest filter), so that pixels k and k + lag go on in the next row. CIRCULAR: a band is an offset
of rows and LANES offsets of columns; the right image's rows are long enough to go around, bands
have a halo. Pixels that are zero have v = 0, which makes K and T 0.
"""

from __future__ import annotations

from typing import Any

from workers.compiled.jit import disjoint, inline, lean, wide
from workers.compiled.vectors import (
    convert,
    largest,
    least,
    loads,
    size,
    splats,
    spreads,
    sqrt,
    store,
    where_less,
)
from workers.kernels.planes.bands import begin, box_sums, clear, gather, line_of, scale, wrap
from workers.kernels.planes.geometry import LANES, Bands, Geometry
from workers.kernels.planes.layout import Layers, PixelPairs, Scratch, Side
from workers.kernels.planes.pools import fold, scatter

Array = Any  # numba infers array types itself
Vector = Any

load, spread, splat = loads(LANES), spreads(LANES), splats(LANES)

# Products and sums, not `fma`: they are fused where the CPU can, and `fma` is a call per number
# where it cannot.


@inline
def _short_r(r: Array, at: int, u: Vector) -> Vector:
    value = u * spread(r, at + 5) + spread(r, at + 4)
    value = u * value + spread(r, at + 3)
    value = u * value + spread(r, at + 2)
    value = u * value + spread(r, at + 1)
    return u * value + spread(r, at)


@inline
def _short_p(p: Array, at: int, u: Vector) -> Vector:
    value = u * spread(p, at + 6) + spread(p, at + 5)
    value = u * value + spread(p, at + 4)
    value = u * value + spread(p, at + 3)
    value = u * value + spread(p, at + 2)
    value = u * value + spread(p, at + 1)
    return u * value + spread(p, at)


@inline
def _long(c: Array, at: int, u: Vector) -> Vector:
    """Of 17 coefficients."""
    value = spread(c, at + 16)
    for m in range(16):
        value = u * value + spread(c, at + 15 - m)
    return value


@inline
def _tall(a: Array, at: int, stride: int) -> Vector:
    """The sum of three pixels of a column."""
    return (load(a, at - stride) + load(a, at)) + load(a, at + stride)


@inline
def _layer(
    geometry: Geometry, lag: int, across: int, layers: Layers, layer: int, sliding: bool,
    boxes: int, source: int, sink: int, high: Array, low: Array,
    dx: Array, vx: Array, x: int, dy: Array, vy: Array, y: int, inside: Array,
    fresh: bool, final: bool, totals: Array, signed: bool,
    exact_nngp: int | None, exact_ntk: int | None,
) -> None:  # fmt: skip
    """One layer of a band, from `source` to `sink` in `high` (K) and `low` (T).

    The box sums are made here if `sliding` (3 x 3), else they stand at `boxes`. `x` and `y`: where
    the images start in the deviations. `fresh`: T is 0 before. `final`: K' and T' are added to
    `totals`, lane by lane. `signed`: a constant of each call, as rho >= 0 takes fewer operations.
    """
    r, p, depth = layers.r, layers.p, len(layers.numbers)
    at_r, at_p = layer * (len(r) // depth), layer * (len(p) // depth)
    bias = splat(high.dtype.type(layers.numbers[layer, 0]))
    gamma_high = splat(high.dtype.type(layers.numbers[layer, 2]))
    gamma_low = splat(low.dtype.type(layers.numbers[layer, 2]))
    zero_high, zero_low = splat(high.dtype.type(0)), splat(low.dtype.type(0))
    stride = geometry.stride * LANES
    sum_k, sum_t = load(totals, 0), load(totals, LANES)
    for i in range(geometry.rows):
        first, stop, partner = line_of(geometry, lag, across, i)
        at = (i * geometry.stride + first) * LANES
        k1, k2, t1, t2 = zero_high, zero_high, zero_low, zero_low
        line_k, line_t = zero_high, zero_high
        if sliding and first < stop:
            k1 = _tall(high, source + at - LANES, stride)
            k2 = _tall(high, source + at, stride)
            if not fresh:
                t1 = _tall(low, source + at - LANES, stride)
                t2 = _tall(low, source + at, stride)
        left, right = x + geometry.lead + i * geometry.line, y + partner
        for j in range(first, stop):
            v = spread(dx, left + j) * load(dy, right + j)
            if sliding:
                k3 = _tall(high, source + at + LANES, stride)
                s = (k1 + k2) + (k3 + bias)
                k1, k2 = k2, k3
            else:
                s = load(high, boxes + at) + bias
            s = least(s, v)
            linear = s
            if signed:
                s = largest(s, zero_high - v)
                linear = where_less(s, zero_high, gamma_high * s, s)
                gap = convert(v - size(s), r)
            else:
                gap = convert(v - s, r)
            u = gap * (spread(vx, left + j) * load(vy, right + j))
            t = sqrt(u)
            if exact_nngp is not None:  # noqa: SIM108 - numba leaves out the other branch only so
                kappa = _long(r, at_r, u)
            else:
                kappa = _short_r(r, at_r, u)
            nngp = linear + convert(gap * (t * kappa), high)
            u_low, t_low, s_low = convert(u, low), convert(t, low), convert(s, low)
            if exact_ntk is not None:
                acute = t_low * _long(p, at_p, u_low)
            else:
                acute = t_low * _short_p(p, at_p, u_low)
            slope = load(inside, partner + j) - acute
            if signed:
                slope = where_less(s_low, zero_low, gamma_low + acute, slope)
            theta = s_low
            if not fresh:
                if sliding:
                    t3 = _tall(low, source + at + LANES, stride)
                    theta = (t1 + t2) + (t3 + s_low)
                    t1, t2 = t2, t3
                else:
                    theta = load(low, boxes + at) + s_low
            ntk = theta * slope
            if final:
                line_k = line_k + nngp
                line_t = line_t + convert(ntk, high)
            else:
                store(high, sink + at, nngp)
                store(low, sink + at, ntk)
            at += LANES
        if final:
            sum_k = sum_k + convert(line_k, totals)
            sum_t = sum_t + convert(line_t, totals)
    store(totals, 0, sum_k)
    store(totals, LANES, sum_t)


@lean
def run_group(
    geometry: Geometry, layers: Layers, left: Side, right: Side, pairs: Array, bands: Bands,
    half: Bands, source: PixelPairs, sink: PixelPairs, scratch: Scratch,
    exact_nngp: int | None, exact_ntk: int | None, sums: Array,
) -> None:  # fmt: skip
    """The layers between two pools (or an end of the network) for the given pairs of images.

    `pairs` (m, 3): index in `left`, in `right`, and whether both are the same image, which then
    takes the bands `half` instead of `bands`. A group that reads a pooled tensor gets it as
    `source`, one that is followed by a pool adds to `sink`; both are empty otherwise. `sums`
    (m, 2) receives the sums over all pixel pairs of NNGP and NTK (last group only). Sides, layers
    and bands are flat (`.flat`).
    """
    wide()
    disjoint()
    high, low, totals, segment = scratch.high, scratch.low, scratch.totals, scratch.segment
    depth, row, guard = len(layers.numbers), geometry.row, geometry.guard * LANES
    channels = len(left.channels) * depth // len(left.deviation)
    fresh, ends = len(source.nngp) == 0, len(sink.nngp) == 0
    everything = geometry.rows * geometry.stride
    dirty = 0, everything  # of the last call
    for m in range(len(pairs)):
        chosen = half if pairs[m, 2] == 1 else bands
        x, y = pairs[m, 0] * depth * row, pairs[m, 1] * depth * row
        nngp_sum, ntk_sum = 0.0, 0.0
        for band in range(len(chosen.weights) // LANES):
            lag, across = chosen.lags[2 * band], chosen.lags[2 * band + 1]
            at_weight = band * LANES
            here, there = guard, guard + segment
            start, stop = 0, everything
            if not geometry.torus:
                start, stop = max(0, 1 - LANES - lag), min(everything, everything - lag)
                if dirty[0] < start or dirty[1] > stop:  # a filter may read what is not overwritten
                    for part in (guard, guard + segment):
                        clear(high, part + dirty[0] * LANES, part + dirty[1] * LANES)
                        clear(low, part + dirty[0] * LANES, part + dirty[1] * LANES)
                dirty = start, stop
            if fresh:
                begin(
                    geometry, lag, across, left.channels, pairs[m, 0] * channels * row,
                    right.channels, pairs[m, 1] * channels * row, channels, high, here,
                )  # fmt: skip
            else:
                gather(geometry, lag, across, source.nngp, source.left, high, here)
                gather(geometry, lag, across, source.ntk, source.left, low, here)
            clear(totals, 0, 2 * LANES)
            for layer in range(depth):
                up, side = layers.filters[layer, 0], layers.filters[layer, 1]
                zero_ntk, final = fresh and layer == 0, ends and layer == depth - 1
                if geometry.torus:
                    wrap(geometry, high, here, up, side)
                    if not zero_ntk:
                        wrap(geometry, low, here, up, side)
                sliding, boxes, at = up == 1 and side == 1, here, layer * row
                if not sliding and up + side > 0:
                    rows, boxes = guard + 2 * segment, guard + 3 * segment
                    box_sums(geometry, high, here, rows, boxes, up, side, start, stop)
                    if not zero_ntk:
                        box_sums(geometry, low, here, rows, boxes, up, side, start, stop)
                if layers.numbers[layer, 3] != 0:
                    _layer(
                        geometry, lag, across, layers, layer, sliding, boxes, here, there,
                        high, low, left.deviation, left.inverse, x + at, right.deviation,
                        right.inverse, y + at, right.inside, zero_ntk, final, totals, True,
                        exact_nngp, exact_ntk,
                    )  # fmt: skip
                else:
                    _layer(
                        geometry, lag, across, layers, layer, sliding, boxes, here, there,
                        high, low, left.deviation, left.inverse, x + at, right.deviation,
                        right.inverse, y + at, right.inside, zero_ntk, final, totals, False,
                        exact_nngp, exact_ntk,
                    )  # fmt: skip
                here, there = there, here
                rescale = layers.numbers[layer, 1]
                if rescale != 1 and final:
                    for k in range(2 * LANES):
                        totals[k] *= rescale
                elif rescale != 1:
                    scale(high, rescale, here + start * LANES, here + stop * LANES)
                    scale(low, rescale, here + start * LANES, here + stop * LANES)
            if ends:
                for lane in range(LANES):
                    nngp_sum += chosen.weights[at_weight + lane] * totals[lane]
                    ntk_sum += chosen.weights[at_weight + lane] * totals[LANES + lane]
            elif sink.window_rows > 0:
                fold(
                    geometry, lag, high, here, sink.left, sink.nngp, sink.window_rows, sink.line,
                    sink.lead, scratch.lanes_high,
                )  # fmt: skip
                fold(
                    geometry, lag, low, here, sink.left, sink.ntk, sink.window_rows, sink.line,
                    sink.lead, scratch.lanes_low,
                )  # fmt: skip
            else:
                scatter(
                    geometry, lag, across, high, here, chosen.weights, at_weight, sink.left,
                    sink.right, sink.nngp,
                )  # fmt: skip
                scatter(
                    geometry, lag, across, low, here, chosen.weights, at_weight, sink.left,
                    sink.right, sink.ntk,
                )  # fmt: skip
        sums[m, 0] = nngp_sum
        sums[m, 1] = ntk_sum
