"""Samples prepared for pairs: pixels as float64, and deviations at every activation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.kernels.duals.base import ActivationModel
from workers.kernels.layers import AnyLayer, walk
from workers.kernels.spatial.geometry import reaches
from workers.kernels.spatial.layers import Conv
from workers.kernels.spatial.layouts import DiagonalLayout, FullLayout
from workers.kernels.spatial.recursion import OwnSides, Side, State, make_side, run

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import Dual


class Samples(NamedTuple):
    """Samples of one side of a block."""

    x: jax.Array  # (n, P, Q, C) float64
    deviations: tuple[jax.Array, ...]  # per activation: (n, P', Q') of pixels, (n,) when flat


def duals_in_order(layers: Iterable[AnyLayer]) -> list[Dual]:
    """Duals of all activations, in the order in which the recursion meets them."""
    return [layer.dual() for layer in walk(layers) if isinstance(layer, ActivationModel)]


def normalized(x: jax.Array, kind: str) -> jax.Array:
    """Samples (n, P, Q, C) in float64, scaled to unit norm as a whole or per pixel."""
    import jax.numpy as jnp

    x = x.astype(jnp.float64)
    if kind == "none":
        return x
    axes = (3,) if kind == "unit_pixel" else (1, 2, 3)
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scaled = x / jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(jnp.sum(scaled * scaled, axis=axes, keepdims=True))
    return scaled / jnp.where(norm > 0, norm, 1)


def prepare_pixels(layers: tuple[Any, ...], x: jax.Array) -> Samples:
    """Deviations from the equal positions of each sample alone: exact where nothing couples
    positions (no pools, no global average before the last activation of `layers`)."""
    import jax.numpy as jnp

    sides = OwnSides(jnp.float64)
    k = jnp.sum(x * x, axis=3) / x.shape[3]
    layout = DiagonalLayout(jnp.ones(len(x), bool))
    run(layers, State(k, None, nonnegative=False), layout, sides, jnp.float64)
    return Samples(x, tuple(sides.deviations))


def prepare_tensor(layers: tuple[Any, ...], x: jax.Array) -> Samples:
    """Deviations from the whole tensor of each sample with itself."""
    import jax.numpy as jnp
    from jax import lax

    def one(sample: jax.Array) -> tuple[jax.Array, ...]:
        sides = OwnSides(jnp.float64)
        state, rest = tensor_inputs(layers, sample, sample, wanted=False, pair_dtype=jnp.float64)
        run(rest, state, FullLayout(jnp.ones((), bool)), sides, jnp.float64)
        return tuple(sides.deviations)

    return Samples(x, lax.map(one, x))


def tensor_inputs(
    layers: tuple[Any, ...], x: jax.Array, y: jax.Array, *, wanted: bool, pair_dtype: Any
) -> tuple[State, tuple[Any, ...]]:
    """The tensor of one pair of samples (P, Q, C) before the layers that are returned.

    A first convolution is taken along: it acts on the pixels themselves, whose patches are then
    multiplied, so that the tensor of a strided one is never larger than its output.
    """
    if not layers or not isinstance(layers[0], Conv):
        k = _products(x, y) / x.shape[2]
        return State(k, 0.0 if wanted else None, nonnegative=False), layers
    first = layers[0]
    k = _products(patches(x, first), patches(y, first)) * (first.gain / x.shape[2])
    k = k + first.b_std**2
    return State(k, k.astype(pair_dtype) if wanted else None, nonnegative=False), layers[1:]


def patches(x: jax.Array, layer: Conv) -> jax.Array:
    """What each output of a convolution sees: (P, Q, C) to (P', Q', filter positions * C)."""
    import jax.numpy as jnp
    from jax import lax

    rows, columns = reaches(layer, (x.shape[0], x.shape[1]))
    padded = jnp.pad(
        x,
        ((rows.before, rows.after), (columns.before, columns.after), (0, 0)),
        mode="wrap" if layer.padding == "CIRCULAR" else "constant",
    )
    parts = [
        lax.slice(
            padded,
            (i, j, 0),
            (
                i + (rows.out - 1) * rows.stride + 1,
                j + (columns.out - 1) * columns.stride + 1,
                x.shape[2],
            ),
            (rows.stride, columns.stride, 1),
        )
        for i in range(rows.filter)
        for j in range(columns.filter)
    ]
    return jnp.concatenate(parts, axis=2)


def make_sides(duals: list[Dual], deviations: tuple[jax.Array, ...], pair_dtype: Any) -> list[Side]:
    """One side of every activation."""
    return [
        make_side(dual, deviation, pair_dtype)
        for dual, deviation in zip(duals, deviations, strict=True)
    ]


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
    """<x_s, y_s'> over the last axis: (P, Q, P, Q)."""
    from jax import lax

    return lax.dot_general(x, y, (((2,), (2,)), ((), ())), precision=lax.Precision.HIGHEST)
