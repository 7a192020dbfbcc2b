"""Tables of normalised dual kernels, from quadrature. NumPy only; seconds per activation, once.

With sigma(s)^2 = E[phi(s z)^2] and psi(s, z) = phi(s z)/sigma(s), the normalised kernel is

    rho_E(s, s', rho) = E[psi(s, z) psi(s', z')],   D = d rho_E/d rho = s s' Edot/(sigma sigma')

and, with t = sqrt(1 - |rho|), w = t^2, these functions are smooth and of order one:

    apart    = (1 - rho_E(rho=1))/(x - x')^2 = E[(psi(s, z) - psi(s', z))^2]/(2 (x - x')^2)
    above(t) = (rho_E(1) - rho_E(rho))/w,      rho = 1 - w >= 0
    opposite = rho_E(rho=-1)
    below(t) = (rho_E(rho) - rho_E(-1))/w,     rho = w - 1 <= 0
    D        = f + (t/2) df/dt                 for f = above and f = below

so 1 - rho_E = (x - x')^2 apart + w above: no cancellation near equal rows. `above` and `below`
are integrals of D >= 0 and never differences. The variables in which they are interpolated

    x = asinh(2 s)/asinh(2 LARGEST_DEVIATION),   t = WIDTH sinh(y asinh(LARGEST_ROOT/WIDTH))

turn the boundary layers of large variances, of width 1/s in t, into smooth functions: Chebyshev
series of ORDER_Y terms in y, whose coefficients are bilinear in a few functions of the rows.
(LARGEST_ROOT > 1 because the derivative of a series is least accurate at its ends.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from workers.kernels.duals.pointwise import Function
from workers.kernels.duals.sectors import Floats, Parities, normal_rule, pair_expectations
from workers.kernels.duals.table_cache import cached, store

LARGEST_DEVIATION = 256.0
"""Largest deviation s that the tables cover."""

STRETCH = 2.0
WIDTH = 0.005
LARGEST_ROOT = 1.15
ORDER_X = 64
ORDER_Y = 64
X_REACH = math.asinh(STRETCH * LARGEST_DEVIATION)
Y_REACH = math.asinh(LARGEST_ROOT / WIDTH)

RANK_TOLERANCE = 1e-15
"""Row functions that contribute less, relative to the largest, are left out."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Chebyshev coefficients in y, as bilinear forms of `rank` functions of the rows.

    A row's functions are T_n(2x - 1) @ basis, n < ORDER_X.
    """

    basis: Floats  # (ORDER_X, rank)
    apart: Floats  # (rank, rank)
    above: Floats  # (ORDER_Y, rank, rank)
    opposite: Floats  # (rank, rank)
    below: Floats | None  # (ORDER_Y, rank, rank); None for odd phi


@lru_cache(maxsize=32)
def tables(phi: Function) -> Tables:
    """The tables of `phi`; kept in memory and on disk, because they take seconds."""
    key = repr(phi)
    known = cached(key)
    if known is None:
        made = _make(phi)
        store(key, {name: value for name, value in vars(made).items() if value is not None})
        return made
    return Tables(
        basis=known["basis"],
        apart=known["apart"],
        above=known["above"],
        opposite=known["opposite"],
        below=known.get("below"),
    )


def _make(phi: Function) -> Tables:
    x = _nodes(ORDER_X)
    s = np.sinh(X_REACH * x) / STRETCH
    growth = X_REACH * np.cosh(X_REACH * x) / STRETCH  # ds/dx
    apart, opposite, sigma = _aligned(phi, s, growth, x)
    norm = np.outer(s / sigma, s / sigma)
    t = WIDTH * np.sinh(Y_REACH * _nodes(ORDER_Y))
    angles = 2 * np.arcsin(t / np.sqrt(2))
    average = _averaging() @ _coefficients(ORDER_Y)

    evaluate = _compiled_slope(phi, s)
    pairs = np.array([pair_expectations(evaluate, theta) for theta in angles])
    above = np.asarray(np.tensordot(average, norm * pairs[:, 0], 1))
    below = None if phi.odd else np.asarray(np.tensordot(average, norm * pairs[:, 1], 1))
    # `apart` and `opposite` are at most of order one; `apart` is 0 for homogeneous phi.
    parts = [apart[None], opposite[None]]
    parts += [f / np.max(np.abs(f)) for f in (above, below) if f is not None]
    unfolded = np.concatenate(parts).transpose(1, 0, 2).reshape(ORDER_X, -1)
    left, sizes, _ = np.linalg.svd(unfolded, full_matrices=False)
    functions = left[:, sizes > RANK_TOLERANCE * sizes[0]]

    def compressed(values: Floats) -> Floats:
        return np.asarray(functions.T @ values @ functions)

    in_y = _coefficients(ORDER_Y)
    return Tables(
        basis=_coefficients(ORDER_X) @ functions,
        apart=compressed(apart),
        above=np.tensordot(in_y, compressed(above), 1),
        opposite=compressed(opposite),
        below=None if below is None else np.tensordot(in_y, compressed(below), 1),
    )


def _compiled_slope(phi: Function, s: Floats) -> Callable[[Floats, Floats], Parities]:
    """What pair_expectations needs of phi', in one pass over memory; also while another function
    is being traced."""
    import jax
    import jax.numpy as jnp

    def both(u: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        x = jnp.asarray(s)[:, None] * u
        above = phi.slope(x, jnp)
        if phi.odd:
            return 2 * above * weights, None
        below = phi.slope(-x, jnp)
        return (above + below) * weights, (above - below) * weights

    compiled = jax.jit(both)

    def slope(u: Floats, weights: Floats) -> Parities:
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            even, odd = compiled(u, weights)
            return np.asarray(even), None if odd is None else np.asarray(odd)

    return slope


def _aligned(phi: Function, s: Floats, growth: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
    """`apart` and `opposite` (n, n), and sigma (n,), from one-dimensional integrals."""
    rule = normal_rule()
    z = np.concatenate([rule.nodes, -rule.nodes])
    weights = np.concatenate([rule.weights, rule.weights])
    values, slopes = phi.value(np.outer(s, z), np), phi.slope(np.outer(s, z), np)
    sigma = np.sqrt(values**2 @ weights)
    psi = values / sigma[:, None]
    opposite = (psi * weights) @ np.roll(psi, len(rule.nodes), axis=1).T
    apart = 0.5 * np.array([((psi - row) ** 2) @ weights for row in psi])
    gaps = x[:, None] - x[None, :]
    turned = z * slopes
    inward = ((values * turned) @ weights) / sigma**2
    tangent = (growth / sigma)[:, None] * (turned - inward[:, None] * values)
    np.fill_diagonal(gaps, 1.0)
    apart /= gaps**2
    np.fill_diagonal(apart, 0.5 * (tangent**2 @ weights))
    return apart, opposite, sigma


def _nodes(order: int) -> Floats:
    """Chebyshev points of [0, 1]."""
    return np.asarray((1 + np.cos(np.pi * (np.arange(order) + 0.5) / order)) / 2)


def _coefficients(order: int) -> Floats:
    """From values at `_nodes` to coefficients of T_k(2x - 1), (order, order)."""
    k = np.arange(order)
    matrix = np.cos(np.pi * k[:, None] * (k + 0.5) / order) * 2 / order
    matrix[0] /= 2
    return np.asarray(matrix)


def _averaging() -> Floats:
    """From coefficients of D in y to values of (1/w) integral of D dw from 0 to w at `_nodes`:
    Gauss-Legendre in t, which keeps relative accuracy near t = 0."""
    points, weights = np.polynomial.legendre.leggauss(64)
    y = _nodes(ORDER_Y)[:, None]
    inner = y * (1 + points) / 2  # (ORDER_Y, 64), in y
    t, top = WIDTH * np.sinh(Y_REACH * inner), WIDTH * np.sinh(Y_REACH * y)
    jacobian = 2 * t * WIDTH * np.cosh(Y_REACH * inner) * Y_REACH * (y / 2) / top**2  # dw/w
    basis = np.cos(np.arange(ORDER_Y) * np.arccos(2 * inner - 1)[..., None])
    return np.asarray(np.einsum("yp,ypk->yk", jacobian * weights, basis))
