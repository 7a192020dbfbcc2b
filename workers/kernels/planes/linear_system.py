"""The linear system of one plane of a convolutional equilibrium network (fixed_point.py).

(1 - W L W) z = r with W a number per pair of pixels and L the box sum over the filter: symmetric
and, for w_var < 1, positive definite, so conjugate gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from workers.compiled.jit import lean, wide

Array = Any  # numba infers array types itself
Index = Any  # np.uint64


class Work(NamedTuple):
    """Work arrays of one plane with its guards each; a thread needs its own."""

    s: Array  # S
    injected: Array  # i u K0
    bound: Array  # sqrt(S(x, x) S(y, y))
    inverse: Array
    inner: Array  # c i
    outer: Array  # o
    outer_inverse: Array
    gap: Array  # bound - |S|
    root: Array  # sqrt(1 - |rho|)
    cov: Array  # K; zeros outside the plane
    sums: Array  # L(K)
    w: Array  # W
    z: Array
    r: Array
    p: Array
    q: Array  # W p; zeros outside the plane
    rows: Array
    box: Array


@lean
def _sum_rows(a: Array, rows: Array, start: Index, stride: Index, up: Index, n: Index) -> None:
    """rows[k] = sum of a[k + m stride] over |m| <= up."""
    first = start - up * stride
    if up == np.uint64(1):
        middle, last = start, start + stride
        for k in range(n):
            rows[start + k] = a[first + k] + a[middle + k] + a[last + k]
        return
    for k in range(n):
        rows[start + k] = a[first + k]
    for m in range(np.uint64(1), up + up + np.uint64(1)):
        there = first + m * stride
        for k in range(n):
            rows[start + k] += a[there + k]


@lean
def box_sum(
    a: Array, rows: Array, out: Array, g: Index, stride: Index, up: Index, side: Index, n: Index
) -> None:  # fmt: skip
    """out = L(a). `a` is zero outside the plane."""
    wide()
    _sum_rows(a, rows, g - side, stride, up, n + side + side)
    left, right = g - side, g + side
    if side == np.uint64(1):
        for k in range(n):
            out[g + k] = rows[left + k] + rows[g + k] + rows[right + k]
        return
    for k in range(n):
        out[g + k] = rows[left + k]
    for m in range(np.uint64(1), side + side + np.uint64(1)):
        there = left + m
        for k in range(n):
            out[g + k] += rows[there + k]


@lean
def _start_cg(r: Array, z: Array, p: Array, g: Index, n: Index) -> float:
    wide()
    total = 0.0
    for k in range(n):
        value = r[g + k]
        z[g + k] = 0
        p[g + k] = value
        total += value * value
    return total


@lean
def times_w(a: Array, w: Array, q: Array, g: Index, n: Index) -> None:
    for k in range(n):
        q[g + k] = w[g + k] * a[g + k]


@lean
def _apply(p: Array, w: Array, box: Array, g: Index, n: Index) -> float:
    """box = (1 - W L W) p of box = L(W p); returns <p, box>."""
    wide()
    total = 0.0
    for k in range(n):
        value = p[g + k] - w[g + k] * box[g + k]
        box[g + k] = value
        total += p[g + k] * value
    return total


@lean
def _descend(
    z: Array, r: Array, p: Array, box: Array, alpha: float, g: Index, n: Index
) -> float:  # fmt: skip
    wide()
    total = 0.0
    for k in range(n):
        z[g + k] += alpha * p[g + k]
        value = r[g + k] - alpha * box[g + k]
        r[g + k] = value
        total += value * value
    return total


@lean
def _turn(p: Array, r: Array, beta: float, g: Index, n: Index) -> None:
    for k in range(n):
        p[g + k] = r[g + k] + beta * p[g + k]


@lean
def solve(
    work: Work, tolerance: float, max_steps: int, g: Index, stride: Index, up: Index, side: Index,
    n: Index,
) -> tuple[int, bool]:  # fmt: skip
    """z of (1 - W L W) z = r by conjugate gradients. Returns the steps and whether they were
    enough for a residual of `tolerance` times that of z = 0."""
    z, r, p, q, w, rows, box = work.z, work.r, work.p, work.q, work.w, work.rows, work.box
    square = _start_cg(r, z, p, g, n)
    goal = tolerance * tolerance * square
    steps = 0
    while square > goal:
        if steps == max_steps:
            return steps, False
        steps += 1
        times_w(p, w, q, g, n)
        box_sum(q, rows, box, g, stride, up, side, n)
        curvature = _apply(p, w, box, g, n)
        new = _descend(z, r, p, box, square / curvature, g, n)
        _turn(p, r, new / square, g, n)
        square = new
    return steps, True
