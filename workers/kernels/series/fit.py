"""Pair maps of activations as polynomials, valid for rows whose deviations lie in two intervals.

With t = sqrt(1 - |rho|), the derivative D(t; s, s') of a normalised dual kernel (duals/base.py) is
smooth in t on either side of rho = 0, also where phi has a kink, and smooth in the deviations. It
is interpolated at Chebyshev points of the three variables and kept as

    A = sum_k tau^k a_k(s, s'),   D = A + t dA/dtau,   tau = 2t - 1

for rho >= 0 and, with its own coefficients, for rho < 0; each a_k is a bilinear form of Chebyshev
polynomials of the positions x, x' of s, s' in their intervals. From D follows the kernel itself:

    1 - rho_E = (x - x')^2 apart(s, s') + t^2 A        (rho >= 0)
    rho_E     = opposite(s, s') + t^2 A                (rho < 0)

so that equal rows have rho_E = 1 exactly and nothing cancels near them. Odd and even phi need the
first line only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.base import Correlation

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import Dual

Floats = NDArray[np.float64]
Parity = Literal["odd", "even", "neither"]

TOLERANCE = 1e-8
"""Error of D and A, relative to the largest |D|: a sixth of the rounding of float32."""

ROOT_NODES = 48
"""Points in t at which a map is sampled; terms beyond the tolerance are dropped."""

MOST_TERMS = 40
"""Most terms in t. Beyond, monomials in tau would lose the tolerance to rounding."""

ROW_NODES = 20
"""Points per interval of deviations, and most functions of a row."""

LARGEST_DEVIATION = 1e6
"""Rows beyond are left to the traced recursion; most activations have no short series far below."""

STRETCH = 2.0
REACH = math.asinh(STRETCH * LARGEST_DEVIATION)
"""Positions are asinh(STRETCH s)/REACH: 0 to 1."""

SMALLEST_STEP = 2.0**-14
"""Cells begin and end at multiples of a power of two, of this one at least."""

KEPT = 2048
"""Fits that a process keeps, of up to 100 kB each: those of a few kinds of panels in networks of
some hundred layers. A network of more fits anew in every block."""


class Cell(NamedTuple):
    """Deviations of the rows of one panel at one layer: positions from `low` to `high`.

    One deviation for all rows: low == high, and `deviation` is it.
    """

    low: float
    high: float
    deviation: float

    @property
    def single(self) -> bool:
        return self.low == self.high


def position(deviation: Floats) -> Floats:
    """x in [0, 1] of deviations s up to LARGEST_DEVIATION, smooth in s^2 near 0."""
    return np.asarray(np.arcsinh(STRETCH * deviation) / REACH)


def cell_of(deviations: Floats) -> Cell:
    """The cell of rows with these deviations (n,), n > 0: finite, positive.

    A cell begins and ends at multiples of a power of two, an eighth to a quarter of its width:
    panels of like rows share theirs, and with it the fit.
    """
    x = position(deviations)
    low, high = float(x.min()), float(x.max())
    if low == high:
        return Cell(low, high, float(deviations[0]))
    step = max(SMALLEST_STEP, 2.0 ** (math.floor(math.log2(high - low)) - 2))
    return Cell(math.floor(low / step) * step, math.ceil(high / step) * step, math.nan)


@dataclass(frozen=True, eq=False)
class PairSeries:
    """The pair map of one activation for rows of two cells, as bilinear forms of T_a(x) of the
    left row and of `rank` functions of the right one: T_b(x') @ right.

    Coefficients of A come by falling power of tau.
    """

    parity: Parity
    right: Floats  # (polynomials, rank)
    above: Floats  # (terms, polynomials, rank)
    below: Floats | None  # (terms, polynomials, rank); None where `above` serves both signs
    apart: Floats  # (polynomials, rank)
    opposite: Floats  # (polynomials, rank)


@lru_cache(maxsize=KEPT)
def pair_series(dual: Dual, left: Cell, right: Cell) -> PairSeries | None:
    """The series of `dual`, or None where no short one has the tolerance (large deviations:
    boundary layers of width 1/s in t). Both cells are single and equal, or neither is single."""
    single = left.single
    s1, x1 = _row_nodes(left, 1 if single else ROW_NODES)
    # One point more on the right: no point of one side is then a point of the other.
    s2, x2 = _row_nodes(right, 1 if single else ROW_NODES + 1)
    t = _chebyshev_points(ROOT_NODES)
    gaps = x1[:, None] - x2[None, :]
    if not single and np.min(np.abs(gaps)) < 1e-12:
        return None
    above, below, far, near = _sampled(dual, t, s1, s2)
    if not all(np.isfinite(part).all() for part in (above, below, far, near)):
        return None
    scale = float(np.max(np.abs(above)))
    in_rows1, in_rows2 = _coefficients(len(s1)), _coefficients(len(s2))

    def fitted(values: Floats) -> Floats:
        """(..., left, right) values at nodes to coefficients of the rows' polynomials."""
        return np.asarray(np.einsum("am,...mn,bn->...ab", in_rows1, values, in_rows2))

    parity = _parity(above, below, far, near, scale)
    apart = fitted(np.zeros_like(near) if single else near / gaps**2)
    opposite = fitted(far)
    positive = _in_tau(np.tensordot(_coefficients(ROOT_NODES), fitted(above), 1), scale)
    negative = None
    if parity == "neither":
        negative = _in_tau(np.tensordot(_coefficients(ROOT_NODES), fitted(below), 1), scale)
        if negative is None:
            return None
    if positive is None:
        return None
    forms = [form for form in (positive, negative, apart, opposite) if form is not None]
    if not single and not all(_settled(form) for form in forms):
        return None
    return _reduced(parity, positive, negative, apart, opposite)


def _reduced(
    parity: Parity, above: Floats, below: Floats | None, apart: Floats, opposite: Floats
) -> PairSeries:
    """With as few polynomials of the rows, and functions of the right ones, as the tolerance
    allows."""
    parts = [above] if below is None else [above, below, opposite[None]]
    # Each to its own size: D is small where phi is nearly constant, and may be all that counts.
    parts = [part / (np.max(np.abs(part)) or 1.0) for part in (*parts, apart[None])]
    joined = np.concatenate(parts)
    left, right_kept = (_needed(joined, axis) for axis in (1, 2))
    unfolded = joined[:, left, right_kept].reshape(-1, right_kept.stop)
    _, sizes, functions = np.linalg.svd(unfolded, full_matrices=False)
    right = functions[sizes > TOLERANCE * sizes[0]].T

    def reduced(form: Floats) -> Floats:
        return np.asarray(form[..., left, right_kept] @ right)

    return PairSeries(
        parity,
        right,
        reduced(above),
        None if below is None else reduced(below),
        reduced(apart),
        reduced(opposite),
    )


def _needed(forms: Floats, axis: int) -> slice:
    """The polynomials of one side but the last ones, which add less than the tolerance to D: up
    to ROW_NODES of them, in each term of A, whose powers multiply them in D."""
    others = tuple(other for other in (0, 1, 2) if other != axis)
    sizes = np.abs(forms).max(axis=others)
    needed = np.flatnonzero(sizes > TOLERANCE / (ROW_NODES * len(forms) ** 2))
    return slice(0, int(needed[-1]) + 1)


def row_polynomials(cell: Cell, x: Floats, count: int) -> Floats:
    """The first T_a(x) of positions (n,), moved into the cell: (n, count)."""
    if cell.single:
        return np.ones((len(x), 1))
    scaled = np.clip(2 * (x - cell.low) / (cell.high - cell.low) - 1, -1, 1)
    return np.asarray(np.polynomial.chebyshev.chebvander(scaled, count - 1))


def _row_nodes(cell: Cell, count: int) -> tuple[Floats, Floats]:
    """Deviations and positions of the points of a cell."""
    if cell.single:
        return np.array([cell.deviation]), np.array([cell.low])
    x = cell.low + (cell.high - cell.low) * _chebyshev_points(count)
    return np.sinh(REACH * x) / STRETCH, x


def _sampled(
    dual: Dual, t: Floats, s1: Floats, s2: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """D at rho = 1 - t^2 and at t^2 - 1, (terms, left, right) each; rho_E at rho = -1 and
    1 - rho_E at rho = 1, (left, right)."""
    import jax

    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        above, below, far, near = _sampler()(dual, t, s1, s2)
    shape = (len(t), len(s1), len(s2))
    return (
        np.broadcast_to(above, shape),
        np.broadcast_to(below, shape),
        np.broadcast_to(far, shape[1:]),
        np.broadcast_to(near, shape[1:]),
    )


@lru_cache(maxsize=1)
def _sampler() -> jax.stages.Wrapped:
    import jax
    import jax.numpy as jnp

    def sample(dual: Dual, t: jax.Array, s1: jax.Array, s2: jax.Array) -> tuple[jax.Array, ...]:
        left, right = s1[:, None], s2[None, :]
        shape = (1, len(s1), len(s2))

        def mapped(root: jax.Array, rho: jax.Array) -> tuple[Correlation, jax.Array]:
            pairs = Correlation(*(jnp.broadcast_to(v, (len(v), *shape[1:])) for v in (root, rho)))
            result = dual.pair(pairs, left, right, degree="double")
            slope = jnp.ones(()) if result.derivative is None else result.derivative
            return result.correlation, slope

        roots = t[:, None, None]
        one = jnp.ones((1, 1, 1))
        above = mapped(roots, 1 - roots * roots)[1]
        below = mapped(roots, roots * roots - 1)[1]
        near, _ = mapped(0 * one, one)
        far, _ = mapped(0 * one, -one)
        return above, below, far.signed()[0], near.below()[0]

    return jax.jit(sample, static_argnums=0)


def _parity(above: Floats, below: Floats, far: Floats, near: Floats, scale: float) -> Parity:
    """Whether phi is odd or even, to the tolerance, by its kernel."""
    for parity, sign in (("odd", -1.0), ("even", 1.0)):
        same_slopes = np.max(np.abs(below + sign * above)) <= 1e-12 * scale
        if same_slopes and np.max(np.abs(far - sign * (1 - near))) <= 1e-12:
            return parity  # type: ignore[return-value]
    return "neither"


def _in_tau(chebyshev: Floats, scale: float) -> Floats | None:
    """Coefficients of A by falling power of tau, from those of D by T_k(tau), as few as the
    tolerance allows; None where that is more than MOST_TERMS."""
    sizes = np.max(np.abs(chebyshev), axis=tuple(range(1, chebyshev.ndim)))
    tails = np.cumsum(sizes[::-1])[::-1]
    terms = int(np.sum(tails > TOLERANCE * scale))
    if terms > MOST_TERMS:
        return None
    terms = max(terms, 1)
    powers = np.zeros((terms, *chebyshev.shape[1:]))
    for k in range(terms):
        own = np.polynomial.chebyshev.cheb2poly(np.eye(terms)[k])
        powers[: len(own)] += own[:, None, None] * chebyshev[k]
    # D = A + t dA/dtau with t = (1 + tau)/2: d_k = (1 + k/2) a_k + (k + 1)/2 a_(k+1).
    result = np.zeros_like(powers)
    for k in range(terms - 1, -1, -1):
        later = (k + 1) / 2 * result[k + 1] if k + 1 < terms else 0.0
        result[k] = (powers[k] - later) / (1 + k / 2)
    return result[::-1].copy()


def _settled(form: Floats) -> bool:
    """Whether the last polynomials of both sides count for nothing."""
    scale = np.max(np.abs(form)) or 1.0
    ends = max(np.max(np.abs(form[..., -1, :])), np.max(np.abs(form[..., :, -1])))
    return bool(ends <= TOLERANCE * scale)


def _chebyshev_points(count: int) -> Floats:
    """Of [0, 1]."""
    return np.asarray((1 + np.cos(np.pi * (np.arange(count) + 0.5) / count)) / 2)


def _coefficients(count: int) -> Floats:
    """From values at `_chebyshev_points` to coefficients of T_k(2x - 1), (count, count)."""
    k = np.arange(count)
    matrix = np.cos(np.pi * k[:, None] * (k + 0.5) / count) * 2 / count
    matrix[0] /= 2
    return np.asarray(matrix)
