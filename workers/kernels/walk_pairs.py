"""Pairs through the units of a program: one map per form, applied in order or in a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from workers.kernels.duals.base import Correlation
from workers.kernels.program import (
    AffineNumbers,
    EquilibriumForm,
    FixedPointForm,
    LayerForm,
    LoopForm,
    ResidualForm,
)
from workers.kernels.rows import FixedPointRows, LayerRows, ResidualRows, stacked
from workers.kernels.sums import Part, add_parts, affine_pairs, residual_pairs

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import Degree
    from workers.kernels.program import Form

    PairState = tuple[Correlation, jax.Array | None]

MAX_PAIR_ITERATIONS = 200
"""Most steps of a fixed point's correlations: Newton's method, so a handful where they converge."""

PAIR_TOLERANCE = 1e-11
"""Change of sqrt(1 - |rho|) and of rho below which one more Newton step is exact to rounding."""


class PairReport(NamedTuple):
    """How the correlations of a fixed point converged; of several, the worst."""

    change: jax.Array  # () largest change of rho or sqrt(1 - |rho|) in the last step
    iterations: jax.Array  # () steps taken


class PairWalker:
    """Carries pairs through units. `source` is the correlation of the inputs, (n1, n2)."""

    def __init__(self, source: Correlation, *, scaled: bool) -> None:
        self._source = source
        self._scaled = scaled
        self.report: PairReport | None = None

    @property
    def _dtype(self) -> Any:
        return self._source.root.dtype

    @property
    def _degree(self) -> Degree:
        return "single" if self._dtype.itemsize == 4 else "double"

    def units(
        self,
        forms: tuple[Form, ...],
        numbers: tuple[Any, ...],
        rows1: tuple[Any, ...],
        rows2: tuple[Any, ...],
        state: PairState,
    ) -> PairState:
        for item in zip(forms, numbers, rows1, rows2, strict=True):
            state = self._unit(*item, state)
        return state

    def _unit(
        self, form: Form, numbers: Any, rows1: Any, rows2: Any, state: PairState
    ) -> PairState:
        match form:
            case LayerForm():
                return self._layer(form, numbers, rows1, rows2, state)
            case ResidualForm():
                return self._residual(form, numbers, rows1, rows2, state)
            case LoopForm():
                return self._loop(form, numbers, rows1, rows2, state)
            case EquilibriumForm():
                return self._equilibrium(form, numbers, rows1, rows2, state)
            case FixedPointForm():
                return self._fixed_point(form, numbers, rows1, rows2, state)

    def _layer(
        self,
        form: LayerForm,
        numbers: AffineNumbers,
        rows1: LayerRows,
        rows2: LayerRows,
        state: PairState,
    ) -> PairState:
        correlation, ntk = state
        s1 = None if rows1.deviation is None else rows1.deviation[:, None]
        s2 = None if rows2.deviation is None else rows2.deviation[None, :]
        dual = form.dual.pair(correlation, s1, s2, degree=self._degree)
        others: list[Correlation | None] = [None] * form.biased + [self._source] * form.injected
        return affine_pairs(dual, ntk, _sides(rows1, rows2), others, self._scales(form, numbers))

    def _scales(self, form: LayerForm, numbers: AffineNumbers) -> list[Any] | None:
        if not self._scaled:
            return None
        scales = [numbers.weight_scale]
        scales += [numbers.bias_scale] * form.biased
        scales += [numbers.injection_scale] * form.injected
        return scales

    def _residual(
        self,
        form: ResidualForm,
        numbers: Any,
        rows1: ResidualRows,
        rows2: ResidualRows,
        state: PairState,
    ) -> PairState:
        _, body, shortcut = numbers
        branch = self.units(form.body, body, rows1.body, rows2.body, state)
        skip = self.units(form.shortcut, shortcut, rows1.shortcut, rows2.shortcut, state)
        (a1, b1), (a2, b2) = rows1.parts, rows2.parts
        sides = ((a1[:, None], b1[:, None]), (a2[None, :], b2[None, :]))
        return residual_pairs(skip, branch, sides)

    def _loop(
        self, form: LoopForm, numbers: Any, rows1: Any, rows2: Any, state: PairState
    ) -> PairState:
        """The first repetition on its own (it may settle the sign of rho, which changes the form
        of the state), the others in a loop."""
        from jax import eval_shape, lax, tree

        def step(state: PairState, item: Any) -> PairState:
            numbers, rows1, rows2 = item
            return self.units(form.body, numbers, rows1, rows2, state)

        def signed_step(state: PairState, item: Any) -> PairState:
            return _signed(step(state, item))

        items = (stacked(numbers, self._dtype), rows1, rows2)
        state = step(state, _slice(items, 0))
        second = eval_shape(step, state, _slice(items, 1))
        if (second[0].rho is None) != (state[0].rho is None):
            state, step = _signed(state), signed_step
        pairs, odd = divmod(form.count - 1, 2)

        def two_steps(state: PairState, two: tuple[Any, Any]) -> tuple[PairState, None]:
            return step(step(state, two[0]), two[1]), None

        # Two layers per step, so that the state alternates between two buffers instead of being
        # copied. By hand: the unrolling of `scan` slices its operands in a way that costs more
        # than the layers do.
        evens = tree.map(lambda value: value[1 : 1 + 2 * pairs : 2], items)
        odds = tree.map(lambda value: value[2 : 2 + 2 * pairs : 2], items)
        if pairs:
            state, _ = lax.scan(two_steps, state, (evens, odds), length=pairs)
        return step(state, _slice(items, form.count - 1)) if odd else state

    def _equilibrium(
        self,
        form: EquilibriumForm,
        numbers: AffineNumbers,
        rows1: LayerRows,
        rows2: LayerRows,
        state: PairState,
    ) -> PairState:
        from workers.kernels.equilibrium import equilibrium_pairs

        sides = _sides(rows1, rows2)
        if sides is None:
            start, shares = self._source, [self._source.signed()]
        else:
            (u1, b1), (u2, b2) = sides
            start, shares = add_parts([Part(u1, u2, self._source), Part(b1, b2, None)])
        scales = (
            [numbers.weight_scale, numbers.injection_scale, numbers.bias_scale]
            if self._scaled
            else None
        )
        correlation, ntk = equilibrium_pairs(
            form.dual, form.contraction, start, shares, scales, self._degree
        )
        return correlation, None if state[1] is None else ntk

    def _fixed_point(
        self,
        form: FixedPointForm,
        numbers: Any,
        rows1: FixedPointRows,
        rows2: FixedPointRows,
        state: PairState,
    ) -> PairState:
        """Newton's method for rho = R(rho), whose slope R' is what the body multiplies an NTK by.

        R' <= 1 - (1 - R'(1)) < 1 (the series of R in rho has non-negative coefficients), so every
        step is well defined.
        """
        import jax.numpy as jnp
        from jax import lax

        def through(
            correlation: Correlation, ntk: jax.Array, *, slope: bool
        ) -> tuple[Correlation, jax.Array]:
            walker = PairWalker(self._source, scaled=slope or self._scaled)
            values = _without_own_parameters(numbers) if slope else numbers
            new, mapped = walker.units(
                form.body, values, rows1.body, rows2.body, (correlation, ntk)
            )
            assert mapped is not None
            return new, mapped

        def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            root, rho, _, count = carry
            old = Correlation(root, rho)
            mapped, slope = through(old, jnp.ones_like(root), slope=True)
            gap = old.below()
            new = _from_gap(gap + (mapped.below() - gap) / (1 - slope))
            change = jnp.maximum(
                jnp.max(jnp.abs(new.root - root)), jnp.max(jnp.abs(new.signed() - rho))
            )
            return new.root, new.rho, change, count + 1

        def moving(carry: tuple[Any, ...]) -> Any:
            _, _, change, count = carry
            return (change > PAIR_TOLERANCE) & (count < MAX_PAIR_ITERATIONS)

        source = _signed((self._source, None))[0]
        start = (source.root, source.rho, jnp.asarray(jnp.inf, self._dtype), jnp.int32(0))
        root, rho, change, count = step(lax.while_loop(moving, step, start))
        self.report = PairReport(change, count)
        correlation = Correlation(root, rho)
        if state[1] is None:
            return correlation, None
        _, own = through(correlation, jnp.zeros_like(root), slope=False)
        _, slope = through(correlation, jnp.ones_like(root), slope=True)
        return correlation, own / (1 - slope)


def _from_gap(gap: jax.Array) -> Correlation:
    """Correlation 1 - gap."""
    import jax.numpy as jnp

    gap = jnp.clip(gap, 0, 2)
    return Correlation(jnp.sqrt(jnp.where(gap <= 1, gap, 2 - gap)), 1 - gap)


def _slice(items: Any, index: int) -> Any:
    from jax import tree

    return tree.map(lambda value: value[index], items)


def _signed(state: PairState) -> PairState:
    """The same state with rho written out."""
    correlation, ntk = state
    return Correlation(correlation.root, correlation.signed()), ntk


def _without_own_parameters(numbers: Any) -> Any:
    """`numbers` of units that multiply an NTK and add nothing to it."""
    if isinstance(numbers, AffineNumbers):
        return numbers._replace(weight_scale=0.0, bias_scale=0.0, injection_scale=0.0)
    if isinstance(numbers, tuple):
        return tuple(_without_own_parameters(part) for part in numbers)
    return numbers


def _sides(
    rows1: LayerRows, rows2: LayerRows
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]] | None:
    if rows1.parts is None or rows2.parts is None:
        return None
    return (
        tuple(part[:, None] for part in rows1.parts),
        tuple(part[None, :] for part in rows2.parts),
    )
