"""The compiled recursion on blocks of pairs whose layers are polynomials (fit.py).

All layers run on the pairs of one row with all columns, whose numbers stay in the L1 cache:
t = sqrt(1 - |rho|), the sign of rho, the normalised NTK, and A and dA/dtau of the layer, which
grow by a few terms of the polynomial per pass over the columns. Coefficients of a pair are sums
over `rank` functions of the column, weighted by numbers of the row.

One file, because numba's cache does not notice changes of functions in other files.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from workers.kernels.jit import inline, jit, wide

Array = Any  # numba infers array types itself
Index = Any  # np.uint64

FUNCTIONS_PER_PASS = 4
"""Ranks other than 1 are multiples of this. A loop over 8 or 12 functions at once is hardly faster,
one over 16 takes twice as long."""

TERMS_PER_PASS = {True: 8, False: 4}
"""By rank == 1: polynomials have a multiple of so many terms, the highest of them zeros."""

ODD, EVEN, NEITHER = 0, 1, 2


class LayerShape(NamedTuple):
    """Of one layer: what its numbers in `Layers` mean."""

    rank: int
    terms: int
    terms_below: int
    parity: int
    linear: int  # the activation is the identity: nothing but the affine layer
    gaps: int  # the rows have deviations of their own


class Layers(NamedTuple):
    """Numbers of all layers, float64, padded to the largest rank and number of terms.

    `functions` of the columns: (layers, rank, n2). Of the rows: coefficients of A for either sign
    (layers, n1, terms, rank), by falling power; those of `apart` and `opposite`,
    (layers, 2, n1, rank). `left`, `right` (layers, 3, n): position, and the components of weights
    and bias in the unit vector of the layer's output (rows.py). `scales` (layers, 2): how much
    weights and biases count in the NTK.
    """

    shapes: Array  # (layers, 6) int64, rows are LayerShape
    above: Array
    below: Array
    ends: Array
    functions: Array
    left: Array
    right: Array
    scales: Array


@inline
def _eight_terms_of_one(c: Array, at: int, tau: Array, a: Array, d: Array, n: Index) -> None:
    """Eight more terms of Horner's rule for A and its derivative; the same for all columns."""
    c0, c1, c2, c3 = c[at, 0], c[at + 1, 0], c[at + 2, 0], c[at + 3, 0]
    c4, c5, c6, c7 = c[at + 4, 0], c[at + 5, 0], c[at + 6, 0], c[at + 7, 0]
    for j in range(n):
        x, value, slope = tau[j], a[j], d[j]
        slope = slope * x + value
        value = value * x + c0
        slope = slope * x + value
        value = value * x + c1
        slope = slope * x + value
        value = value * x + c2
        slope = slope * x + value
        value = value * x + c3
        slope = slope * x + value
        value = value * x + c4
        slope = slope * x + value
        value = value * x + c5
        slope = slope * x + value
        value = value * x + c6
        slope = slope * x + value
        value = value * x + c7
        a[j] = value
        d[j] = slope


@inline
def _four_terms_of_four(
    c: Array, at: int, first: int, f: Array, tau: Array, a: Array, d: Array, n: Index
) -> None:  # fmt: skip
    """Four more terms, each a sum of four functions of the column from `first` on."""
    second, third, fourth = first + 1, first + 2, first + 3
    c00, c01, c02, c03 = c[at, first], c[at, second], c[at, third], c[at, fourth]
    at += 1
    c10, c11, c12, c13 = c[at, first], c[at, second], c[at, third], c[at, fourth]
    at += 1
    c20, c21, c22, c23 = c[at, first], c[at, second], c[at, third], c[at, fourth]
    at += 1
    c30, c31, c32, c33 = c[at, first], c[at, second], c[at, third], c[at, fourth]
    f0, f1, f2, f3 = f[first], f[second], f[third], f[fourth]
    for j in range(n):
        x, value, slope = tau[j], a[j], d[j]
        p, q, r, s = f0[j], f1[j], f2[j], f3[j]
        slope = slope * x + value
        value = value * x + (c00 * p + c01 * q + c02 * r + c03 * s)
        slope = slope * x + value
        value = value * x + (c10 * p + c11 * q + c12 * r + c13 * s)
        slope = slope * x + value
        value = value * x + (c20 * p + c21 * q + c22 * r + c23 * s)
        slope = slope * x + value
        value = value * x + (c30 * p + c31 * q + c32 * r + c33 * s)
        a[j] = value
        d[j] = slope


