"""Sums of independent parts, on normalised pairs: affine layers, residual blocks, injections.

A row's pre-activation is a sum of parts whose deviations make the unit vector (a, b, ...) of
rows.py. With the correlations rho_a, rho_b, ... of the parts (1 for a bias),

    rho     = a a' rho_a + b b' rho_b + ...
    1 - rho = a a' (1 - rho_a) + ... + ((a - a')^2 + (b - b')^2 + ...)/2
    1 + rho = a a' (1 + rho_a) + ... + ((a - a')^2 + (b - b')^2 + ...)/2

sums of non-negative terms, so that w = 1 - |rho| keeps its relative accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from workers.kernels.duals.base import Correlation

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import DualPair


class Part(NamedTuple):
    """One part of a sum: its component of both rows' unit vectors, and its correlation.

    `correlation` None: exactly 1 in every pair (a bias).
    """

    left: jax.Array  # (n1, 1)
    right: jax.Array  # (1, n2)
    correlation: Correlation | None


def add_parts(parts: list[Part]) -> tuple[Correlation, list[jax.Array]]:
    """Correlation of the sum, and each part's share of it (they add up to rho)."""
    import jax.numpy as jnp

    weights = [part.left * part.right for part in parts]
    apart: Any = 0.5 * sum((part.left - part.right) ** 2 for part in parts)
    if all(part.correlation is None or part.correlation.rho is None for part in parts):
        w = apart
        shares = []
        for weight, part in zip(weights, parts, strict=True):
            if part.correlation is None:
                shares.append(weight)
            else:
                w = w + weight * part.correlation.w
                shares.append(weight * part.correlation.signed())
        return Correlation(jnp.sqrt(w), None), shares
    below = above = apart  # 1 - rho, 1 + rho
    shares = []
    for weight, part in zip(weights, parts, strict=True):
        if part.correlation is None:
            above = above + 2 * weight
            shares.append(weight)
            continue
        below = below + weight * part.correlation.below()
        above = above + weight * part.correlation.above()
        shares.append(weight * part.correlation.signed())
    rho = sum(shares[1:], shares[0])
    return Correlation(jnp.sqrt(jnp.where(rho >= 0, below, above)), rho), shares


def affine_pairs(
    dual: DualPair,
    ntk: jax.Array | None,
    sides: tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]] | None,
    others: list[Correlation | None],
    scales: list[jax.Array] | None,
) -> tuple[Correlation, jax.Array | None]:
    """Correlation and normalised NTK after an affine layer.

    `sides` holds the unit vectors of both rows, shaped to broadcast; None for weights only.
    `others` are the correlations of the parts after the weights: None for the bias, that of the
    inputs for an injection. `scales` says how much each part's parameters count in the NTK (None:
    once each); `ntk` is None when only the NNGP is wanted.
    """
    weights = dual.correlation
    if sides is None:
        new, shares = weights, [weights.signed()]
    else:
        correlations = [weights, *others]
        new, shares = add_parts([Part(*part) for part in zip(*sides, correlations, strict=True)])
    if ntk is None:
        return new, None
    carried = ntk if dual.derivative is None else dual.derivative * ntk
    if sides is not None:
        carried = sides[0][0] * sides[1][0] * carried
    if scales is None:
        return new, new.signed() + carried
    return new, sum((a * b for a, b in zip(scales, shares, strict=True)), carried)


def residual_pairs(
    skip: tuple[Correlation, jax.Array | None],
    branch: tuple[Correlation, jax.Array | None],
    sides: tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
) -> tuple[Correlation, jax.Array | None]:
    """Correlation and normalised NTK of shortcut plus branch.

    `sides` holds the components (a, b) of shortcut and branch in both rows' unit vectors. Since
    a a' + b b' = 1 - e, e = ((a - a')^2 + (b - b')^2)/2, every mean is written as

        a a' p + b b' q = p + b b' (q - p) - e p

    whose weights add up to 1 - e in floating point too. Rounded a a' and b b' would not, and their
    error is the same in all of a hundred equal blocks.
    """
    import jax.numpy as jnp

    (a1, b1), (a2, b2) = sides
    weight = b1 * b2
    apart = 0.5 * ((a1 - a2) ** 2 + (b1 - b2) ** 2)

    def mean(p: jax.Array, q: jax.Array) -> jax.Array:
        return p + weight * (q - p) - apart * p

    below = mean(skip[0].below(), branch[0].below()) + apart
    if skip[0].rho is None and branch[0].rho is None:
        new = Correlation(jnp.sqrt(below), None)
    else:
        above = mean(skip[0].above(), branch[0].above()) + apart
        rho = mean(skip[0].signed(), branch[0].signed())
        new = Correlation(jnp.sqrt(jnp.where(rho >= 0, below, above)), rho)
    if skip[1] is None or branch[1] is None:
        return new, None
    return new, mean(skip[1], branch[1])
