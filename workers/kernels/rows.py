"""What each row carries through the network on its own: variances, in float64.

The variance recursion q' = w_std^2 E[phi(sqrt(q) z)^2] + b_std^2 needs O(n) work per layer and
carries the whole dynamic range, so that the pair recursion is left with numbers of order one.
Deviations s = sqrt(q) are carried rather than q: they use half the exponent range.

A sum of parts with deviations s_1, s_2, ... has the deviation s = |(s_1, s_2, ...)|, and each pair
needs of a row only the unit vector (s_1, s_2, ...)/s: its `Parts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from workers.kernels.duals.tabulated import covered_deviation
from workers.kernels.program import (
    AffineNumbers,
    EquilibriumForm,
    FixedPointForm,
    LayerForm,
    LoopForm,
    ResidualForm,
)

if TYPE_CHECKING:
    import jax

    from workers.kernels.program import Form, Program

MAX_ROW_ITERATIONS = 20_000
"""Most steps of a fixed point's variances. They converge like the slope of the variance map to
the power of steps: enough for a slope of 0.998."""

ROW_TOLERANCE = 1e-15
"""Relative change of a deviation below which it has converged."""


class RowState(NamedTuple):
    """Of one layer's output, per row; float64 (n,)."""

    deviation: jax.Array  # sqrt(K(x, x))
    ntk: jax.Array  # NTK(x, x)/K(x, x)


class LayerRows(NamedTuple):
    """Per-row numbers of an affine map, or of several stacked on a new first axis; float64 (n,).

    `parts`: the unit vector of the deviations that come from the weights, the bias and the
    injection, those that the layer has; None where it has weights only. `deviation` of the
    activation's input is None where the activation does not need it.
    """

    parts: tuple[jax.Array, ...] | None
    deviation: jax.Array | None


class ResidualRows(NamedTuple):
    """Unit vector of the deviations of shortcut and branch; rows of the units of both."""

    parts: tuple[jax.Array, jax.Array]
    body: tuple[Any, ...]
    shortcut: tuple[Any, ...]


class FixedPointRows(NamedTuple):
    """Rows of the body's units at the fixed point."""

    body: tuple[Any, ...]


class RowReport(NamedTuple):
    """How the variances of a fixed point converged; of several, the worst."""

    change: jax.Array  # () largest relative change in the last step
    iterations: jax.Array  # () steps taken
    contraction: jax.Array  # () largest factor Edot of the body: the NTK needs it below 1


class RowStates(NamedTuple):
    """All that the pair recursion needs to know of the rows of one side."""

    units: tuple[Any, ...]  # a LayerRows, ResidualRows, ... or tuple of them per unit
    deviation: jax.Array  # (n,) float64, of the output
    ntk: jax.Array  # (n,) float64, NTK(x, x) / deviation^2


def row_states(
    program: Program, length: jax.Array, features: int
) -> tuple[RowStates, RowReport | None]:
    """Variances and NTK diagonals of rows with Euclidean norms `length` (n,), float64."""
    import jax.numpy as jnp

    source = program.input_deviation(length, features)
    walker = _Walker(source)
    state, rows = walker.units(
        tuple(unit.form for unit in program.units),
        tuple(unit.numbers for unit in program.units),
        RowState(source, jnp.zeros_like(source)),
    )
    return RowStates(rows, state.deviation, state.ntk), walker.report


