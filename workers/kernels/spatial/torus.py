"""Offset planes: the recursion of one pair of samples, offset by offset, in cache.

The pixels lie on a torus of (H, W) positions. With SAME padding it is larger than the samples by
the longest reach of a filter, and the border is 0, so that wrapping around never reaches a pixel:
one offset (dp, dq) of the torus then holds up to four offset planes of the samples, separated by
the border, and a convolution is the same circular sum everywhere. With CIRCULAR padding the torus
is the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.kernels.layers import Residual
from workers.kernels.spatial.geometry import Reach, Shape, reaches
from workers.kernels.spatial.inputs import Samples, duals_in_order, make_sides
from workers.kernels.spatial.layers import Conv
from workers.kernels.spatial.recursion import RecordedSides, Side, State, broadcast, run

if TYPE_CHECKING:
    import jax

    from workers.kernels.spatial.representation import Parts

PAIRS_IN_CACHE = 12_000
"""Pixel pairs that the recursion takes at a time: their float64 state fits the L2 cache."""


@dataclass(frozen=True)
class Torus:
    """`shape`: positions; `planes`: offsets along the first axis computed at a time."""

    shape: Shape
    planes: int
    bordered: bool


def torus_of(parts: Parts) -> Torus:
    """The smallest torus on which the trunk's convolutions do not reach around the border."""
    rows, columns = parts.shape
    if parts.padding == "CIRCULAR":
        wanted = max(1, min(rows, PAIRS_IN_CACHE // (rows * columns)))
        planes = max(n for n in range(1, wanted + 1) if rows % n == 0)
        return Torus(parts.shape, planes, bordered=False)
    reach = _longest(parts.trunk, parts.shape)
    height, width = rows + reach[0], columns + reach[1]
    wanted = max(1, min(height, PAIRS_IN_CACHE // (height * width)))
    # The border may be larger than it must: its height is a multiple of `planes`.
    planes = min(range(max(1, wanted // 2), wanted + 1), key=lambda n: (-(-height // n) * n, -n))
    return Torus((-(-height // planes) * planes, width), planes, bordered=True)


def _longest(layers: tuple[Any, ...], shape: Shape) -> Shape:
    """Longest reach beyond a pixel, along rows and columns."""
    longest = (0, 0)
    for layer in layers:
        if isinstance(layer, Conv):
            rows, columns = reaches(layer, shape)
            found = (max(rows.before, rows.after), max(columns.before, columns.after))
        elif isinstance(layer, Residual):
            found = _longest((*layer.body, *layer.shortcut), shape)
        else:
            continue
        longest = (max(longest[0], found[0]), max(longest[1], found[1]))
    return longest


@dataclass(frozen=True)
class TorusLayout:
    """Some offsets on the torus, (planes, H, W): entry [l, s] is the pair (s, s + offset_l).

    `mask` (planes, H, W): 1 where both positions are pixels; None without a border. `same`
    (planes, 1, 1): the offset is 0 and both samples are one.
    """

    mask: jax.Array | None
    same: jax.Array

    def conv(self, values: jax.Array, layer: Conv, *, last: bool) -> jax.Array:
        shape = (values.shape[1], values.shape[2])
        # Reaches in the samples are those on the torus: SAME padding puts the same number of
        # positions before a pixel whatever the size, at stride 1.
        rows, columns = reaches(layer, shape)
        values = _around(_around(values, 1, rows), 2, columns)
        return values * self.mask.astype(values.dtype) if last and self.mask is not None else values

    def pool(self, values: jax.Array, window: tuple[int, ...]) -> jax.Array:
        return values  # of one pixel: representation.py

    def flatten(self, values: jax.Array) -> jax.Array:
        raise AssertionError("representation.py gives planes a global average pool only")

    def global_mean(self, values: jax.Array) -> jax.Array:
        raise AssertionError("representation.py gives planes a global average pool only")

    def equal(self, values: jax.Array) -> jax.Array:
        return self.same


def _around(values: jax.Array, axis: int, reach: Reach) -> jax.Array:
    """Sums over a filter around the torus."""
    import jax.numpy as jnp
    from jax import lax

    if reach.filter == 1:
        return values
    values = lax.optimization_barrier(values)
    widths = [(0, 0)] * values.ndim
    widths[axis] = (reach.before, reach.after)
    padded = lax.optimization_barrier(jnp.pad(values, widths, mode="wrap"))
    total = lax.slice_in_dim(padded, 0, reach.size, axis=axis)
    for offset in range(1, reach.filter):
        total = total + lax.slice_in_dim(padded, offset, offset + reach.size, axis=axis)
    return total


def plane_sums(
    parts: Parts,
    torus: Torus,
    left: Samples,
    right: Samples,
    same: jax.Array,
    wanted: bool,
    pair_dtype: Any,
) -> tuple[jax.Array, jax.Array]:
    """Sums of K and T over all pixel pairs after the trunk, () float64 each.

    `left`, `right`: one sample each, without the leading axis; `same` (): both are one sample.
    """
    import jax.numpy as jnp
    from jax import lax

    height, width = torus.shape
    duals = duals_in_order(parts.trunk)
    count = len(duals)

    def spread(values: jax.Array) -> jax.Array:
        """Zero border around (P, Q, ...)."""
        widths = [(0, height - values.shape[0]), (0, width - values.shape[1])]
        return jnp.pad(values, widths + [(0, 0)] * (values.ndim - 2))

    def sides_of(samples: Samples) -> list[Side]:
        sides = make_sides(duals, samples.deviations[:count], pair_dtype)
        return [broadcast(side, spread) for side in sides]  # 0 in the border, also phi(0)

    def channels_of(samples: Samples) -> list[jax.Array]:
        return list(jnp.moveaxis(spread(samples.x), 2, 0))

    live = spread(jnp.ones(parts.shape))
    left_sides = [broadcast(side, lambda v: v[None]) for side in sides_of(left)]
    left_x = [channel[None] / parts.channels for channel in channels_of(left)]
    moving = (sides_of(right), channels_of(right), live)

    def at_columns(carry: tuple[jax.Array, jax.Array], dq: jax.Array) -> Any:
        turned = _map_arrays(lambda v: _turned(v, dq, axis=1), moving)
        doubled = _map_arrays(lambda v: jnp.concatenate([v, v]), turned)

        def at_rows(carry: tuple[jax.Array, jax.Array], group: jax.Array) -> Any:
            start = group * torus.planes

            def window(values: jax.Array) -> jax.Array:
                parts = [
                    lax.dynamic_slice_in_dim(values, start + plane, height)
                    for plane in range(torus.planes)
                ]
                stack: jax.Array = lax.optimization_barrier(jnp.stack(parts))
                return stack

            right_sides, right_x, right_live = _map_arrays(window, doubled)
            k = sum(a * b for a, b in zip(left_x, right_x, strict=True))
            offsets = start + jnp.arange(torus.planes)
            layout = TorusLayout(
                live[None] * right_live if torus.bordered else None,
                (same & (offsets == 0) & (dq == 0))[:, None, None],
            )
            state = State(k, 0.0 if wanted else None, nonnegative=False)
            recorded = RecordedSides(left_sides, right_sides)
            state = run(parts.trunk, state, layout, recorded, pair_dtype)
            sums = carry[0] + jnp.sum(state.k), carry[1]
            if state.t is not None:
                sums = sums[0], carry[1] + jnp.sum(jnp.asarray(state.t), dtype=jnp.float64)
            return sums, None

        return lax.scan(at_rows, carry, jnp.arange(height // torus.planes))[0], None

    zero = jnp.zeros((), jnp.float64)
    sums, _ = lax.scan(at_columns, (zero, zero), jnp.arange(width))
    return sums


def _turned(values: jax.Array, offset: jax.Array, axis: int) -> jax.Array:
    """values[(i + offset) mod size] along an axis."""
    import jax.numpy as jnp
    from jax import lax

    doubled = jnp.concatenate([values, values], axis)
    return lax.dynamic_slice_in_dim(doubled, offset, values.shape[axis], axis)


def _map_arrays(function: Any, tree: Any) -> Any:
    """`function` on every array, floats left alone."""
    from jax import tree as trees

    return trees.map(lambda v: v if isinstance(v, float) else function(v), tree)
