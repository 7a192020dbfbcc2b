"""Compiled layers of deep recursions: any number of them in one call.

Compilation is by far the largest cost of a deep recursion on a few inputs (minutes for tabulated
activations), so programs are kept per activation, and deviations are arguments, not constants.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.kernels.duals.base import Correlation, DualPair
from workers.kernels.sums import affine_pairs

if TYPE_CHECKING:
    import jax


class DenseState(NamedTuple):
    """Pre-activations of m rows: `deviation` (m,), sqrt(1 - |rho|), rho and NTK/(s s') (m, m)."""

    deviation: jax.Array
    root: jax.Array
    rho: jax.Array
    ntk: jax.Array


class ResidualState(NamedTuple):
    """The same for a residual network of a homogeneous activation, which needs no deviations."""

    root: jax.Array
    rho: jax.Array
    ntk: jax.Array


class DenseLayers(NamedTuple):
    """`first(lengths (m,), root, rho (m, m), w_std, b_std)`: the first affine layer of rows with
    these lengths/sqrt(d). `advance(count, state, w_std, b_std)`: (activation, affine) layers."""

    first: Callable[..., DenseState]
    advance: Callable[[int, DenseState, float, float], DenseState]


@lru_cache(maxsize=32)
def dense_layers(dual: Any, *, biased: bool) -> DenseLayers:
    """Compiled layers for `dual` (a Dual), float64; `biased` is whether b_std is not 0."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def affine(weighted: jax.Array, pair: DualPair, ntk: jax.Array, b_std: jax.Array) -> DenseState:
        s = jnp.hypot(weighted, b_std) if biased else weighted
        sides = None
        if biased:
            weight, bias = weighted / s, b_std / s
            sides = ((weight[:, None], bias[:, None]), (weight[None, :], bias[None, :]))
        new, above = affine_pairs(pair, ntk, sides, [None], None)
        return DenseState(s, new.root, new.signed(), jnp.asarray(above))

    def first(
        lengths: jax.Array, root: jax.Array, rho: jax.Array, w_std: jax.Array, b_std: jax.Array
    ) -> DenseState:
        inputs = DualPair(Correlation(root, rho), None)
        return affine(w_std * lengths, inputs, jnp.zeros_like(rho), b_std)

    def advance(
        count: jax.Array, state: DenseState, w_std: jax.Array, b_std: jax.Array
    ) -> DenseState:
        def layer(_: int, below: DenseState) -> DenseState:
            s = below.deviation
            column, row = (None, None) if dual.homogeneous else (s[:, None], s[None, :])
            pair = dual.pair(Correlation(below.root, below.rho), column, row, degree="double")
            return affine(w_std * dual.deviation(s), pair, below.ntk, b_std)

        result: DenseState = lax.fori_loop(0, count, layer, state)
        return result

    return DenseLayers(jax.jit(first), jax.jit(advance))


@lru_cache(maxsize=32)
def residual_layers(dual: Any) -> Callable[[int, ResidualState, float], ResidualState]:
    """`advance(count, state, growth)`: residual layers divided by growth = 1 + w_std^2 E[phi^2],
    for a homogeneous `dual` (a Dual), without bias; float64."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def advance(count: jax.Array, state: ResidualState, growth: jax.Array) -> ResidualState:
        branch, shortcut = 1 - 1 / growth, 1 / growth

        def layer(_: int, below: ResidualState) -> ResidualState:
            root, rho, ntk = below
            pair = dual.pair(Correlation(root, rho), None, None, degree="double")
            after = pair.correlation.root
            signed = pair.correlation.signed()
            new = shortcut * rho + branch * signed
            near = shortcut * one_minus(root, rho) + branch * one_minus(after, signed)
            opposed = shortcut * one_minus(root, -rho) + branch * one_minus(after, -signed)
            slope = branch if pair.derivative is None else branch * pair.derivative
            return ResidualState(
                jnp.sqrt(jnp.where(new >= 0, near, opposed)),
                new,
                ntk * (shortcut + slope) + branch * signed,
            )

        result: ResidualState = lax.fori_loop(0, count, layer, state)
        return result

    return jax.jit(advance)


def one_minus(root: jax.Array, rho: jax.Array) -> jax.Array:
    """1 - rho from root = sqrt(1 - |rho|), with its relative accuracy."""
    import jax.numpy as jnp

    return jnp.where(rho >= 0, root * root, 1 - rho)
