"""The layer recursion on pairs: from input correlations to kernel values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from workers.kernels.duals.base import Correlation
from workers.kernels.inputs import unfold
from workers.kernels.rows import RowReport, RowStates, row_states
from workers.kernels.walk_pairs import PairReport, PairWalker

if TYPE_CHECKING:
    import jax

    from workers.kernels.program import Program

PANEL_ROWS = 64
"""Rows of a block that the recursion takes at a time, so that its state stays in cache."""


class FixedPointReport(NamedTuple):
    """How the fixed point of an equilibrium network converged, over all pairs of a block."""

    rows: RowReport
    pairs: PairReport


class BlockResult(NamedTuple):
    """Outputs of one block, and the largest diagonal entry met (Inf or NaN: out of range).

    `fixed_point` is None for networks without one that is iterated.
    """

    outputs: dict[str, jax.Array]  # (n1, n2) each
    largest: jax.Array  # () float64
    fixed_point: FixedPointReport | None = None


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

    rows1, report1 = row_states(program, length1, features)
    rows2, report2 = row_states(program, length2, features)
    values, pairs = _panelwise(program, folded, rows1, rows2, outputs, jnp.dtype(dtype))
    largest = jnp.maximum(_largest(rows1, outputs), _largest(rows2, outputs))
    if report1 is None or report2 is None or pairs is None:
        return BlockResult(values, largest)
    rows = RowReport(*(jnp.maximum(a, b) for a, b in zip(report1, report2, strict=True)))
    return BlockResult(values, largest, FixedPointReport(rows, pairs))


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
    # Not where(row <= column, values, values.T): for that, XLA on CPUs (jaxlib 0.10.2) compiles for
    # 20 to 40 seconds, in half a gigabyte.
    return jnp.where(row <= column, values, 0) + jnp.where(row < column, values, 0).T


PanelResult = tuple[dict[str, "jax.Array"], "PairReport | None"]


def _panelwise(
    program: Program,
    folded: jax.Array,
    rows1: RowStates,
    rows2: RowStates,
    outputs: tuple[str, ...],
    dtype: jax.typing.DTypeLike,
) -> PanelResult:
    """Run the recursion over panels of PANEL_ROWS rows (all at once if they do not divide)."""
    import jax.numpy as jnp
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

    def one(item: tuple[jax.Array, RowStates]) -> PanelResult:
        part, left = item
        return _recursion(program, part, left, right, outputs, dtype)

    left = tree.map(split, _cast(rows1, pair_dtype))
    parts, report = lax.map(one, (folded.reshape(panels, PANEL_ROWS, n2), left))
    values = {name: value.reshape(n1, n2) for name, value in parts.items()}
    return values, None if report is None else tree.map(jnp.max, report)


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
) -> PanelResult:
    import jax.numpy as jnp

    w, rho = unfold(folded)
    source = Correlation(jnp.sqrt(w), rho)
    walker = PairWalker(source, scaled=program.scaled)
    forms = tuple(unit.form for unit in program.units)
    numbers: tuple[Any, ...] = tuple(unit.numbers for unit in program.units)
    ntk = jnp.zeros_like(w) if "ntk" in outputs else None
    correlation, ntk = walker.units(forms, numbers, rows1.units, rows2.units, (source, ntk))
    values = {"nngp": correlation.signed()}
    if ntk is not None:
        values["ntk"] = ntk
    scaled = {
        name: (rows1.deviation[:, None] * values[name] * rows2.deviation).astype(dtype)
        for name in outputs
    }
    return scaled, walker.report
