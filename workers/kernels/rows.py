"""What each row carries through the network on its own: variances, in float64.

The variance recursion q' = w_std^2 E[phi(sqrt(q) z)^2] + b_std^2 needs O(n) work per layer and
carries the whole dynamic range, so that the pair recursion is left with numbers of order one.
Deviations s = sqrt(q) are carried rather than q: they use half the exponent range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import jax

    from workers.kernels.program import Affine, Program, Segment


class LayerRows(NamedTuple):
    """Per-row numbers of one affine map, or of several stacked on a new first axis; float64 (n,).

    The pre-activation of a row is the unit vector (weight, bias) of the parts of its deviation
    that come from the weights and from the bias. None where the layer has no bias (then weight
    is 1); `deviation` of the activation's input is None where the activation does not need it.
    """

    weight: jax.Array | None
    bias: jax.Array | None
    deviation: jax.Array | None


class RowStates(NamedTuple):
    """All that the pair recursion needs to know of the rows of one side."""

    first: LayerRows
    segments: tuple[LayerRows, ...]  # stacked: (layers, n)
    deviation: jax.Array  # (n,) float64, of the output
    ntk: jax.Array  # (n,) float64, NTK(x, x) / deviation^2


def row_states(program: Program, length: jax.Array, features: int) -> RowStates:
    """Variances and NTK diagonals of rows with Euclidean norms `length` (n,), float64."""
    import jax.numpy as jnp

    if program.normalize:
        length = jnp.where(length > 0, 1.0, 0.0)
    root = features**0.5
    deviation, ntk, first = _affine_rows(
        program.first.w_std / root * length,
        jnp.zeros_like(length),
        program.first.b_std,
        program.first.weight_scale,
        program.first.bias_scale,
    )
    rows = first if program.first.biased else LayerRows(None, None, None)
    segments = []
    for segment in program.segments:
        deviation, ntk, layers = _segment_rows(segment, deviation, ntk)
        segments.append(layers)
    return RowStates(rows, tuple(segments), deviation, ntk)


def _segment_rows(
    segment: Segment, deviation: jax.Array, ntk: jax.Array
) -> tuple[jax.Array, jax.Array, LayerRows]:
    import jax.numpy as jnp
    from jax import lax

    dual = segment.dual

    def step(
        carry: tuple[jax.Array, jax.Array], numbers: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], LayerRows]:
        s, ntk = carry
        w_std, b_std, weight_scale, bias_scale = numbers
        carried = dual.variance_derivative(s) * ntk
        s_new, ntk_new, rows = _affine_rows(
            w_std * dual.deviation(s), carried, b_std, weight_scale, bias_scale
        )
        return (s_new, ntk_new), LayerRows(
            rows.weight if segment.biased else None,
            rows.bias if segment.biased else None,
            None if dual.homogeneous else s,
        )

    numbers = jnp.array([_numbers(affine) for affine in segment.affines], deviation.dtype)
    (deviation, ntk), layers = lax.scan(step, (deviation, ntk), numbers)
    return deviation, ntk, layers


def _numbers(affine: Affine) -> tuple[float, float, float, float]:
    return affine.w_std, affine.b_std, affine.weight_scale, affine.bias_scale


def _affine_rows(
    weighted: jax.Array,
    carried: jax.Array,
    b_std: jax.Array | float,
    weight_scale: jax.Array | float,
    bias_scale: jax.Array | float,
) -> tuple[jax.Array, jax.Array, LayerRows]:
    """Deviation, NTK/variance and unit vectors after an affine map.

    `weighted` = w_std sqrt(E(q,q)); `carried` = normalised Edot(q,q) NTK(x,x) of the layer below.
    A row of variance 0 has the unit vector (0, 0): every kernel with it is 0, never NaN.
    """
    import jax.numpy as jnp

    deviation = jnp.hypot(weighted, jnp.asarray(b_std, weighted.dtype))
    inverse = jnp.where(deviation > 0, 1 / jnp.where(deviation > 0, deviation, 1), 0)
    weight, bias = weighted * inverse, b_std * inverse
    ntk = weight * weight * (weight_scale + carried) + bias * bias * bias_scale
    return deviation, ntk, LayerRows(weight, bias, None)
