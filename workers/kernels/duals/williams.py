"""The angles of Williams' kernels, and their change towards |rho| = 1 without cancellation.

The kernels of erf and of everything made of it (Williams 1997, Computing with infinite networks)
end in the angle of a pair of rows with t = 2 scale^2 q,

    a(t, t', rho) = atan2(sqrt(tt') |rho|, sqrt(D)),   D = 1 + t + t' + tt'(1 - rho^2)

whose sine is sqrt(tt') |rho|/sqrt((1+t)(1+t')). On the diagonal, a(t) = asin(t/(1+t)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from workers.kernels.duals.arc_tangent import double_arc_tangent

if TYPE_CHECKING:
    import jax


class AngleSide(NamedTuple):
    """Per-row numbers of one side, float64, shaped to broadcast."""

    t: jax.Array
    root: jax.Array  # sqrt(t)
    inverse_root: jax.Array  # 1/sqrt(t), 0 for zero rows
    half: jax.Array  # sqrt(1 + 2t)
    hypotenuse: jax.Array  # sqrt(1 + t)
    angle: jax.Array  # a(t)


def diagonal_angle(t: jax.Array) -> jax.Array:
    """a(t), any shape."""
    import jax.numpy as jnp

    return jnp.arctan2(t, jnp.sqrt(1 + 2 * t))


def angle_side(t: jax.Array) -> AngleSide:
    """The numbers of rows with these t."""
    import jax.numpy as jnp

    root = jnp.sqrt(t)
    live = root > 0
    return AngleSide(
        t=t,
        root=root,
        inverse_root=jnp.where(live, 1 / jnp.where(live, root, 1), 0),
        half=jnp.sqrt(1 + 2 * t),
        hypotenuse=jnp.sqrt(1 + t),
        angle=diagonal_angle(t),
    )


def pair_angle(left: AngleSide, right: AngleSide, size: jax.Array, root_d: jax.Array) -> jax.Array:
    """a(t, t', rho) for `size` = |rho| and `root_d` = sqrt(D); relative accuracy."""
    magnitude = left.root * right.root * size
    return double_arc_tangent(magnitude / (root_d + left.hypotenuse * right.hypotenuse))


def mean_deficit(
    left: AngleSide, right: AngleSide, gap: jax.Array, size: jax.Array, root_d: jax.Array
) -> jax.Array:
    """((a(t) - a) + (a(t') - a))/2 for a = a(t, t', rho), `gap` = 1 - rho^2, where it is at most
    pi/4; elsewhere the result has no meaning (it may be NaN).

    sin(a(t) - a) = (t sqrt(D) - sqrt(tt')|rho| sqrt(1+2t))/((1+t) h), h^2 = (1+t)(1+t');
    multiplying by its conjugate leaves (t - t') + t'(1+t)(1 - rho^2) over
    sqrt(D) + sqrt(t'/t)|rho| sqrt(1+2t), where nothing cancels but t - t', a property of the rows.
    """
    import jax.numpy as jnp

    sines, cosines, conjugates = [], [], []
    for one, other in ((left, right), (right, left)):
        sines.append((one.t - other.t) + other.t * (1 + one.t) * gap)
        cosines.append((one.half * root_d + one.t * (one.root * other.root) * size) / (1 + one.t))
        conjugates.append(root_d + one.half * (other.root * one.inverse_root) * size)
    # tan of half the sum of the two differences, from sin/(1 + cos) of the sum; all over h^2.
    h = left.hypotenuse * right.hypotenuse
    numerator = sines[0] * cosines[1] * conjugates[1] + sines[1] * cosines[0] * conjugates[0]
    both = conjugates[0] * conjugates[1]
    denominator = both * (h * h + cosines[0] * cosines[1]) - sines[0] * sines[1]
    tangent = numerator / denominator
    return 0.5 * jnp.copysign(double_arc_tangent(jnp.minimum(jnp.abs(tangent), 1)), tangent)
