"""The compiled fixed point of a convolutional equilibrium network, one offset plane at a time.

On the plane of one offset the pairs of pixels of two images solve (Feng & Kolter 2020, eqs. 17-21)

    S = o L(K),   K = i (c E(S) + u K0),   T = K + c i o E'(S) L(T)

where L is the box sum over the filter, zero outside the image, i and o are weights of the pixel
pair before and after it (prepared by equilibrium.py), c = sigma_w^2, u = sigma_u^2, and E, E' the
arc-cosine kernels of ReLU with E[phi(z)^2] = 1. F(S) = o L(K(S)) is convex, increasing, and its
derivative has a spectral radius of at most c < 1, so Newton's method converges from any start,
from below after the first step (Ortega & Rheinboldt 1970, 13.3.4).

Both the Newton step and the NTK need 1 - o L c i E', and with W = sqrt(c i o E') both become

    (1 - W L W) z = b,   b = W (L(K) - S/o)  and  S <- o L(K + W z),
                         b = W L(K)          and  sum T = sum K + sum W z

which is symmetric and positive definite: conjugate gradients. The fixed point is in float64,
because 1 - rho of nearly equal patches is a difference.

Images are rows of Q + r numbers, r zero columns, so that a plane is a flat lag, as in core.py.
Planes run one at a time.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from workers.compiled.jit import lean, wide
from workers.kernels.planes.linear_system import Work, box_sum, solve, times_w

Array = Any  # numba infers array types itself
Index = Any  # np.uint64


class Weights(NamedTuple):
    """Weights of a pixel on one side, (N,), 0 in the zero columns."""

    inner: Array  # before the box sum
    outer: Array  # after it
    outer_inverse: Array


class Images(NamedTuple):
    """Prepared images of one side, scaled, as arrays of one dimension; 0 in the zero columns."""

    channels: Array  # (n C N,)
    deviation: Array  # (n N,) sqrt(S(x, x)) at the pixel
    inverse: Array  # (n N,) 1/deviation, 0 where that is 0


class Numbers(NamedTuple):
    """Numbers of the network and limits of the iterations."""

    w_var: float
    u_var: float
    tolerance: float  # of sqrt(1 - rho): of the fixed point
    rounding: float  # changes of rho below this are rounding
    forcing: float  # residual to which a Newton step is solved
    ntk_tolerance: float  # of the linear system of the NTK
    max_newton_steps: int
    max_cg_steps: int


@lean
def _fill(a: Array) -> None:
    for k in range(len(a)):
        a[k] = 0


@lean
def _products(
    x: Array, i: Index, y: Array, j: Index, factor: float, out: Array, g: Index, n: Index
) -> None:  # fmt: skip
    """out = factor x y, pixel by pixel."""
    for k in range(n):
        out[g + k] = factor * x[i + k] * y[j + k]


@lean
def _inner_product(
    x: Array, i: Index, y: Array, j: Index, row: Index, channels: Index, out: Array, g: Index,
    n: Index,
) -> None:  # fmt: skip
    """K0 = sum over the channels."""
    for k in range(n):
        out[g + k] = x[i + k] * y[j + k]
    for c in range(np.uint64(1), channels):
        a, b = i + c * row, j + c * row
        for k in range(n):
            out[g + k] += x[a + k] * y[b + k]


@lean
def _gaps(
    s: Array, bound: Array, inverse: Array, gap: Array, root: Array, g: Index, n: Index
) -> None:  # fmt: skip
    wide()
    for k in range(n):
        v = bound[g + k]
        value = max(min(s[g + k], v), -v)
        s[g + k] = value
        gap[g + k] = v - abs(value)
        root[g + k] = math.sqrt(gap[g + k] * inverse[g + k])


@lean
def _kernels(
    s: Array, gap: Array, root: Array, cov: Array, w: Array, p: Array, r: Array, g: Index, n: Index
) -> None:  # fmt: skip
    """cov = E(S) and w = E'(S), with the 17 float64 coefficients of duals/arc_cosine.py."""
    wide()
    p0, p1, p2, p3, p4, p5, p6, p7 = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]
    p8, p9, p10, p11, p12, p13 = p[8], p[9], p[10], p[11], p[12], p[13]
    p14, p15, p16 = p[14], p[15], p[16]
    r0, r1, r2, r3, r4, r5, r6, r7 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
    r8, r9, r10, r11, r12, r13 = r[8], r[9], r[10], r[11], r[12], r[13]
    r14, r15, r16 = r[14], r[15], r[16]
    for k in range(n):
        t = root[g + k]
        u = t * t
        acute = p13 + u * (p14 + u * (p15 + u * p16))
        acute = p9 + u * (p10 + u * (p11 + u * (p12 + u * acute)))
        acute = p5 + u * (p6 + u * (p7 + u * (p8 + u * acute)))
        acute = t * (p0 + u * (p1 + u * (p2 + u * (p3 + u * (p4 + u * acute)))))
        kappa = r13 + u * (r14 + u * (r15 + u * r16))
        kappa = r9 + u * (r10 + u * (r11 + u * (r12 + u * kappa)))
        kappa = r5 + u * (r6 + u * (r7 + u * (r8 + u * kappa)))
        kappa = t * (r0 + u * (r1 + u * (r2 + u * (r3 + u * (r4 + u * kappa)))))
        value = s[g + k]
        w[g + k] = 1 - acute if value >= 0 else acute
        cov[g + k] = max(value, 0.0) + gap[g + k] * kappa


