"""The layer recursion on pairs: from input correlations to kernel values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from workers.kernels.affine import AffineSide, Scales, affine_pairs
from workers.kernels.duals.base import Correlation, DualPair
from workers.kernels.inputs import unfold
from workers.kernels.rows import LayerRows, RowStates, row_states

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import Degree
    from workers.kernels.program import Program, Segment

PANEL_ROWS = 64
"""Rows of a block that the recursion takes at a time, so that its state stays in cache."""

UNROLL = 2
"""Layers per loop step: the state then alternates between two buffers instead of being copied."""


class BlockResult(NamedTuple):
    """Outputs of one block, and the largest diagonal entry met (Inf or NaN: out of range)."""

    outputs: dict[str, jax.Array]  # (n1, n2) each
    largest: jax.Array  # () float64


def evaluate_pairs(
    program: Program,
    folded: jax.Array,
    length1: jax.Array,
    length2: jax.Array,
    *,
    features: int,
    outputs: tuple[str, ...],
    dtype: str,
) -> BlockResult:
    """Kernel values from input correlations. Pure and traceable.

    `folded` (n1, n2) are folded correlations (inputs.py); `length1` (n1,) and `length2` (n2,)
    are Euclidean norms of the rows, float64. Outputs are (n1, n2) in `dtype`.
    """
    import jax.numpy as jnp

    rows1 = row_states(program, length1, features)
    rows2 = row_states(program, length2, features)
    values = _panelwise(program, folded, rows1, rows2, outputs, jnp.dtype(dtype))
    largest = jnp.maximum(_largest(rows1, outputs), _largest(rows2, outputs))
    return BlockResult(values, largest)


def _largest(rows: RowStates, outputs: tuple[str, ...]) -> jax.Array:
    """Largest diagonal entry of the outputs, which bounds all entries."""
    import jax.numpy as jnp

    variance = rows.deviation * rows.deviation
    return jnp.max(jnp.maximum(variance, variance * rows.ntk) if "ntk" in outputs else variance)


def mirror(values: jax.Array) -> jax.Array:
    """The upper triangle and its mirror image: exactly symmetric (n, n).

    To be compiled on its own. Fused with what computes `values`, it would compute the two
    triangles in two ways, which differ in their rounding.
    """
    import jax.numpy as jnp
    from jax import lax

    row = lax.broadcasted_iota("int32", values.shape, 0)
    column = lax.broadcasted_iota("int32", values.shape, 1)
    return jnp.where(row <= column, values, values.T)


def _panelwise(
    program: Program,
    folded: jax.Array,
    rows1: RowStates,
    rows2: RowStates,
    outputs: tuple[str, ...],
    dtype: jax.typing.DTypeLike,
) -> dict[str, jax.Array]:
    """Run the recursion over panels of PANEL_ROWS rows (all at once if they do not divide)."""
    from jax import lax, tree

    n1, n2 = folded.shape
    pair_dtype = folded.dtype
    right = _cast(rows2, pair_dtype)
    if n1 <= PANEL_ROWS or n1 % PANEL_ROWS:
        return _recursion(program, folded, _cast(rows1, pair_dtype), right, outputs, dtype)
    panels = n1 // PANEL_ROWS

    def split(value: jax.Array) -> jax.Array:  # (..., n1) -> (panels, ..., PANEL_ROWS)
        parts = value.reshape(*value.shape[:-1], panels, PANEL_ROWS)
        return parts.transpose(parts.ndim - 2, *range(parts.ndim - 2), parts.ndim - 1)

    def one(item: tuple[jax.Array, RowStates]) -> dict[str, jax.Array]:
        part, left = item
        return _recursion(program, part, left, right, outputs, dtype)

    left = tree.map(split, _cast(rows1, pair_dtype))
    parts = lax.map(one, (folded.reshape(panels, PANEL_ROWS, n2), left))
    return {name: value.reshape(n1, n2) for name, value in parts.items()}


def _cast(rows: RowStates, dtype: jax.typing.DTypeLike) -> RowStates:
    from jax import tree

    cast: RowStates = tree.map(lambda value: value.astype(dtype), rows)
    return cast


def _recursion(
    program: Program,
    folded: jax.Array,
    rows1: RowStates,
    rows2: RowStates,
    outputs: tuple[str, ...],
    dtype: jax.typing.DTypeLike,
) -> dict[str, jax.Array]:
    import jax.numpy as jnp

    w, rho = unfold(folded)
    degree: Degree = "single" if w.dtype == jnp.float32 else "double"
    start = DualPair(Correlation(jnp.sqrt(w), rho), None)
    scales = (
        Scales(program.first.weight_scale, program.first.bias_scale)
        if program.first.scaled
        else None
    )
    ntk = jnp.zeros_like(w) if "ntk" in outputs else None
    correlation, ntk = affine_pairs(start, ntk, _sides(rows1.first, rows2.first), scales)
    for segment, layers1, layers2 in zip(
        program.segments, rows1.segments, rows2.segments, strict=True
    ):
        correlation, ntk = _segment(segment, correlation, ntk, layers1, layers2, degree)
    values = {"nngp": correlation.signed()}
    if ntk is not None:
        values["ntk"] = ntk
    return {
        name: (rows1.deviation[:, None] * values[name] * rows2.deviation).astype(dtype)
        for name in outputs
    }


def _segment(
    segment: Segment,
    correlation: Correlation,
    ntk: jax.Array | None,
    layers1: LayerRows,
    layers2: LayerRows,
    degree: Degree,
) -> tuple[Correlation, jax.Array | None]:
    """All layers of a segment: the first on its own (it may settle the sign of rho, which
    changes the form of the state), the others in a loop."""
    import jax.numpy as jnp
    from jax import lax, tree

    scales = (
        Scales(
            jnp.array([x.weight_scale for x in segment.affines], correlation.w.dtype),
            jnp.array([x.bias_scale for x in segment.affines], correlation.w.dtype),
        )
        if segment.scaled
        else None
    )

    def layer(
        correlation: Correlation,
        ntk: jax.Array | None,
        item: tuple[LayerRows, LayerRows, Scales | None],
    ) -> tuple[Correlation, jax.Array | None]:
        rows1, rows2, scales = item
        s1 = None if rows1.deviation is None else rows1.deviation[:, None]
        s2 = None if rows2.deviation is None else rows2.deviation[None, :]
        dual = segment.dual.pair(correlation, s1, s2, degree=degree)
        return affine_pairs(dual, ntk, _sides(rows1, rows2), scales)

    items = (layers1, layers2, scales)
    correlation, ntk = layer(correlation, ntk, tree.map(lambda value: value[0], items))
    count = len(segment.affines) - 1
    if count == 0:
        return correlation, ntk

    def step(
        carry: tuple[Correlation, jax.Array | None],
        item: tuple[LayerRows, LayerRows, Scales | None],
    ) -> tuple[tuple[Correlation, jax.Array | None], None]:
        return layer(*carry, item), None

    rest = tree.map(lambda value: value[1:], items)
    (correlation, ntk), _ = lax.scan(step, (correlation, ntk), rest, length=count, unroll=UNROLL)
    return correlation, ntk


def _sides(rows1: LayerRows, rows2: LayerRows) -> tuple[AffineSide, AffineSide] | None:
    if rows1.weight is None or rows1.bias is None or rows2.weight is None or rows2.bias is None:
        return None
    return (
        AffineSide(rows1.weight[:, None], rows1.bias[:, None]),
        AffineSide(rows2.weight[None, :], rows2.bias[None, :]),
    )
