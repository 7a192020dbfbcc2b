"""Correlations of input rows: one matrix product, made accurate enough to start from.

Three measures keep w = 1 - |rho| good to 1e-6 in everything that follows, in float32 (the product
"centered"):
 1. The left rows are centred on their mean mu: rho = <x - mu, y> + <mu, y>, with <mu, y> computed
    separately. The partial sums of the product then have random signs instead of growing
    steadily, and its rounding error falls by an order of magnitude on image-like data (max over
    10^6 pairs of CIFAR-10: 4e-6 without, 4e-7 with).
 2. Pairs that are still too close to +-1 are recomputed exactly in float64 (close_pairs.py), or
    all of them by a float64 product when they are many.
 3. Long rows are multiplied in pieces whose products are added pairwise.

Its error does not fall with rho, which shows in kernels that are nearly proportional to rho. Two
products of float32 rows serve these: in float64 ("double"), in twice the time; and, for rows
without negative entries, whose products add up without cancelling, float32 products of uncentred
rows in short pieces that are added in float64 ("pieces"), in 1.2 times the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from workers.kernels.close_pairs import SMALLEST, Rows, recompute, unit_rows

if TYPE_CHECKING:
    import jax

MAX_CONTRACTION = 4096
"""Longest inner product accumulated in one piece, features."""

PIECE_FEATURES = 112
"""Longest inner product in float32 of the product "pieces". Of 2.6e5 pairs of digits (784 pixels),
the largest relative error of rho is then 3.6e-7, and the largest error of rho above 0.5 2.1e-7."""

Product = Literal["centered", "pieces", "double"]

CLOSE_SINGLE = 0.01
CLOSE_DOUBLE = 1e-4
"""1 - |rho| below which a pair is recomputed, for float32 and float64 pairs, on data spread over
the sphere. Chosen so that the product's error delta adds at most delta * 10 (depth 3) to
delta * 34 (depth 10) at the threshold of float32, relative to the NTK."""

FLOOR_SINGLE = 0.04
FLOOR_DOUBLE = 1.0
"""Data crowded around their mean have a smaller product error, and so a threshold that is smaller
by the squared spread, down to this fraction, where the rounding of the rows themselves shows. In
float64 that is at once: the rounded norms are wrong by 2e-16 whatever the spread."""

MAX_CLOSE_FRACTION = 1 / 64
"""Share of close pairs in a block above which float32 blocks use a float64 product instead."""


class Panel(NamedTuple):
    """Rows of one side, prepared for products with any other panel of the same kernel."""

    rows: Rows
    length: jax.Array  # (n,) float64: Euclidean norms
    unit: jax.Array  # (n, d): x/|x| in the dtype of pairs; zero rows stay zero
    centered: jax.Array  # (n, d): unit - mean
    mean: jax.Array  # (d,): mean of the non-zero unit rows
    spread: jax.Array  # (): largest |unit - mean|^2 of a non-zero row
    like: jax.Array  # (): its dtype is that of the results


def prepare_panel(x: jax.Array, like: jax.Array | None = None, *, single: bool) -> Panel:
    """Panel of the rows of `x` (n, d), for pairs in float32 (`single`) or float64.

    Results have the dtype of `like`, or of `x` without it.
    """
    import jax.numpy as jnp

    if x.dtype == jnp.float64:
        # An exact power of two per row keeps squares in range; float32 squares always are.
        _, exponent = jnp.frexp(jnp.max(jnp.abs(x), axis=1))
        values = jnp.ldexp(x, -exponent[:, None])
    else:
        exponent = jnp.zeros(x.shape[0], jnp.int32)
        values = x
    norm = jnp.sqrt(jnp.sum(jnp.square(values.astype(jnp.float64)), axis=1))
    live = norm > 0
    rows = Rows(values, jnp.where(live, 1 / jnp.where(live, norm, 1), 0))
    unit = unit_rows(rows).astype(jnp.float32 if single else jnp.float64)
    mean = jnp.sum(unit, axis=0) / jnp.maximum(jnp.sum(live), 1).astype(unit.dtype)
    centered = unit - mean
    squares = jnp.sum(jnp.square(centered), axis=1)
    return Panel(
        rows=rows,
        length=jnp.ldexp(norm, exponent),
        unit=unit,
        centered=centered,
        mean=mean,
        spread=jnp.max(jnp.where(live, squares, 0)),
        like=jnp.zeros((), x.dtype) if like is None else like,
    )


class Correlations(NamedTuple):
    """Correlations as the matrix product gives them.

    `folded` is w = 1 - |rho| where rho >= 0 and -w where rho < 0, (n1, n2): one array holds the
    sign and the small distance from +1 or -1 (`unfold` separates them). If `nearest`, the
    smallest |folded| (off the diagonal, if symmetric), is below `close_limit`, some entries need
    `repair`.
    """

    folded: jax.Array
    nearest: jax.Array  # ()


def close_limit(product: Product, *, single: bool) -> float:
    """1 - |rho| below which entries may need `repair`. `single`: of float32 panels."""
    return CLOSE_SINGLE if single and product != "double" else CLOSE_DOUBLE


def correlate(
    left: Panel, right: Panel, *, symmetric: bool, product: Product = "centered"
) -> Correlations:
    """Correlations between the rows of two panels: in the dtype of the panels ("centered") or in
    float64. "pieces" is for float32 panels without negative entries.

    `symmetric`: both panels hold the same rows; the diagonal is exactly 0.
    """
    import jax.numpy as jnp

    if product == "double":
        u = 1 - _product(unit_rows(left.rows), unit_rows(right.rows))
    elif product == "pieces":
        u = 1 - _product_in_pieces(left.unit, right.unit)
    else:
        dtype = left.unit.dtype
        offset = jnp.dot(left.mean.astype(jnp.float64), right.mean.astype(jnp.float64))
        complement = (1 - offset - _product(right.centered, left.mean)).astype(dtype)
        u = complement[None, :] - _product(left.centered, right.unit)
    return _correlations(u, symmetric=symmetric)


def _correlations(u: jax.Array, *, symmetric: bool) -> Correlations:
    """From u = 1 - rho."""
    import jax.numpy as jnp

    if not symmetric:
        folded = _fold(u)
        return Correlations(folded, jnp.min(jnp.min(jnp.abs(folded), axis=0)))
    row, column = _indices(u)
    folded = _fold(jnp.where(row == column, 0, u))
    above = jnp.where(row < column, jnp.abs(folded), 1)
    return Correlations(folded, jnp.min(jnp.min(above, axis=0)))


def repair(
    folded: jax.Array,
    left: Panel,
    right: Panel,
    *,
    symmetric: bool,
    product: Product = "centered",
) -> jax.Array:
    """`folded` with the entries near +-1 made exact; of symmetric ones, the upper triangle."""
    import jax.numpy as jnp
    from jax import lax

    single = left.unit.dtype == jnp.float32
    limit = close_limit(product, single=single)
    # Only centring makes the error of crowded rows smaller.
    floor = FLOOR_SINGLE if single and product == "centered" else FLOOR_DOUBLE
    crowding = jnp.clip(2 * jnp.maximum(left.spread, right.spread), floor, 1)
    close = (folded < limit * crowding.astype(folded.dtype)) & (folded > -limit)
    row, column = _indices(folded)
    if symmetric:
        close &= row < column

    def exact(folded: jax.Array) -> jax.Array:
        return recompute(folded, close, left.rows, right.rows)

    def dense(folded: jax.Array) -> jax.Array:
        double = correlate(left, right, symmetric=symmetric, product="double")
        return double.folded.astype(folded.dtype)

    if not single or product == "double":
        return exact(folded)
    many = jnp.sum(close) > int(MAX_CLOSE_FRACTION * folded.size)
    repaired: jax.Array = lax.cond(many, dense, exact, folded)
    return repaired


def unfold(folded: jax.Array) -> tuple[jax.Array, jax.Array]:
    """w = 1 - |rho| and rho, from `Correlations.folded`."""
    import jax.numpy as jnp

    w = jnp.abs(folded)
    return w, jnp.where(folded >= 0, 1 - w, w - 1)


def _fold(u: jax.Array) -> jax.Array:
    """From u = 1 - rho in [0, 2] (up to rounding) to w or -w."""
    import jax.numpy as jnp

    return jnp.where(u <= 1, jnp.maximum(u, 0), jnp.minimum(u - 2, -SMALLEST))


def _indices(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    from jax import lax

    return (
        lax.broadcasted_iota("int32", values.shape, 0),
        lax.broadcasted_iota("int32", values.shape, 1),
    )


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """left @ right.T, contraction in pieces; `right` may be a vector."""
    from jax import lax

    features = left.shape[1]
    parts: list[jax.Array] = [
        lax.dot_general(
            left[:, start : start + MAX_CONTRACTION],
            right[..., start : start + MAX_CONTRACTION],
            (((1,), (right.ndim - 1,)), ((), ())),
            precision=lax.Precision.HIGHEST,
        )
        for start in range(0, features, MAX_CONTRACTION)
    ]
    while len(parts) > 1:
        pairs = [parts[i] + parts[i + 1] for i in range(0, len(parts) - 1, 2)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def _product_in_pieces(left: jax.Array, right: jax.Array) -> jax.Array:
    """left @ right.T of float32 rows in float64: short products in float32, added up."""
    import jax.numpy as jnp

    pieces = -(-left.shape[1] // PIECE_FEATURES)
    step = -(-left.shape[1] // pieces)
    total = jnp.zeros((left.shape[0], right.shape[0]), jnp.float64)
    for start in range(0, left.shape[1], step):
        total += _product(left[:, start : start + step], right[:, start : start + step])
    return total
