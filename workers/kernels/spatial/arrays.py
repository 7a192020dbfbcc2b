"""Sums over filters and windows, and equal positions, of arrays of pixel pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.kernels.spatial.geometry import Reach

if TYPE_CHECKING:
    import jax


def box(values: jax.Array, axes: tuple[int, ...], reach: Reach, *, circular: bool) -> jax.Array:
    """Sums over a filter along `axes`, which move together: the same offset on both sides."""
    import jax.numpy as jnp
    from jax import lax

    if reach.before or reach.after:
        widths = [(0, 0)] * values.ndim
        for axis in axes:
            widths[axis] = (reach.before, reach.after)
        values = jnp.pad(values, widths, mode="wrap" if circular else "constant")
    # XLA would compute what comes before anew for every position of the filter, layer upon layer.
    values = lax.optimization_barrier(values)
    total: jax.Array | None = None
    for offset in range(reach.filter):
        part = values
        for axis in axes:
            stop = offset + (reach.out - 1) * reach.stride + 1
            part = lax.slice_in_dim(part, offset, stop, reach.stride, axis)
        total = part if total is None else total + part
    assert total is not None
    return total


def window_sums(values: jax.Array, axis: int, size: int) -> jax.Array:
    """Sums over consecutive windows of `size` along one axis."""
    shape = values.shape
    return values.reshape(*shape[:axis], shape[axis] // size, size, *shape[axis + 1 :]).sum(
        axis + 1
    )


def diagonal(values: jax.Array) -> jax.Array:
    """Equal positions (P, Q) of all pairs (P, Q, P, Q)."""
    import jax.numpy as jnp

    pixels = values.shape[0] * values.shape[1]
    equal: jax.Array = jnp.diagonal(values.reshape(pixels, pixels)).reshape(values.shape[:2])
    return equal
