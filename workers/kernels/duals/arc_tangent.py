"""atan2 of the first quadrant in float64, from two half-angle steps and one short polynomial.

Compiled code for the general atan2 branches over quadrants and costs several times as much; dual
kernels that end in an angle of the first quadrant need only this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

# atan(x)/x by rising powers of x^2 on x <= tan(pi/8); maximal relative error 3.3e-17.
COEFFICIENTS = (
    1.0,
    -0.3333333333332861,
    0.19999999998887746,
    -0.14285714183391288,
    0.11111106271250183,
    -0.09090775036520304,
    0.07689979309260304,
    -0.06640444212594258,
    0.05689384683939676,
    -0.04350875650266139,
    0.021168098900544878,
)


def double_arc_tangent(z: jax.Array) -> jax.Array:
    """2 atan(z) for z in [0, 1], float64, any shape; relative error 1e-15.

    With z = y/(x + sqrt(x^2 + y^2)) this is atan2(y, x) for x, y >= 0.
    """
    import jax.numpy as jnp

    half = z / (1 + jnp.sqrt(1 + z * z))
    square = half * half
    total = jnp.full_like(square, COEFFICIENTS[-1])
    for coefficient in COEFFICIENTS[-2::-1]:
        total = total * square + coefficient
    return 4 * half * total
