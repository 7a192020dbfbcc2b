"""Exact correlations for the few pairs of rows that are almost equal or almost opposite.

A matrix product gives rho with an absolute error of a few roundings, which ruins w = 1 - |rho|
(and, through sqrt(w), the NTK) when w is small. Such pairs are found, gathered and recomputed
in float64 from the difference (or sum) of the unit rows: w = |x/|x| -+ y/|y||^2 / 2, whose square
root is accurate to 1e-16 in absolute terms; w is exactly 0 for equal rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import jax

CHUNK_PAIRS = 256
"""Pairs recomputed per step: gathered rows of 784 float64 then take 3 MiB."""

LANES = 16
"""Columns per group in the two-level search for set bits."""


class Rows(NamedTuple):
    """Original rows (n, d) in their own dtype, scaled by a power of two each, and 1/|row|."""

    values: jax.Array  # (n, d)
    inverse_length: jax.Array  # (n,) float64; 0 for zero rows


def unit_rows(rows: Rows) -> jax.Array:
    """Unit rows (n, d) in float64; zero rows stay zero."""
    return rows.values.astype(rows.inverse_length.dtype) * rows.inverse_length[:, None]


def recompute(folded: jax.Array, close: jax.Array, left: Rows, right: Rows) -> jax.Array:
    """`folded` (n1, n2) with the entries where `close` is set replaced by exact values.

    `folded` is w where rho >= 0 and -w where rho < 0 (see inputs.py). n2 must be a multiple of
    LANES. Works through the set entries in chunks, so its cost follows their number.
    """
    import jax.numpy as jnp
    from jax import lax

    groups = close.reshape(close.shape[0], -1, LANES)
    ends = jnp.cumsum(groups.sum(-1, dtype=jnp.int32).reshape(-1))
    total = ends[-1]

    def body(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start, folded = state
        order = start + jnp.arange(CHUNK_PAIRS, dtype=jnp.int32)
        row, column = _locate(groups, ends, order)
        valid = order < total
        negative = folded[row, column] < 0
        exact = _folded_distance(left, right, row, column, negative).astype(folded.dtype)
        # Rows outside the array: such updates are dropped.
        row = jnp.where(valid, row, folded.shape[0])
        return start + CHUNK_PAIRS, folded.at[row, column].set(exact, mode="drop")

    _, folded = lax.while_loop(lambda state: state[0] < total, body, (jnp.int32(0), folded))
    return folded


def _locate(groups: jax.Array, ends: jax.Array, order: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Row and column of the `order`-th set bits, counted in row-major order."""
    import jax.numpy as jnp

    per_row = groups.shape[1]
    group = jnp.minimum(jnp.searchsorted(ends, order, side="right"), ends.shape[0] - 1)
    row, part = group // per_row, group % per_row
    bits = groups[row, part]  # (chunk, LANES)
    before = ends[group] - bits.sum(-1, dtype=jnp.int32)
    rank = jnp.cumsum(bits, axis=-1, dtype=jnp.int32)
    lane = jnp.argmax(bits & (rank == (order - before)[:, None] + 1), axis=-1)
    return row, part * LANES + lane


def _folded_distance(
    left: Rows, right: Rows, row: jax.Array, column: jax.Array, negative: jax.Array
) -> jax.Array:
    """w = 1 - |rho| of the named pairs, negated where rho < 0; float64 (chunk,)."""
    import jax.numpy as jnp

    scale1 = left.inverse_length[row][:, None]
    scale2 = right.inverse_length[column][:, None]
    x = left.values[row].astype(scale1.dtype)
    y = right.values[column].astype(scale1.dtype)
    y = jnp.where(negative[:, None], -y, y)
    # x/|x| - y/|y|, arranged so that nearly equal rows are subtracted before any rounding:
    # what the rounded norms then leave is radial, orthogonal to the difference that matters.
    difference = (x - y) * scale1 + y * (scale1 - scale2)
    w = 0.5 * jnp.sum(difference * difference, axis=-1)
    return jnp.where(negative, -jnp.maximum(w, SMALLEST), w)


SMALLEST = 1e-37
"""Stands for w = 0 where rho = -1, so that the sign of -w survives; its root is below 1e-18."""
