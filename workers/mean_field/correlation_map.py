"""The correlation map at a fixed variance, in the distance gamma = 1 - c.

    f(c) = (b_std^2 + w_std^2 E(q, q, q c)) / V(q),     chi(c) = w_std^2 Edot(q, q, q c) = f'(c)

(the second equality where q = V(q)). In gamma, unlike in c, two inputs that grow alike keep
their relative accuracy: 1 - f(c) = (1 - b_std^2/V(q)) (1 - E(q,q,qc)/E(q,q,q)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from workers.analyses.errors import InvalidAnalysisError
from workers.kernels.duals.base import ActivationModel
from workers.mean_field.moments import Moments, check_deviations, moments

Floats = NDArray[np.float64]

_SMALLEST_DISTANCE = 1e-13
"""Distances gamma below this do not tell the chaotic fixed point from c = 1."""


@dataclass(frozen=True)
class CorrelationStep:
    """One layer at a fixed variance: `distance` 1 - f(c), and `chi` = w_std^2 Edot; (n,) each."""

    distance: Floats
    chi: Floats


def correlation_map(
    activation: str | dict[str, Any] | ActivationModel,
    w_std: float,
    b_std: float,
    variance: float,
    distance: Floats,
) -> CorrelationStep:
    """One layer for pairs of equal variance q > 0 at distances gamma = 1 - c in [0, 2], (n,)."""
    check_deviations(w_std, b_std)
    gamma = np.atleast_1d(np.asarray(distance, float))
    if not (math.isfinite(variance) and variance > 0):
        raise InvalidAnalysisError(
            f"The variance {variance!r} is not a positive number.",
            advice="Use the variance of a fixed point other than 0.",
        )
    if not np.all((gamma >= 0) & (gamma <= 2)):
        raise InvalidAnalysisError(
            "Distances 1 - c must lie in [0, 2].", advice="Pass 1 - c, not the correlation c."
        )
    return step(moments(activation), w_std, b_std, variance, gamma)


def step(
    phi: Moments, w_std: float, b_std: float, variance: float, gamma: Floats
) -> CorrelationStep:
    """`correlation_map` for moments already at hand."""
    second = float(phi.second(np.array([variance]))[0])
    distance, derivative = phi.pair_step(variance, gamma)
    image = b_std**2 + w_std**2 * second
    return CorrelationStep(
        distance=w_std**2 * second / image * distance,
        chi=w_std**2 * second / variance * derivative,
    )


def chaotic_distance(phi: Moments, w_std: float, b_std: float, variance: float) -> float:
    """gamma* = 1 - c* in (0, 1] of the stable fixed point of f, where chi(1) > 1.

    f is a power series in c with non-negative coefficients, so on [0, 1] it is convex, f(0) >= 0,
    f(1) = 1 and f'(1) > 1: there is exactly one other fixed point.
    """

    def excess(log: float) -> float:
        gamma = math.exp(log)
        image = step(phi, w_std, b_std, variance, np.array([gamma])).distance[0]
        return float(image) / gamma - 1

    low = math.log(_SMALLEST_DISTANCE)
    if excess(0.0) >= -1e-15:
        return 1.0  # odd activation without bias: orthogonal inputs stay so
    if excess(low) <= 0:
        raise InvalidAnalysisError(
            "chi is too close to 1 to separate the chaotic fixed point from equal inputs.",
            advice="Treat this network as being on the edge of chaos.",
        )
    return math.exp(optimize.brentq(excess, low, 0.0, xtol=1e-15, rtol=1e-15))


@dataclass(frozen=True)
class SlowContraction:
    """gamma -> gamma - C gamma^(1+p) + D gamma^(1+2p) + ... at small gamma, where chi = 1.

    Exponent p = 1/2 for activations with a kink, 1 for smooth ones.
    """

    exponent: float
    coefficient: float  # C
    correction: float  # D

    @property
    def ntk_ratio(self) -> float:
        """lim T^L(x, x')/T^L(x, x) for x != x': p/(1 + 2p), 1/4 with kinks, 1/3 for smooth.

        gamma_l ~ (p C l)^(-1/p), so chi(c_l) ~ 1 - (1 + p)/(p l) and the sum over layers of
        their products is L integral_0^1 t^((1+p)/p) dt.
        """
        return self.exponent / (1 + 2 * self.exponent)

    @property
    def log_slope(self) -> float:
        """A in T^L(x, x')/(q L) = ntk_ratio + A ln(L)/L + O(1/L).

        gamma_l^(-p) = p C l + e ln l + ..., e/(pC) = ((1+p)/2 - D/C^2)/p, from the next order of
        the map; carried through the sum over layers, A = ntk_ratio e/(pC). It is 3/8 for every
        homogeneous activation (D = 0), where Hayou et al. have O(1/L).
        """
        relative = self.correction / self.coefficient**2
        return self.ntk_ratio * ((1 + self.exponent) / 2 - relative) / self.exponent

    def distance(self, depth: Floats) -> Floats:
        """Leading order of 1 - c_l at depths `depth` (n,): (p C l)^(-1/p)."""
        return np.asarray(
            (self.exponent * self.coefficient * np.asarray(depth, float)) ** (-1 / self.exponent)
        )


def slow_contraction(
    phi: Moments, w_std: float, b_std: float, variance: float
) -> SlowContraction | None:
    """How equal inputs attract on the edge of chaos, measured on the map at small distances.

    None where the map is the identity (linear activation): angles are kept. Raises
    InvalidAnalysisError if the exponent is neither 1/2 nor 1.
    """
    # chi is 1 up to the tolerance of the phase only; the rest of the loss vanishes with gamma.
    chi = w_std**2 * float(phi.slope(np.array([variance]))[0])

    def loss(gamma: Floats) -> Floats:
        return np.asarray(chi - step(phi, w_std, b_std, variance, gamma).distance / gamma)

    coarse, fine = loss(np.array([1e-4, 1e-6]))
    if abs(coarse) < 1e-11 and abs(fine) < 1e-11:
        return None
    exponent = math.log(coarse / fine) / math.log(100) if coarse / fine > 0 else math.nan
    for candidate in (0.5, 1.0):
        if abs(exponent - candidate) < 0.05:
            # loss/gamma^p is a power series in gamma^p.
            powers = np.linspace(0.1, 1, 8)
            scaled = loss((0.01 * powers) ** (1 / candidate)) / (0.01 * powers)
            coefficients = np.polynomial.polynomial.polyfit(powers, scaled, 4)
            return SlowContraction(
                candidate, float(coefficients[0]), float(-coefficients[1] / 0.01)
            )
    raise InvalidAnalysisError(
        f"Near equal inputs the correlation map loses gamma^{1 + exponent:.3f}, which is neither "
        "what a smooth activation loses (2) nor one with a kink (3/2).",
        advice="Check that (w_std, b_std) is on the edge of chaos at this variance.",
    )
