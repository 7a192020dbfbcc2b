"""Dual kernels of any activation with at most one kink, at 0, from the tables of tables.py.

In a block whose rows have one variance (normalised inputs) a layer is one Chebyshev series in one
variable; otherwise its coefficients are bilinear forms, small matrix products. The tests measure
the accuracy, towards equal rows too; rows beyond tables.LARGEST_DEVIATION are an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workers.kernels.duals.base import Correlation, Degree, Dual, DualPair
from workers.kernels.duals.pointwise import Function
from workers.kernels.duals.sectors import normal_rule
from workers.kernels.duals.tables import (
    LARGEST_DEVIATION,
    ORDER_X,
    ORDER_Y,
    STRETCH,
    WIDTH,
    X_REACH,
    Y_REACH,
    tables,
)

if TYPE_CHECKING:
    import jax

SERIES_UNROLL = 9
"""Terms of a series per loop step: fused into one pass, compiled in a fraction of a second."""

SOURCE = "sector quadrature of E and Edot; Price 1958 (Edot = dE/dc)"

_SMALLEST = 1e-100
"""Stands for deviation 0 in ratios of two quantities that vanish there."""


if TYPE_CHECKING:
    _State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@dataclass(frozen=True)
class TabulatedDual:
    """Dual kernels of `phi`."""

    phi: Function
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    flops_per_pair: ClassVar[float] = 12.0 * ORDER_Y

    def deviation(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        values, weights = self._samples(s, slope=False)
        largest = jnp.max(jnp.abs(values), axis=-1)
        unit = values / jnp.where(largest > 0, largest, 1)[..., None]
        return largest * jnp.sqrt(jnp.sum(unit * unit * weights, axis=-1))

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        raised = jnp.maximum(s, _SMALLEST)
        slopes, weights = self._samples(raised, slope=True)
        ratio = raised / self.deviation(raised)
        return jnp.sum(slopes * slopes * weights, axis=-1) * ratio * ratio

    def _samples(self, s: jax.Array, *, slope: bool) -> tuple[jax.Array, jax.Array]:
        """phi or phi' at s z, (n, nodes), and the weights of z ~ N(0, 1)."""
        import jax.numpy as jnp

        rule = normal_rule()
        z = jnp.asarray(np.concatenate([rule.nodes, -rule.nodes]), s.dtype)
        weights = jnp.asarray(np.concatenate([rule.weights, rule.weights]), s.dtype)
        function = self.phi.slope if slope else self.phi.value
        return function(s[..., None] * z, jnp), weights

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        import jax.numpy as jnp
        from jax import lax

        if s1 is None or s2 is None:
            raise ValueError("tabulated activations need the deviations of both rows")
        first = s1.ravel()[0]
        alike = jnp.all(s1 == first) & jnp.all(s2 == first)
        shape = jnp.broadcast_shapes(pairs.root.shape, s1.shape, s2.shape)
        root = jnp.broadcast_to(pairs.root, shape)
        w = root * root
        # For odd phi both signs of rho are one: |rho_E| is a function of |rho|.
        positive = None if pairs.rho is None or self.phi.odd else pairs.rho >= 0

        def one(_: None) -> tuple[jax.Array, jax.Array]:
            return self._alike(root, w, positive, first)

        def many(_: None) -> tuple[jax.Array, jax.Array]:
            return self._bilinear(root, w, positive, s1, s2)

        distance, derivative = lax.cond(alike, one, many, None)
        # Never a silent wrong number: rows.py makes an error of such rows.
        covered = (s1 <= LARGEST_DEVIATION) & (s2 <= LARGEST_DEVIATION)
        distance = jnp.where(covered, distance, jnp.nan)
        distance = jnp.clip(distance, 0, 2)
        if pairs.rho is None or self.phi.nonnegative:
            # rho_E >= 0: rho itself is, or phi is.
            return DualPair(Correlation(jnp.sqrt(jnp.minimum(distance, 1)), None), derivative)
        if self.phi.odd:
            w_new = jnp.minimum(distance, 1)
            signed = jnp.copysign(1 - w_new, pairs.rho)
            return DualPair(Correlation(jnp.sqrt(w_new), signed), derivative)
        w_new = jnp.where(distance <= 1, distance, 2 - distance)
        return DualPair(Correlation(jnp.sqrt(w_new), 1 - distance), derivative)

    def _alike(
        self, root: jax.Array, w: jax.Array, positive: jax.Array | None, s: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """1 - rho_E and the derivative for rows of one deviation `s` ()."""
        import jax.numpy as jnp
        from jax import lax

        known = tables(self.phi)
        functions = _row_functions(s, known.basis)
        above = jnp.asarray(known.above) @ functions @ functions
        below = None
        if positive is not None and known.below is not None:
            below = jnp.asarray(known.below) @ functions @ functions
        argument, rate = _argument(root)

        def coefficient(pair: tuple[jax.Array, jax.Array | None]) -> jax.Array:
            over, under = pair
            if positive is None or under is None:
                return over
            return jnp.where(positive, over, under)

        def step(carry: _State, pair: tuple[jax.Array, jax.Array | None]) -> tuple[_State, None]:
            return _clenshaw(carry, coefficient(pair), argument), None

        rest = (above[:0:-1], None if below is None else below[:0:-1])
        (b1, b2, d1, d2), _ = lax.scan(step, _start(root), rest, unroll=SERIES_UNROLL)
        first = coefficient((above[0], None if below is None else below[0]))
        value, slope = first + argument * b1 - b2, b1 + argument * d1 - d2
        derivative = value + rate * slope
        if positive is None:
            return w * value, derivative
        opposite = functions @ jnp.asarray(known.opposite) @ functions
        return jnp.where(positive, w * value, 1 - (opposite + w * value)), derivative

    def _bilinear(
        self,
        root: jax.Array,
        w: jax.Array,
        positive: jax.Array | None,
        s1: jax.Array,
        s2: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The same for deviations (n1, 1) and (1, n2), as matrix products, or, entry by entry, of
        any shapes that broadcast to that of `root`."""
        import jax.numpy as jnp
        from jax import lax

        known = tables(self.phi)
        matrix = s1.ndim == s2.ndim == 2 and s1.shape[1] == s2.shape[0] == 1
        left, right = _row_functions(s1, known.basis), _row_functions(s2, known.basis)

        def form(core: jax.Array | np.ndarray) -> jax.Array:
            if matrix:
                return (left[:, 0] @ jnp.asarray(core)) @ right[0].T
            return jnp.sum((left @ jnp.asarray(core)) * right, axis=-1)

        argument, rate = _argument(root)

        def series(cores: np.ndarray) -> tuple[jax.Array, jax.Array]:
            zero = jnp.zeros_like(root)

            def step(carry: _State, core: jax.Array) -> tuple[_State, None]:
                return _clenshaw(carry, form(core), argument), None

            (b1, b2, d1, d2), _ = lax.scan(step, _start(zero), jnp.asarray(cores[:0:-1]))
            return form(cores[0]) + argument * b1 - b2, b1 + argument * d1 - d2

        gaps = _position(s1) - _position(s2)
        apart = gaps * gaps * form(known.apart)
        value, slope = series(known.above)
        distance, derivative = apart + w * value, value + rate * slope
        if positive is None or known.below is None:
            return distance, derivative
        value, slope = series(known.below)
        return (
            jnp.where(positive, distance, 1 - (form(known.opposite) + w * value)),
            jnp.where(positive, derivative, value + rate * slope),
        )


def covered_deviation(dual: Dual, s: jax.Array) -> jax.Array:
    """dual.deviation(s), but inf for rows whose pairs the dual does not cover: kernels with such
    rows are then reported as out of range."""
    import jax.numpy as jnp

    deviation = dual.deviation(s)
    if not isinstance(dual, TabulatedDual):
        return deviation
    return jnp.where(s <= LARGEST_DEVIATION, deviation, jnp.inf)


def _position(s: jax.Array) -> jax.Array:
    """x in [0, 1] of deviations within reach of the tables."""
    import jax.numpy as jnp

    scaled = STRETCH * jnp.minimum(s, LARGEST_DEVIATION)
    return jnp.log1p(scaled + scaled * scaled / (1 + jnp.sqrt(1 + scaled * scaled))) / X_REACH


def _row_functions(s: jax.Array, basis: np.ndarray) -> jax.Array:
    """The tables' functions of rows with deviations `s` (...): (..., rank)."""
    import jax.numpy as jnp

    angle = jnp.arccos(jnp.clip(2 * _position(s) - 1, -1, 1))
    polynomials = jnp.cos(jnp.arange(ORDER_X, dtype=s.dtype) * angle[..., None])
    return polynomials @ jnp.asarray(basis)


def _argument(root: jax.Array) -> tuple[jax.Array, jax.Array]:
    """2y - 1 for t = `root`, and (t/2) d(2y - 1)/dt."""
    import jax.numpy as jnp

    scaled = root / WIDTH
    length = jnp.sqrt(1 + scaled * scaled)
    return 2 / Y_REACH * jnp.log(scaled + length) - 1, scaled / (length * Y_REACH)


def _start(like: jax.Array) -> _State:
    import jax.numpy as jnp

    zero = jnp.zeros_like(like)
    return zero, zero, zero, zero


def _clenshaw(state: _State, coefficient: jax.Array, argument: jax.Array) -> _State:
    """One step of Clenshaw's recurrence for a Chebyshev series and for its derivative."""
    b1, b2, d1, d2 = state
    twice = 2 * argument
    return coefficient + twice * b1 - b2, b1, 2 * b1 + twice * d1 - d2, d1
