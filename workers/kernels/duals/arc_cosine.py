"""The two arc-cosine functions of the opposite side, as polynomials in w.

    kappa0(-(1-w)) = acos(1-w)/pi                   = sqrt(w) P(w)/pi
    kappa1(-(1-w)) = (sin t - t cos t)/pi, t = acos(1-w) = w sqrt(w) R(w)

P and R are analytic on [0, 1] (their nearest singularity is w = 2), so short polynomials with
the smallest maximal *relative* error (Remez exchange) serve from w = 1 down to w = 0: no branch
near 0, one square root, and no arc cosine. tests/unit re-derives their errors with mpmath.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import Degree

# Coefficients by rising power of w; maximal relative errors 1.03e-7, 1.21e-7.
P_SINGLE = (
    1.414213707942395,
    0.11783767934097643,
    0.026718081528231616,
    0.006775030784737618,
    0.005551987173107493,
    -0.0025797572790540696,
    0.0022794356176624245,
)
R_SINGLE = (
    0.3001054023576584,
    0.015007729233529945,
    0.0023848559004435413,
    0.0006623120309129678,
    -2.0043059244296617e-05,
    0.0001695911534257875,
)
# Maximal relative errors 6.3e-16 and 3.9e-17 (before rounding to float64).
P_DOUBLE = (
    1.414213562373096,
    0.11785113019726307,
    0.026516504340708152,
    0.007891815048240615,
    0.002685442958688685,
    0.0009883306360994205,
    0.00038644279069907796,
    0.00013828210599044465,
    0.00012500225317421635,
    -0.00014378958131139357,
    0.0003629721136050344,
    -0.0005283151807513334,
    0.0005931623743697036,
    -0.0004650563907570773,
    0.00024944608839145877,
    -8.125480749893834e-05,
    1.2649474888588082e-05,
)
R_DOUBLE = (
    0.3001054387190354,
    0.0150052719359453,
    0.0024115615617388165,
    0.0005582318205741235,
    0.00015541725201714766,
    4.8413243515992316e-05,
    1.6313094544088495e-05,
    5.5686398070574725e-06,
    2.9388220328133935e-06,
    -1.4194774328663754e-06,
    4.931021230912201e-06,
    -6.883437715421425e-06,
    7.84175056830166e-06,
    -6.142593294194018e-06,
    3.3182248222272974e-06,
    -1.08611087052222e-06,
    1.7171727151490763e-07,
)


def arc_cosine_pair(t: jax.Array, w: jax.Array, degree: Degree) -> tuple[jax.Array, jax.Array]:
    """kappa0(w - 1) and kappa1(w - 1)/w for t = sqrt(w), w = 1 - |rho| in [0, 1].

    Any shape, dtype of `w`. Relative error 3e-7 (`single`) or 2e-15 (`double`), at every w.
    """
    p, r = (P_SINGLE, R_SINGLE) if degree == "single" else (P_DOUBLE, R_DOUBLE)
    return t * _horner([c / math.pi for c in p], w), t * _horner(r, w)


def _horner(coefficients: list[float] | tuple[float, ...], w: jax.Array) -> jax.Array:
    *lower, top = coefficients
    total: jax.Array | float = top
    for coefficient in reversed(lower):
        total = total * w + coefficient
    return total  # type: ignore[return-value]
