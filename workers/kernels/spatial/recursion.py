"""Layers acting on the covariances and NTKs of pixel pairs, in any arrangement of the pairs.

Covariances K are carried in float64 and NTKs T in the dtype of pairs. What a layer with a kink
needs is t = sqrt(1 - |rho|), the root of a difference; in float64 its rounding costs at most 1e-8
in any entry, also for constant and saturated images, where most pixel pairs have rho near 1. The
pair maps themselves (duals/base.py) keep relative accuracy, so float32 is enough for them where
`Dual.float32_pairs` says so.

An arrangement (`Layout`) says where a pair (s, s') stands and how a convolution reaches its
neighbours; the recursion is the same for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from workers.kernels.duals.base import ActivationModel, Correlation
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.duals.tabulated import covered_deviation
from workers.kernels.layers import Dense, Residual
from workers.kernels.spatial.arrays import diagonal
from workers.kernels.spatial.layers import AvgPool, Conv, Flatten, GlobalAvgPool, PoolModel

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import Dual


class State(NamedTuple):
    """Kernels of all pixel pairs (or of flat features) between two layers."""

    k: jax.Array  # float64
    t: (
        jax.Array | float | None
    )  # NTK in the dtype of pairs; 0.0: nothing trained yet; None: unasked
    nonnegative: bool  # k >= 0 is known


class Side(NamedTuple):
    """One side of an activation, shaped to broadcast against the pairs."""

    deviation: jax.Array  # float64: s = sqrt(K(x, x)) of the pixel before it
    inverse: jax.Array  # float64: 1/s, 0 where s is 0
    after: jax.Array | float  # float64: sqrt(E[phi(s z)^2]); a float is a factor of s
    ratio: jax.Array | float  # after/s, 0 where s is 0


class Layout(Protocol):
    """An arrangement of pixel pairs in an array."""

    def conv(self, values: jax.Array, layer: Conv, *, last: bool) -> jax.Array:
        """Sum of `values` over the filter, at the same offset on both sides. `last`: no
        activation follows, so entries that are no pixel pairs must be 0."""
        ...

    def pool(self, values: jax.Array, window: tuple[int, ...]) -> jax.Array:
        """Sums over windows on both sides."""
        ...

    def flatten(self, values: jax.Array) -> jax.Array:
        """Mean over equal positions."""
        ...

    def global_mean(self, values: jax.Array) -> jax.Array:
        """Mean over all pairs of positions."""
        ...

    def equal(self, values: jax.Array) -> jax.Array:
        """Boolean, broadcasts to `values`: both sides are the same pixel of the same sample."""
        ...


class Sides(Protocol):
    """Where the deviations at the next activation come from."""

    def take(self, dual: Dual, state: State) -> tuple[Side, Side]: ...


class RecordedSides:
    """Sides made before, in the order of the activations."""

    def __init__(self, left: Iterable[Side], right: Iterable[Side]) -> None:
        self._pairs = zip(left, right, strict=True)

    def take(self, dual: Dual, state: State) -> tuple[Side, Side]:
        return next(self._pairs)


class OwnSides:
    """Deviations of samples against themselves, read off their own kernels and kept."""

    def __init__(self, pair_dtype: Any) -> None:
        self._pair_dtype = pair_dtype
        self.deviations: list[jax.Array] = []

    def take(self, dual: Dual, state: State) -> tuple[Side, Side]:
        import jax.numpy as jnp

        k = state.k
        tensor = k.ndim == 4
        deviation = jnp.sqrt(jnp.maximum(diagonal(k) if tensor else k, 0))
        self.deviations.append(deviation)
        side = make_side(dual, deviation, self._pair_dtype)
        return (broadcast(side, left_of_tensor), side) if tensor else (side, side)


def broadcast(side: Side, expand: Callable[[jax.Array], jax.Array]) -> Side:
    """A side with `expand` applied to its arrays."""
    deviation, inverse, after, ratio = side
    return Side(
        expand(deviation),
        expand(inverse),
        after if isinstance(after, float) else expand(after),
        ratio if isinstance(ratio, float) else expand(ratio),
    )


def left_of_tensor(values: jax.Array) -> jax.Array:
    """(P, Q) of the left sample against (P, Q, P, Q); scalars stay."""
    return values[:, :, None, None] if values.ndim == 2 else values


def make_side(dual: Dual, deviation: jax.Array, pair_dtype: Any) -> Side:
    """What an activation needs to know of pixels with these deviations, float64."""
    import jax.numpy as jnp

    live = deviation > 0
    inverse = jnp.where(live, 1 / jnp.where(live, deviation, 1), 0)
    if isinstance(dual, ReluLikeDual):
        return Side(deviation, inverse, dual.gain, dual.gain)
    after = covered_deviation(dual, deviation)
    return Side(deviation, inverse, after, (after * inverse).astype(pair_dtype))


def run(
    layers: tuple[Any, ...], state: State, layout: Layout, sides: Sides, pair_dtype: Any
) -> State:
    """The state after `layers`."""
    for index, layer in enumerate(layers):
        if isinstance(layer, ActivationModel):
            state = _activate(layer.dual(), state, layout, sides, pair_dtype)
        elif isinstance(layer, Conv):
            following = layers[index + 1] if index + 1 < len(layers) else None
            last = not isinstance(following, ActivationModel)
            state = _conv(layer, state, layout, pair_dtype, last=last)
        elif isinstance(layer, Dense):
            trained = layer.trains_weights, layer.trains_biases
            state = _affine(state, layer.w_std**2, layer.b_std**2, pair_dtype, trained)
        elif isinstance(layer, Residual):
            body = run(layer.body, state, layout, sides, pair_dtype)
            shortcut = run(layer.shortcut, state, layout, sides, pair_dtype)
            state = _sum(shortcut, body, layer.scale**2)
        else:
            state = _linear(layer, state, layout)
    return state


def _conv(layer: Conv, state: State, layout: Layout, pair_dtype: Any, *, last: bool) -> State:
    def spread(values: Any) -> Any:
        return values if isinstance(values, float) else layout.conv(values, layer, last=last)

    t = None if state.t is None else spread(state.t)
    reached = State(spread(state.k), t, state.nonnegative)
    return _affine(reached, layer.gain, layer.b_std**2, pair_dtype, (True, True))


def _affine(
    state: State, gain: float, bias: float, pair_dtype: Any, trained: tuple[bool, bool]
) -> State:
    """K -> gain K + bias, T -> (gain K if weights are trained) + (bias if biases are) + gain T.

    K is added to T in the dtype of pairs.
    """
    weights = gain * state.k
    k = weights + bias if bias else weights
    if state.t is None:
        return State(k, None, state.nonnegative)
    t: jax.Array | float = 0.0 if isinstance(state.t, float) else gain * state.t
    if trained[0]:
        t = t + (k if trained[1] else weights).astype(pair_dtype)
    elif trained[1]:
        t = t + bias
    return State(k, t, state.nonnegative)


def _sum(shortcut: State, body: State, factor: float) -> State:
    t = None
    if shortcut.t is not None and body.t is not None:
        t = shortcut.t + factor * body.t
    return State(shortcut.k + factor * body.k, t, shortcut.nonnegative and body.nonnegative)


def _linear(layer: Any, state: State, layout: Layout) -> State:
    """Fixed linear maps of the pixels."""

    def act(values: Any) -> Any:
        if values is None or isinstance(values, float):
            return values
        if isinstance(layer, PoolModel):
            pooled = layout.pool(values, layer.window)
            scale = math.prod(layer.window) ** -2.0 if isinstance(layer, AvgPool) else 1.0
            return pooled if scale == 1 else scale * pooled
        if isinstance(layer, Flatten):
            return layout.flatten(values)
        assert isinstance(layer, GlobalAvgPool)
        return layout.global_mean(values)

    return State(act(state.k), act(state.t), state.nonnegative)


def _activate(dual: Dual, state: State, layout: Layout, sides: Sides, pair_dtype: Any) -> State:
    import jax.numpy as jnp

    left, right = sides.take(dual, state)
    bound = left.deviation * right.deviation
    inverse = left.inverse * right.inverse
    size = state.k if state.nonnegative else jnp.abs(state.k)
    w = jnp.clip((bound - size) * inverse, 0, 1)
    w = jnp.where(layout.equal(state.k), 0, w)
    rho = None if state.nonnegative else jnp.clip(state.k * inverse, -1, 1).astype(pair_dtype)
    pairs = Correlation(jnp.sqrt(w.astype(pair_dtype)), rho)
    s1 = None if dual.homogeneous else left.deviation.astype(pair_dtype)
    s2 = None if dual.homogeneous else right.deviation.astype(pair_dtype)
    result = dual.pair(pairs, s1, s2, degree="single" if pair_dtype == jnp.float32 else "double")
    new, ratio = result.correlation, left.ratio * right.ratio
    after = bound * ratio if isinstance(ratio, float) else left.after * right.after
    root = new.root.astype(jnp.float64)
    k = after * (1 - root * root)
    if new.rho is not None:
        k = jnp.where(new.rho >= 0, k, -k)
    t = state.t
    if t is not None:
        live = bound > 0
        t = jnp.where(live, t, 0) * ratio
        if result.derivative is not None:
            t = result.derivative * t
    return State(k, t, new.rho is None)
