"""The affine layer on normalised pairs.

With the unit vectors (a, b) and (a', b') of rows.py and rho of the activations,

    rho_new     = a a' rho + b b'
    1 - rho_new = a a' (1 - rho) + ((a - a')^2 + (b - b')^2)/2
    1 + rho_new = a a' (1 + rho) + ((a - a')^2 + (b + b')^2)/2

sums of non-negative terms, so that w = 1 - |rho| keeps its relative accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from workers.kernels.duals.base import Correlation

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import DualPair


class AffineSide(NamedTuple):
    """Unit vectors of the rows of one side, shaped to broadcast: (n1, 1) or (1, n2)."""

    weight: jax.Array
    bias: jax.Array


class Scales(NamedTuple):
    """How much the layer's own parameters count in the NTK; None where both are 1."""

    weight: jax.Array | float
    bias: jax.Array | float


def affine_pairs(
    dual: DualPair,
    ntk: jax.Array | None,
    sides: tuple[AffineSide, AffineSide] | None,
    scales: Scales | None,
) -> tuple[Correlation, jax.Array | None]:
    """Correlation and normalised NTK after an affine layer.

    `sides` is None for a layer without bias; `ntk` is None when only the NNGP is wanted. For the
    first layer pass the inputs' correlation with derivative None and ntk 0.
    """
    correlation = dual.correlation
    if sides is None:
        new = correlation
        own = correlation.signed() if scales is None else scales.weight * correlation.signed()
    else:
        new, own = _biased(correlation, sides, scales)
    if ntk is None:
        return new, None
    carried = ntk if dual.derivative is None else dual.derivative * ntk
    if sides is not None:
        carried = sides[0].weight * sides[1].weight * carried
    return new, own + carried


def _biased(
    correlation: Correlation, sides: tuple[AffineSide, AffineSide], scales: Scales | None
) -> tuple[Correlation, jax.Array]:
    import jax.numpy as jnp

    left, right = sides
    weights = left.weight * right.weight
    biases = left.bias * right.bias
    difference = (left.weight - right.weight) ** 2
    apart = 0.5 * (difference + (left.bias - right.bias) ** 2)
    if correlation.rho is None:
        w = weights * correlation.w + apart
        rho = 1 - w
        new = Correlation(jnp.sqrt(w), None)
    else:
        positive = correlation.rho >= 0
        rho = weights * correlation.rho + biases
        below = jnp.where(positive, correlation.w, 1 - correlation.rho)  # 1 - rho
        above = jnp.where(positive, 1 + correlation.rho, correlation.w)  # 1 + rho
        opposed = 0.5 * (difference + (left.bias + right.bias) ** 2)
        w = jnp.where(rho >= 0, weights * below + apart, weights * above + opposed)
        new = Correlation(jnp.sqrt(w), rho)
    if scales is None:
        return new, rho
    own = scales.weight * (weights * correlation.signed()) + scales.bias * biases
    return new, own
