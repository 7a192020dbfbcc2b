"""Gaussian moments of one activation as functions of the variance q, from its dual kernels.

second(q)     = E[phi(sqrt(q) z)^2],   slope(q) = E[phi'(sqrt(q) z)^2],   z ~ N(0, 1)
ratio(q)      = q slope(q) / second(q)
elasticity(q) = d ln second / d ln q
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from workers.analyses.errors import InvalidAnalysisError
from workers.kernels.duals.base import ActivationModel, Correlation, Dual
from workers.kernels.duals.tables import LARGEST_DEVIATION
from workers.kernels.duals.tabulated import TabulatedDual
from workers.kernels.presets import ActivationOrName
from workers.kernels.spec import invalid_kernel

if TYPE_CHECKING:
    import jax

Floats = NDArray[np.float64]

SMALLEST_VARIANCE = 1e-20
"""Stands for q = 0 in ratios of two quantities that vanish there."""

BATCH = 64
"""Numbers per call of a compiled function: one shape, one compilation."""

_HALF_WIDTH = 0.25
"""Half the interval of ln q over which `elasticity` differentiates."""

_NODES = 13
"""Chebyshev points of that interval. ln second is analytic in ln q in a strip whose width is of
order 1 (the poles of tanh turn by half the angle of q), so the error is about 20^-13."""


@dataclass(frozen=True)
class Moments:
    """Moments of one activation. Arguments (n,) float64 and non-negative; results the same."""

    name: str
    dual: Dual

    @cached_property
    def homogeneous(self) -> bool:
        """Whether phi(a x) = a phi(x) for a > 0: then `second` is proportional to q. (The dual's
        own attribute is true for every power of a, as it concerns normalised pairs.)"""
        return self.dual.homogeneous and abs(float(self.elasticity(np.ones(1))[0]) - 1) < 1e-9

    @cached_property
    def linear_at_origin(self) -> bool:
        """Whether phi(x) is asymptotically proportional to x at 0, as tanh is and cos is not."""
        return abs(float(self.ratio(np.zeros(1))[0]) - 1) < 1e-6

    def second(self, q: Floats) -> Floats:
        """E[phi(sqrt(q) z)^2]; inf beyond float64, as for exp at large q."""
        with np.errstate(over="ignore"):
            return np.asarray(self._evaluate(self._maps.deviation, q) ** 2)

    def ratio(self, q: Floats) -> Floats:
        """q E[phi'^2] / E[phi^2]; `q` is raised to SMALLEST_VARIANCE."""
        raised = np.maximum(np.asarray(q, float), SMALLEST_VARIANCE)
        return self._evaluate(self._maps.derivative, raised)

    def slope(self, q: Floats) -> Floats:
        """E[phi'(sqrt(q) z)^2]; at q = 0 its limit."""
        variances = np.asarray(q, float)
        zero = variances == 0
        safe = np.where(zero, 1.0, variances)
        inside = self.ratio(safe) * self.second(safe) / safe
        if not np.any(zero):
            return np.asarray(inside)
        # A power series in sqrt(q), with kinks too; phi itself may be rounded at tiny arguments.
        root = np.linspace(0.1, 1, 8)
        series = np.polynomial.polynomial.polyfit(root, self.slope((0.02 * root) ** 2), 7)
        return np.asarray(np.where(zero, series[0], inside))

    def elasticity(self, q: Floats) -> Floats:
        """d ln E[phi^2] / d ln q, by differentiating a Chebyshev interpolant; 1e-13 absolute."""
        raised = np.maximum(np.asarray(q, float), SMALLEST_VARIANCE)
        nodes = np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
        middle = _NODES // 2
        nodes[middle] = 0.0
        signs = (-1.0) ** np.arange(_NODES)
        signs[[0, -1]] *= 0.5
        weights = np.zeros(_NODES)
        others = np.arange(_NODES) != middle
        weights[others] = signs[others] / signs[middle] / -nodes[others]
        logs = np.log(self.second(np.exp(_HALF_WIDTH * nodes)[:, None] * raised[None, :]))
        return np.asarray(weights @ (logs - logs[middle]) / _HALF_WIDTH)

    def pair_step(self, variance: float, gamma: Floats) -> tuple[Floats, Floats]:
        """1 - E(c)/E(1) and q Edot(c)/E(1) for pairs of variance q > 0 at 1 - c = `gamma` (n,).

        Raises InvalidAnalysisError for a variance that the activation is not tabulated for.
        """
        deviation = math.sqrt(variance)
        if isinstance(self.dual, TabulatedDual) and not deviation <= LARGEST_DEVIATION:
            raise InvalidAnalysisError(
                f"Pairs of {self.name} are tabulated up to standard deviation "
                f"{LARGEST_DEVIATION:g}; this network's is {deviation:.4g}.",
                advice="Use a smaller w_std or b_std.",
            )
        pair = self._maps.pair
        both = _in_batches(lambda part: np.stack(pair(deviation, part)), gamma)
        return both[0], both[1]

    @property
    def _maps(self) -> _CompiledMaps:
        return _compiled(cast("Hashable", self.dual))

    def _evaluate(self, function: Callable[[Floats], jax.Array], q: Floats) -> Floats:
        variances = np.asarray(q, float)
        return _in_batches(function, np.sqrt(variances).ravel()).reshape(variances.shape)


class _CompiledMaps(NamedTuple):
    """A dual's functions, compiled for BATCH numbers at a time."""

    deviation: Callable[[Floats], jax.Array]
    derivative: Callable[[Floats], jax.Array]
    pair: Callable[[float, Floats], tuple[jax.Array, jax.Array]]


@lru_cache(maxsize=32)
def _compiled(dual: Any) -> _CompiledMaps:
    """Compiled once per activation: quadratures take seconds to compile, and root finding calls
    them hundreds of times."""
    import jax
    import jax.numpy as jnp

    def pair(deviation: float, gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
        column = gamma[:, None]
        s = None if dual.homogeneous else jnp.full_like(column, deviation)
        pairs = Correlation(jnp.sqrt(jnp.minimum(column, 2 - column)), 1 - column)
        out = dual.pair(pairs, s, None if s is None else s[:1], degree="double")
        signed = out.correlation.signed()
        distance = jnp.where(signed >= 0, out.correlation.w, 1 - signed)
        derivative = jnp.ones_like(column) if out.derivative is None else out.derivative
        return (
            jnp.broadcast_to(distance, column.shape)[:, 0],
            jnp.broadcast_to(derivative, column.shape)[:, 0],
        )

    return _CompiledMaps(jax.jit(dual.deviation), jax.jit(dual.variance_derivative), jax.jit(pair))


def _in_batches(function: Callable[[Floats], Any], values: Floats) -> Floats:
    """`function` of `values` (n,), float64, always called with BATCH numbers; the last axis of
    its result is that of `values`."""
    import jax

    flat = np.asarray(values, float)
    padded = np.pad(flat, (0, -len(flat) % BATCH), mode="edge")
    with jax.enable_x64(True):
        parts = [np.asarray(function(part)) for part in padded.reshape(-1, BATCH)]
    return np.concatenate(parts, axis=-1)[..., : len(flat)]


def moments(activation: str | dict[str, Any] | ActivationModel) -> Moments:
    """Moments of `activation`: a registered name, an object with parameters, or a model.

    Raises InvalidKernelError if there is no such activation, and InvalidAnalysisError if it has
    no kernel of derivatives (sign, step): then chi and the NTK do not exist.
    """
    model = parse_activation(activation)
    result = Moments(model.fn, model.dual())  # type: ignore[attr-defined]
    slope = result.slope(np.array([1.0]))[0]
    if not (math.isfinite(slope) and slope > 0):
        raise InvalidAnalysisError(
            f"The activation {result.name} has no mean-field slope: E[phi'^2] is {slope:g}, "
            "because phi jumps or is constant, so chi and the NTK do not exist.",
            advice="Use an activation without jumps, such as relu or erf.",
        )
    return result


def parse_activation(activation: str | dict[str, Any] | ActivationModel) -> ActivationModel:
    """The registered activation that `activation` describes. Raises InvalidKernelError."""
    if isinstance(activation, ActivationModel):
        return activation
    adapter: TypeAdapter[ActivationModel] = TypeAdapter(ActivationOrName)
    try:
        return adapter.validate_python(activation)
    except ValidationError as error:
        raise invalid_kernel(error) from None


def check_deviations(w_std: float, b_std: float) -> None:
    """Raise InvalidAnalysisError unless w_std > 0 and b_std >= 0, both finite."""
    if not (math.isfinite(w_std) and w_std > 0 and math.isfinite(b_std) and b_std >= 0):
        raise InvalidAnalysisError(
            f"w_std = {w_std!r} and b_std = {b_std!r} are not standard deviations.",
            advice="w_std must be positive, b_std zero or positive, both finite.",
        )


def check_range(lowest: float, highest: float) -> None:
    """Raise InvalidAnalysisError unless there are variances from `lowest` to `highest`."""
    if not 0 < lowest < highest < math.inf:
        raise InvalidAnalysisError(
            f"There are no variances from {lowest:g} to {highest:g}.",
            advice="lowest_variance must be positive and below highest_variance.",
        )