@lean
def _weigh(
    cov: Array, injected: Array, inner: Array, outer: Array, w: Array, g: Index, n: Index
) -> None:  # fmt: skip
    """E(S) to K and E'(S) to W."""
    wide()
    for k in range(n):
        factor = inner[g + k]
        cov[g + k] = factor * cov[g + k] + injected[g + k]
        w[g + k] = math.sqrt(factor * outer[g + k] * w[g + k])


@lean
def _distance(
    s: Array, sums: Array, outer: Array, inverse: Array, root: Array, rounding: float,
    g: Index, n: Index,
) -> float:  # fmt: skip
    """Sum of squares of (F(S) - S)/bound over sqrt(1 - |rho|): of changes of twice that root."""
    wide()
    total = 0.0
    for k in range(n):
        change = abs(outer[g + k] * sums[g + k] - s[g + k]) * inverse[g + k]
        change = max(change - rounding, 0.0)
        u = root[g + k] * root[g + k]
        total += change * change / (u + rounding)
    return total


@lean
def _residual(
    s: Array, sums: Array, w: Array, outer_inverse: Array, r: Array, g: Index, n: Index
) -> None:  # fmt: skip
    for k in range(n):
        r[g + k] = w[g + k] * (sums[g + k] - s[g + k] * outer_inverse[g + k])


@lean
def _newton(z_sums: Array, sums: Array, outer: Array, s: Array, g: Index, n: Index) -> None:
    """S <- o (L(K) + L(W z))."""
    for k in range(n):
        s[g + k] = outer[g + k] * (sums[g + k] + z_sums[g + k])


@lean
def _total(a: Array, g: Index, n: Index) -> float:
    wide()
    total = 0.0
    for k in range(n):
        total += a[g + k]
    return total


@lean
def _total_product(a: Array, b: Array, g: Index, n: Index) -> float:
    wide()
    total = 0.0
    for k in range(n):
        total += a[g + k] * b[g + k]
    return total


