"""Two arrangements of pixel pairs: equal positions only, and all pairs as one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.kernels.spatial.arrays import box, diagonal, window_sums
from workers.kernels.spatial.geometry import reaches, sides

if TYPE_CHECKING:
    import jax

    from workers.kernels.spatial.layers import Conv


@dataclass(frozen=True)
class DiagonalLayout:
    """Equal positions only, (n, P, Q): enough for a flatten readout of a network without pools.

    `same` (n,): which right samples are the left one.
    """

    same: jax.Array

    def conv(self, values: jax.Array, layer: Conv, *, last: bool) -> jax.Array:
        rows, columns = reaches(layer, (values.shape[1], values.shape[2]))
        circular = layer.padding == "CIRCULAR"
        return box(box(values, (1,), rows, circular=circular), (2,), columns, circular=circular)

    def pool(self, values: jax.Array, window: tuple[int, ...]) -> jax.Array:
        assert set(window) == {1}  # others couple positions: representation.py
        return values

    def flatten(self, values: jax.Array) -> jax.Array:
        return values.mean((1, 2))

    def global_mean(self, values: jax.Array) -> jax.Array:
        assert values.shape[1:] == (1, 1)
        return values[:, 0, 0]

    def equal(self, values: jax.Array) -> jax.Array:
        return self.same.reshape(-1, *[1] * (values.ndim - 1))


@dataclass(frozen=True)
class FullLayout:
    """All pairs of one pair of samples, (P, Q, P, Q); () once they are flat.

    `same` (): whether both are one sample.
    """

    same: jax.Array

    def conv(self, values: jax.Array, layer: Conv, *, last: bool) -> jax.Array:
        rows, columns = reaches(layer, (values.shape[0], values.shape[1]))
        circular = layer.padding == "CIRCULAR"
        return box(box(values, (0, 2), rows, circular=circular), (1, 3), columns, circular=circular)

    def pool(self, values: jax.Array, window: tuple[int, ...]) -> jax.Array:
        for axis, size in enumerate((*sides(window), *sides(window))):
            values = window_sums(values, axis, size)
        return values

    def flatten(self, values: jax.Array) -> jax.Array:
        return diagonal(values).mean()

    def global_mean(self, values: jax.Array) -> jax.Array:
        return values.mean()

    def equal(self, values: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        if values.ndim == 0:
            return self.same
        rows, columns = jnp.arange(values.shape[0]), jnp.arange(values.shape[1])
        return (
            self.same
            & (rows[:, None, None, None] == rows[:, None])
            & (columns[:, None, None] == columns)
        )