@jit
def _polynomial(
    c: Array, rank: int, terms: int, f: Array, tau: Array, a: Array, d: Array,
    part: Array, part_slope: Array, n: Index,
) -> None:  # fmt: skip
    """A and dA/dtau of one row's pairs, which are linear in c: a few functions at a time.

    `c` (terms, rank), `f` (rank, n2).
    """
    wide()
    for j in range(n):
        a[j] = 0.0
        d[j] = 0.0
    if rank == 1:
        for at in range(0, terms, 8):
            _eight_terms_of_one(c, at, tau, a, d, n)
        return
    for at in range(0, terms, 4):
        _four_terms_of_four(c, at, 0, f, tau, a, d, n)
    for first in range(4, rank, 4):
        for j in range(n):
            part[j] = 0.0
            part_slope[j] = 0.0
        for at in range(0, terms, 4):
            _four_terms_of_four(c, at, first, f, tau, part, part_slope, n)
        for j in range(n):
            a[j] += part[j]
            d[j] += part_slope[j]


@jit
def _combination(c: Array, rank: int, f: Array, out: Array, n: Index) -> None:
    """Sum of c[r] f[r], r < rank."""
    wide()
    for j in range(n):
        out[j] = 0.0
    for r in range(rank):
        weight, own = c[r], f[r]
        for j in range(n):
            out[j] += weight * own[j]


@jit
def _start(
    folded: Array, t: Array, tau: Array, sign: Array, ntk: Array, n: Index
) -> bool:  # fmt: skip
    """Of the inputs: t, its place in the polynomials, sign and NTK (0). Whether rho < 0 occurs."""
    wide()
    negative = 0.0  # counted, because LLVM does not vectorise a smallest number that may be NaN
    for j in range(n):
        w = np.float64(folded[j])
        negative += 1.0 if w < 0 else 0.0
        sign[j] = -1.0 if w < 0 else 1.0
        t[j] = math.sqrt(abs(w))
        tau[j] = 2 * t[j] - 1
        ntk[j] = 0.0
    return negative > 0


@jit
def _apart(
    c: Array, rank: int, f: Array, x: float, right: Array, out: Array, n: Index
) -> None:  # fmt: skip
    """(x - x')^2 apart(s, s')."""
    wide()
    _combination(c, rank, f, out, n)
    for j in range(n):
        gap = x - right[j]
        out[j] *= gap * gap


@jit
def _fill(out: Array, n: Index) -> None:
    wide()
    for j in range(n):
        out[j] = 0.0


@jit
def _map_signs(
    parity: int, t: Array, sign: Array, a: Array, d: Array, below: Array, below_slope: Array,
    opposite: Array, rest: Array, n: Index,
) -> None:  # fmt: skip
    """From t and A to 1 - |rho_E| (in `rest`, which holds that of t = 0), D (in `d`), sign."""
    wide()
    if parity == NEITHER:
        for j in range(n):
            s = t[j]
            w = s * s
            if sign[j] >= 0:
                distance = rest[j] + w * a[j]
                d[j] = a[j] + s * d[j]
            else:
                distance = 1 - (opposite[j] + w * below[j])
                d[j] = below[j] + s * below_slope[j]
            distance = min(max(distance, 0.0), 2.0)
            sign[j] = 1.0 if distance <= 1 else -1.0
            rest[j] = distance if distance <= 1 else 2 - distance
        return
    for j in range(n):
        s = t[j]
        slope = a[j] + s * d[j]
        distance = min(max(rest[j] + s * s * a[j], 0.0), 2.0)
        above = distance <= 1
        rest[j] = distance if above else 2 - distance
        if parity == EVEN:
            d[j] = slope * sign[j]
            sign[j] = 1.0 if above else -1.0
        else:
            d[j] = slope
            sign[j] = sign[j] if above else -sign[j]


@jit
def _step_positive(
    a1: float, a2: Array, b1: float, b2: Array, weight_scale: float, bias_scale: float,
    a: Array, d: Array, rest: Array, t: Array, tau: Array, ntk: Array, n: Index,
) -> bool:  # fmt: skip
    """From A to the layer's output in one pass, where rho >= 0 and rho_E >= 0 in all pairs.

    Returns whether that was so for rho_E; if not, nothing is changed but `rest`, now 1 - rho_E,
    and `d`, now D.
    """
    wide()
    negative = 0.0
    for j in range(n):
        s = t[j]
        distance = max(rest[j] + s * s * a[j], 0.0)
        d[j] = a[j] + s * d[j]
        rest[j] = distance
        negative += 1.0 if distance > 1 else 0.0
    if negative > 0:
        return False
    for j in range(n):
        w = rest[j]
        weight, bias = a1 * a2[j], b1 * b2[j]
        apart = 0.5 * ((a1 - a2[j]) * (a1 - a2[j]) + (b1 - b2[j]) * (b1 - b2[j]))
        own = weight_scale * (weight * (1 - w)) + bias_scale * bias
        ntk[j] = own + weight * d[j] * ntk[j]
        root = math.sqrt(apart + weight * w)
        t[j] = root
        tau[j] = 2 * root - 1
    return True