@lean
def _plane(
    work: Work, numbers: Numbers, p: Array, r: Array, known: bool,
    g: Index, stride: Index, up: Index, side: Index, n: Index, valid: float, report: Array,
) -> tuple[float, float]:  # fmt: skip
    """Sums of K and T over the plane whose inputs are in `work`. `known`: an image with itself at
    offset 0, where S = bound. `report` (6,): see equilibrium.REPORT."""
    s, cov, sums, w, q = work.s, work.cov, work.sums, work.w, work.q
    if known:
        for k in range(n):
            s[g + k] = work.bound[g + k]
    else:  # o L(i K0): the first layer
        factor = 1 / numbers.u_var
        for k in range(n):
            cov[g + k] = work.injected[g + k] * factor
        box_sum(cov, work.rows, sums, g, stride, up, side, n)
        for k in range(n):
            s[g + k] = work.outer[g + k] * sums[g + k]
    goal = numbers.tolerance * numbers.tolerance * valid
    steps = 0
    while True:
        _gaps(s, work.bound, work.inverse, work.gap, work.root, g, n)
        _kernels(s, work.gap, work.root, cov, w, p, r, g, n)
        _weigh(cov, work.injected, work.inner, work.outer, w, g, n)
        box_sum(cov, work.rows, sums, g, stride, up, side, n)
        if known:
            break
        distance = _distance(
            s, sums, work.outer, work.inverse, work.root, numbers.rounding, g, n
        )  # fmt: skip
        if distance <= goal:
            break
        if steps == numbers.max_newton_steps:
            report[2] = max(report[2], math.sqrt(distance / valid))
            report[3] += 1
            break
        steps += 1
        _residual(s, sums, w, work.outer_inverse, work.r, g, n)
        inner, _ = solve(work, numbers.forcing, numbers.max_cg_steps, g, stride, up, side, n)
        report[5] += inner
        times_w(work.z, w, q, g, n)
        box_sum(q, work.rows, work.box, g, stride, up, side, n)
        _newton(work.box, sums, work.outer, s, g, n)
    report[0] = max(report[0], steps)
    report[4] += steps
    nngp = _total(cov, g, n)
    for k in range(n):
        work.r[g + k] = w[g + k] * sums[g + k]
    steps, enough = solve(
        work, numbers.ntk_tolerance, numbers.max_cg_steps, g, stride, up, side, n
    )  # fmt: skip
    report[1] = max(report[1], steps)
    report[5] += steps
    if not enough:
        report[3] += 1
    return nngp, nngp + _total_product(w, work.z, g, n)


@lean
def run_pairs(
    size: int, stride: int, guard: int, half: tuple[int, int], numbers: Numbers,
    left: Images, right: Images, weights: Weights, p: Array, r: Array, pairs: Array, lags: Array,
    half_lags: Array, work: Work, out: Array, report: Array,
) -> None:  # fmt: skip
    """Sums of K and T over the planes `lags` (count, 2) for the given pairs of images.

    `pairs` (m, 3): index in `left`, in `right`, and whether both are the same image, which then
    takes the lags `half_lags`: flat lag, and how many planes it stands for. `out` (m, 2).
    Returns at the first plane that does not converge.
    """
    wide()
    g, row, up, side = np.uint64(guard), np.uint64(stride), np.uint64(half[0]), np.uint64(half[1])
    numbers_of_image = np.uint64(size)
    channels = np.uint64(len(left.channels) // len(left.deviation))
    for m in range(len(pairs)):
        a, b, same = pairs[m, 0], pairs[m, 1], pairs[m, 2] == 1
        chosen = half_lags if same else lags
        # Planes come in rising length, so beyond the end of each one there are zeros.
        _fill(work.cov)
        _fill(work.q)
        nngp, ntk = 0.0, 0.0
        for step in range(len(chosen)):
            lag, weight = chosen[step, 0], chosen[step, 1]
            ox, oy = max(-lag, 0), max(lag, 0)
            n = np.uint64(size - ox - oy)
            i, j = np.uint64(ox), np.uint64(oy)
            x = np.uint64(a) * channels * numbers_of_image + i
            y = np.uint64(b) * channels * numbers_of_image + j
            _inner_product(
                left.channels, x, right.channels, y, numbers_of_image, channels, work.injected, g, n
            )  # fmt: skip
            _products(weights.inner, i, weights.inner, j, 1.0, work.inner, g, n)
            for k in range(n):
                work.injected[g + k] *= numbers.u_var * work.inner[g + k]
                work.inner[g + k] *= numbers.w_var
            _products(weights.outer, i, weights.outer, j, 1.0, work.outer, g, n)
            _products(
                weights.outer_inverse, i, weights.outer_inverse, j, 1.0, work.outer_inverse, g, n
            )  # fmt: skip
            x, y = np.uint64(a) * numbers_of_image + i, np.uint64(b) * numbers_of_image + j
            _products(left.deviation, x, right.deviation, y, 1.0, work.bound, g, n)
            _products(left.inverse, x, right.inverse, y, 1.0, work.inverse, g, n)
            first, second = _plane(
                work, numbers, p, r, same and lag == 0, g, row, up, side, n,
                float(n), report,
            )  # fmt: skip
            if report[3] > 0:
                return
            nngp += weight * first
            ntk += weight * second
        out[m, 0] = nngp
        out[m, 1] = ntk
