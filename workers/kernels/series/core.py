"""The compiled recursion on blocks of pairs whose layers are polynomials (fit.py).

All layers run on the pairs of one row with all columns, whose numbers stay in the L1 cache; a
layer is one pass over them, 32 pairs at a time in registers: A and dA/dtau by Horner's rule, the
kernel of the activation, and the affine layer after it. Coefficients of a pair are sums over
`rank` functions of the column, weighted by numbers of the row.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from workers.compiled.jit import exact_inline, exact_jit, wide
from workers.compiled.vectors import (
    fma,
    largest,
    least,
    loads,
    splats,
    sqrt,
    store,
    where_less,
)

Array = Any  # numba infers array types itself
Index = Any  # np.uint64
Vector = Any

LANES = 32
"""Pairs of a vector: four registers of AVX-512, so that what is done once per vector, loops over
terms and addresses among it, counts for little. Of 8, 16 and 32 it took the least time for rows of
unlike lengths there (erf 8.5, 8.5, 7.6 ns per pair of three layers; GELU 6.3, 6.0, 4.7), and with
AVX2 code on the same core up to a fifth more than 8 (EPYC, busy, 2026-11-27)."""

load, splat = loads(LANES), splats(LANES)

COLUMN_MULTIPLE = LANES
"""Numbers of columns are multiples of this."""

SCRATCH_ROWS = 6

ODD, EVEN, NEITHER = 0, 1, 2

_WIDTH = np.uint64(LANES)


class LayerShape(NamedTuple):
    """Of one layer: what its numbers in `Layers` mean."""

    rank: int
    terms: int
    terms_below: int
    parity: int
    gaps: int  # the rows have deviations of their own


class Layers(NamedTuple):
    """Numbers of all layers, float64, padded to the largest rank and number of terms.

    `functions` of the columns: (layers, rank, n2). Of the rows: coefficients of A for either sign
    (layers, n1, terms, rank), by falling power; those of `apart` and `opposite`,
    (layers, 2, n1, rank). `left`, `right` (layers, 3, n): position, and the components of weights
    and bias in the unit vector of the layer's output (rows.py). `scales` (layers, 2): how much
    weights and biases count in the NTK.
    """

    shapes: Array  # (layers, 5) int64, rows are LayerShape
    above: Array
    below: Array
    ends: Array
    functions: Array
    left: Array
    right: Array
    scales: Array


@exact_inline
def _polynomial(
    c: Array, terms: int, rank: int, f: Array, tau: Vector, j: Index
) -> tuple[Vector, Vector]:
    """A and dA/dtau of the pairs from j on."""
    first = load(f[0], j)
    a = splat(c[0, 0]) * first
    for r in range(1, rank):
        a = fma(splat(c[0, r]), load(f[r], j), a)
    slope = splat(0.0)
    for term in range(1, terms):
        coefficient = splat(c[term, 0]) * first
        for r in range(1, rank):
            coefficient = fma(splat(c[term, r]), load(f[r], j), coefficient)
        slope = fma(slope, tau, a)
        a = fma(a, tau, coefficient)
    return a, slope


@exact_inline
def _combination(c: Array, rank: int, f: Array, j: Index) -> Vector:
    """Sum of c[r] f[r] of the pairs from j on."""
    total = splat(c[0]) * load(f[0], j)
    for r in range(1, rank):
        total = fma(splat(c[r]), load(f[r], j), total)
    return total


@exact_inline
def _apart(c: Array, rank: int, f: Array, place: Vector, right: Array, j: Index) -> Vector:
    """(x - x')^2 apart(s, s')."""
    gap = place - load(right, j)
    return _combination(c, rank, f, j) * (gap * gap)


@exact_inline
def _share(a1: Vector, b1: Vector, right: Array, j: Index) -> tuple[Vector, Vector, Vector]:
    """Of the output's correlation: the part of the weights and of the bias, where rows are equal,
    and what the rest lacks to 1."""
    a2, b2 = load(right[1], j), load(right[2], j)
    weights, biases = a1 - a2, b1 - b2
    return a1 * a2, b1 * b2, splat(0.5) * fma(weights, weights, biases * biases)


@exact_inline
def _positive_layer(
    c: Array, shape: Array, apart: Array, f: Array, left: Array, right: Array,
    scales: Array, t: Array, ntk: Array, t_out: Array, ntk_out: Array, lanes: Array, n: Index,
) -> bool:  # fmt: skip
    """One layer where rho >= 0 in all pairs. Whether that is so for its activation's kernel too;
    if not, the results mean nothing."""
    rank, terms, gaps = shape[0], shape[1], shape[4]
    one, zero = splat(1.0), splat(0.0)
    place, a1, b1 = splat(left[0]), splat(left[1]), splat(left[2])
    weight_scale, bias_scale = splat(scales[0]), splat(scales[1])
    farthest = zero
    for j in range(np.uint64(0), n, _WIDTH):
        s = load(t, j)
        a, slope = _polynomial(c, terms, rank, f, s + s - one, j)
        w = (s * s) * a
        if gaps == 1:
            w = w + _apart(apart, rank, f, place, right[0], j)
        w = largest(w, zero)
        farthest = largest(farthest, w)
        weight, bias, rest = _share(a1, b1, right, j)
        own = fma(weight_scale, weight * (one - w), bias_scale * bias)
        store(ntk_out, j, fma(weight * fma(s, slope, a), load(ntk, j), own))
        store(t_out, j, sqrt(fma(weight, w, rest)))
    store(lanes, np.uint64(0), farthest)
    most = 0.0
    for lane in range(LANES):
        most = max(most, lanes[lane])
    return most <= 1


@exact_inline
def _signed_kernel(
    parity: int, s: Vector, sign: Vector, a: Vector, d: Vector, below: Vector,
    below_slope: Vector, opposite: Vector, rest: Vector,
) -> tuple[Vector, Vector, Vector]:  # fmt: skip
    """Of the activation: 1 - |rho_E|, the sign of rho_E, and D."""
    zero, one, two = splat(0.0), splat(1.0), splat(2.0)
    square = s * s
    slope, distance = fma(s, d, a), fma(square, a, rest)
    if parity == NEITHER:
        slope = where_less(sign, zero, fma(s, below_slope, below), slope)
        distance = where_less(sign, zero, one - fma(square, below, opposite), distance)
    elif parity == EVEN:
        slope = slope * sign
    distance = least(largest(distance, zero), two)
    turned = where_less(one, distance, splat(-1.0), one)
    size = where_less(one, distance, two - distance, distance)
    return size, turned * sign if parity == ODD else turned, slope


@exact_inline
def _signed_output(
    weight: Vector, bias: Vector, rest: Vector, weight_scale: Vector, bias_scale: Vector,
    size: Vector, sign: Vector, slope: Vector, ntk: Vector,
) -> tuple[Vector, Vector, Vector]:  # fmt: skip
    """Of the layer: t, the sign of rho, and the NTK."""
    zero, one, two = splat(0.0), splat(1.0), splat(2.0)
    share = sign * (weight * (one - size))
    own = fma(weight_scale, share, bias_scale * bias)
    kernel = fma(weight * slope, ntk, own)
    near = fma(weight, where_less(sign, zero, two - size, size), rest)
    far = fma(weight, where_less(sign, zero, size, two - size), rest) + (bias + bias)
    rho = share + bias
    root = sqrt(largest(where_less(rho, zero, far, near), zero))
    return root, where_less(rho, zero, splat(-1.0), one), kernel


@exact_inline
def _signed_layer(
    above: Array, below: Array, shape: Array, apart: Array, opposite: Array, f: Array,
    left: Array, right: Array, scales: Array, t: Array, sign: Array, ntk: Array,
    lanes: Array, n: Index,
) -> bool:  # fmt: skip
    """One layer in place, rho of either sign. Whether some rho < 0 is left."""
    rank, terms, terms_below, parity, gaps = shape[0], shape[1], shape[2], shape[3], shape[4]
    one, zero = splat(1.0), splat(0.0)
    place, a1, b1 = splat(left[0]), splat(left[1]), splat(left[2])
    weight_scale, bias_scale = splat(scales[0]), splat(scales[1])
    least_sign = one
    for j in range(np.uint64(0), n, _WIDTH):
        s = load(t, j)
        tau = s + s - one
        a, d = _polynomial(above, terms, rank, f, tau, j)
        u, du, opposite_kernel, rest = a, d, zero, zero
        if parity == NEITHER:
            u, du = _polynomial(below, terms_below, rank, f, tau, j)
            opposite_kernel = _combination(opposite, rank, f, j)
        if gaps == 1:
            rest = _apart(apart, rank, f, place, right[0], j)
        size, side, slope = _signed_kernel(
            parity, s, load(sign, j), a, d, u, du, opposite_kernel, rest
        )
        weight, bias, lack = _share(a1, b1, right, j)
        root, side, kernel = _signed_output(
            weight, bias, lack, weight_scale, bias_scale, size, side, slope, load(ntk, j)
        )
        least_sign = least(least_sign, side)
        store(t, j, root)
        store(sign, j, side)
        store(ntk, j, kernel)
    store(lanes, np.uint64(0), least_sign)
    lowest = 1.0
    for lane in range(LANES):
        lowest = min(lowest, lanes[lane])
    return lowest < 0


@exact_inline
def _start(folded: Array, t: Array, sign: Array, ntk: Array, n: Index) -> bool:
    """Of the inputs: t, sign and NTK (0). Whether rho < 0 occurs."""
    negative = 0
    for j in range(n):
        w = np.float64(folded[j])
        negative += 1 if w < 0 else 0
        sign[j] = -1.0 if w < 0 else 1.0
        t[j] = math.sqrt(abs(w))
        ntk[j] = 0.0
    return negative > 0


@exact_inline
def _deliver(
    scale: float, scales: Array, t: Array, sign: Array, ntk: Array, nngp_out: Array,
    ntk_out: Array, n: Index,
) -> None:  # fmt: skip
    for j in range(n):
        size = scale * scales[j]
        nngp_out[j] = size * (sign[j] * (1 - t[j] * t[j]))
        ntk_out[j] = size * ntk[j]


@exact_jit
def run_block(
    folded: Array, layers: Layers, scale1: Array, scale2: Array, nngp: Array, ntk_out: Array,
    scratch: Array,
) -> None:  # fmt: skip
    """NNGP and NTK (n1, n2) of pairs with folded correlations (inputs.py) `folded` (n1, n2).

    n2 is a multiple of COLUMN_MULTIPLE. `scale1`, `scale2`: deviations of the output of the
    network. `scratch` (SCRATCH_ROWS, n2) float64.
    """
    wide()
    n1, n2 = folded.shape
    n = np.uint64(n2)
    t, other_t, ntk, other_ntk = scratch[0], scratch[1], scratch[2], scratch[3]
    sign, lanes = scratch[4], scratch[5]
    for i in range(n1):
        negative = _start(folded[i], t, sign, ntk, n)
        for layer in range(len(layers.shapes)):
            shape, scales = layers.shapes[layer], layers.scales[layer]
            f, ends = layers.functions[layer], layers.ends[layer]
            left, right = layers.left[layer, :, i], layers.right[layer]
            above = layers.above[layer, i]
            if not negative and _positive_layer(
                above, shape, ends[0, i], f, left, right, scales, t, ntk, other_t, other_ntk,
                lanes, n,
            ):  # fmt: skip
                t, other_t = other_t, t
                ntk, other_ntk = other_ntk, ntk
                continue
            negative = _signed_layer(
                above, layers.below[layer, i], shape, ends[0, i], ends[1, i], f, left, right,
                scales, t, sign, ntk, lanes, n,
            )  # fmt: skip
        _deliver(scale1[i], scale2, t, sign, ntk, nngp[i], ntk_out[i], n)