class _Walker:
    """Carries row states through units; `source` is the deviation of the inputs."""

    def __init__(self, source: jax.Array) -> None:
        self._source = source
        self.report: RowReport | None = None

    def units(
        self, forms: tuple[Form, ...], numbers: tuple[Any, ...], state: RowState
    ) -> tuple[RowState, tuple[Any, ...]]:
        rows = []
        for form, values in zip(forms, numbers, strict=True):
            state, own = self._unit(form, values, state)
            rows.append(own)
        return state, tuple(rows)

    def _unit(self, form: Form, numbers: Any, state: RowState) -> tuple[RowState, Any]:
        match form:
            case LayerForm():
                return self._layer(form, numbers, state)
            case ResidualForm():
                return self._residual(form, numbers, state)
            case LoopForm():
                return self._loop(form, numbers, state)
            case EquilibriumForm():
                return self._equilibrium(form, numbers)
            case FixedPointForm():
                return self._fixed_point(form, numbers)

    def _layer(
        self, form: LayerForm, numbers: AffineNumbers, state: RowState
    ) -> tuple[RowState, LayerRows]:
        s, dual = state.deviation, form.dual
        parts = [numbers.w_std * covered_deviation(dual, s)]
        scales: list[Any] = [numbers.weight_scale + dual.variance_derivative(s) * state.ntk]
        if form.biased:
            parts.append(numbers.b_std * _ones(s))
            scales.append(numbers.bias_scale)
        if form.injected:
            parts.append(numbers.u_std * self._source)
            scales.append(numbers.injection_scale)
        deviation, unit = _unit_vector(parts)
        ntk: Any = sum(part * part * scale for part, scale in zip(unit, scales, strict=True))
        return (
            RowState(deviation, ntk),
            LayerRows(
                parts=unit if len(unit) > 1 else None,
                deviation=None if dual.homogeneous else s,
            ),
        )

    def _residual(
        self, form: ResidualForm, numbers: Any, state: RowState
    ) -> tuple[RowState, ResidualRows]:
        scale, body_numbers, shortcut_numbers = numbers
        branch, body = self.units(form.body, body_numbers, state)
        skip, shortcut = self.units(form.shortcut, shortcut_numbers, state)
        deviation, (a, b) = _unit_vector([skip.deviation, scale * branch.deviation])
        ntk = a * a * skip.ntk + b * b * branch.ntk
        return RowState(deviation, ntk), ResidualRows((a, b), body, shortcut)

    def _loop(self, form: LoopForm, numbers: Any, state: RowState) -> tuple[RowState, Any]:
        from jax import lax

        def step(state: RowState, values: Any) -> tuple[RowState, Any]:
            return self.units(form.body, values, state)

        return lax.scan(step, state, stacked(numbers, state.deviation.dtype))

    def _equilibrium(
        self, form: EquilibriumForm, numbers: AffineNumbers
    ) -> tuple[RowState, LayerRows]:
        """With x' = (u_std x, b_std): variance |x'|^2/(1 - c), NTK as the pairs have it at rho = 1.

        `parts` are those of x' alone: injection and bias.
        """
        own = numbers.u_std * self._source
        parts = [own, numbers.b_std * _ones(own)] if form.biased else [own]
        deviation, unit = _unit_vector(parts)
        rest = 1 - form.contraction
        scales = (numbers.injection_scale, numbers.bias_scale)
        outside: Any = sum(part * part * scale for part, scale in zip(unit, scales, strict=False))
        live = sum(part * part for part in unit)
        ntk = (form.contraction * numbers.weight_scale * live + rest * outside) / rest
        return (
            RowState(deviation / rest**0.5, ntk),
            LayerRows(unit if form.biased else None, None),
        )

    def _fixed_point(self, form: FixedPointForm, numbers: Any) -> tuple[RowState, FixedPointRows]:
        import jax.numpy as jnp
        from jax import lax

        zero = jnp.zeros_like(self._source)

        def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            s, _, count = carry
            new = self.units(form.body, numbers, RowState(s, zero))[0].deviation
            change = jnp.abs(new - s) / jnp.where(new > 0, new, 1)
            return new, jnp.max(change), count + 1

        def moving(carry: tuple[Any, ...]) -> Any:
            _, change, count = carry
            return (change > ROW_TOLERANCE) & (count < MAX_ROW_ITERATIONS)

        start = (self._source, jnp.asarray(jnp.inf, zero.dtype), jnp.int32(0))
        s, change, count = lax.while_loop(moving, step, start)
        first, rows = self.units(form.body, numbers, RowState(s, zero))
        slope = self.units(form.body, numbers, RowState(s, _ones(s)))[0].ntk - first.ntk
        report = RowReport(change, count, jnp.max(slope))
        self.report = report
        return RowState(s, first.ntk / (1 - slope)), FixedPointRows(rows)


def stacked(numbers: Any, dtype: Any) -> Any:
    """One tree of arrays (count, ...) from `count` trees of floats."""
    import jax.numpy as jnp
    import numpy as np
    from jax import tree

    return tree.map(lambda *values: jnp.asarray(np.array(values), dtype), *numbers)


def _ones(like: jax.Array) -> jax.Array:
    import jax.numpy as jnp

    return jnp.ones_like(like)


def _unit_vector(parts: list[jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Length and direction of vectors (one per row) given by their components.

    Squares are taken after division by the largest component, so nothing overflows. A vector 0
    has the direction 0: every kernel with such a row is 0, never NaN.
    """
    import functools

    import jax.numpy as jnp

    length = functools.reduce(jnp.hypot, parts)
    inverse = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    return length, tuple(part * inverse for part in parts)