@jit
def _fold(sign: Array, rest: Array, n: Index) -> None:
    """From 1 - rho in [0, 2] to 1 - |rho| and the sign of rho."""
    wide()
    for j in range(n):
        distance = min(rest[j], 2.0)
        sign[j] = 1.0 if distance <= 1 else -1.0
        rest[j] = distance if distance <= 1 else 2 - distance


@jit
def _affine_signed(
    a1: float, b1: float, a2: Array, b2: Array, weight_scale: float, bias_scale: float,
    w: Array, slope: Array, t: Array, tau: Array, sign: Array, ntk: Array, n: Index,
) -> bool:  # fmt: skip
    """The same for either sign; whether rho < 0 is left."""
    wide()
    negative = 0.0
    for j in range(n):
        weight, bias = a1 * a2[j], b1 * b2[j]
        apart = 0.5 * ((a1 - a2[j]) * (a1 - a2[j]) + (b1 - b2[j]) * (b1 - b2[j]))
        size, positive = w[j], sign[j] >= 0
        share = weight * (1 - size) if positive else weight * (size - 1)
        ntk[j] = weight_scale * share + bias_scale * bias + weight * slope[j] * ntk[j]
        below = apart + weight * (size if positive else 2 - size)
        above = apart + weight * (2 - size if positive else size) + 2 * bias
        rho = share + bias
        root = math.sqrt(max(below if rho >= 0 else above, 0.0))
        sign[j] = -1.0 if rho < 0 else 1.0
        negative += 1.0 if rho < 0 else 0.0
        t[j] = root
        tau[j] = 2 * root - 1
    return negative > 0


@jit
def _deliver(
    scale: float, scales: Array, values: Array, out: Array, n: Index
) -> None:  # fmt: skip
    wide()
    for j in range(n):
        out[j] = scale * values[j] * scales[j]


@jit
def run_block(
    folded: Array, layers: Layers, scale1: Array, scale2: Array, nngp: Array, ntk_out: Array,
    scratch: Array,
) -> None:  # fmt: skip
    """NNGP and NTK (n1, n2) of pairs with folded correlations (inputs.py) `folded` (n1, n2).

    `scale1`, `scale2`: deviations of the output of the network. `scratch` (12, n2) float64.
    """
    n1, n2 = folded.shape
    n = np.uint64(n2)
    t, tau, sign, ntk, a, d = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    u, v, rest, below = scratch[6], scratch[7], scratch[8], scratch[9]
    below_slope, opposite = scratch[10], scratch[11]
    for i in range(n1):
        negative = _start(folded[i], t, tau, sign, ntk, n)
        for layer in range(len(layers.shapes)):
            rank, terms, terms_below, parity, linear, gaps = layers.shapes[layer]
            f, left, right = layers.functions[layer], layers.left[layer], layers.right[layer]
            a1, b1, a2, b2 = left[1, i], left[2, i], right[1], right[2]
            weights, biases = layers.scales[layer, 0], layers.scales[layer, 1]
            if linear == 1:
                for j in range(n):
                    a[j] = 1.0
                    d[j] = 0.0
                    rest[j] = 0.0
            else:
                ends = layers.ends[layer]
                _polynomial(layers.above[layer, i], rank, terms, f, tau, a, d, u, v, n)
                if gaps == 1:
                    _apart(ends[0, i], rank, f, left[0, i], right[0], rest, n)
                else:
                    _fill(rest, n)
                if negative and parity == NEITHER:
                    c = layers.below[layer, i]
                    _polynomial(c, rank, terms_below, f, tau, below, below_slope, u, v, n)
                    _combination(ends[1, i], rank, f, opposite, n)
            if negative:
                _map_signs(parity, t, sign, a, d, below, below_slope, opposite, rest, n)
            elif _step_positive(
                a1, a2, b1, b2, weights, biases, a, d, rest, t, tau, ntk, n
            ):  # fmt: skip
                continue
            else:
                _fold(sign, rest, n)
            negative = _affine_signed(
                a1, b1, a2, b2, weights, biases, rest, d, t, tau, sign, ntk, n
            )  # fmt: skip
        for j in range(n):
            w = t[j] * t[j]
            a[j] = 1 - w if sign[j] >= 0 else w - 1
        _deliver(scale1[i], scale2, a, nngp[i], n)
        _deliver(scale1[i], scale2, ntk, ntk_out[i], n)
