"""Functions of a symmetric matrix applied to a block of vectors, by products with it alone.

g(K) B ≈ Σ c_j T_j(X) B with X = K mapped to [−1, 1] and the Chebyshev coefficients c_j of g
(Higham, Functions of Matrices, SIAM 2008, §4.4.3). Several functions share the vectors T_j(X) B,
and so the products. e^{−tw} needs about √(t λ₁ log 1/ε) of them where an explicit integrator takes
t λ₁.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import dct

from workers.analyses.checks import Floats
from workers.solves.errors import SolveFailedError

FIRST_DEGREE = 32
GROWTH = 1.01  # of ‖T_j(X) B‖ over ‖B‖: at most 1 while the spectrum lies in the interval


@dataclass(frozen=True)
class SeriesState:
    """After `degree` products: T_{degree−1}(X) B and T_degree(X) B, both B for degree 0, and the
    sums (m, k) of all series as far as that. Nobody changes its arrays."""

    degree: int
    before: Floats
    current: Floats
    sums: tuple[Floats, ...]


def coefficients(
    function: Callable[[Floats], Floats], low: float, high: float, tolerance: float, most: int
) -> Floats | None:
    """c_0, ... of `function` on [low, high], as many as keep `tolerance` · its largest value there.

    None if more than `most` are needed, or if it is not finite.
    """
    size = FIRST_DEGREE
    while True:
        angles = np.pi * (np.arange(size) + 0.5) / size
        values = function(0.5 * (high + low) + 0.5 * (high - low) * np.cos(angles))
        if not np.isfinite(values).all():
            return None
        found: Floats = dct(values, type=2) / size
        found[0] /= 2
        large = np.flatnonzero(np.abs(found) > tolerance * np.abs(values).max(initial=0.0))
        needed = int(large[-1]) + 1 if large.size else 1
        if needed > most:
            return None
        # Coefficients of a function that is not resolved yet do not fall off.
        if needed <= size // 2:
            return found[:needed]
        size *= 2


def apply_functions(
    multiply: Callable[[Floats], Floats],
    vectors: Floats,
    series: Sequence[Floats],
    low: float,
    high: float,
    *,
    resume: SeriesState | None = None,
    on_product: Callable[[SeriesState], None] = lambda state: None,
) -> list[Floats]:
    """g(K) B for each g given by its `coefficients` on [low, high], which must hold the spectrum.

    `multiply`: (m, k) -> K times it. `vectors`: B (m, k). One product fewer than the longest series
    has coefficients. `resume`: a state that `on_product` was given, of the same arguments; the
    answer is that of an uninterrupted run. Raises SolveFailedError as soon as the vectors show an
    eigenvalue outside.
    """
    sizes = np.linalg.norm(vectors, axis=0)

    def step(block: Floats) -> Floats:
        return (2.0 * multiply(block) - (high + low) * block) / (high - low)

    sums = tuple(one[0] * vectors for one in series)
    state = resume or SeriesState(0, vectors, vectors, sums)
    for degree in range(state.degree + 1, max((len(one) for one in series), default=0)):
        current = step(state.current)
        if degree > 1:
            current = 2.0 * current - state.before
        if not np.all(np.linalg.norm(current, axis=0) <= GROWTH * sizes):
            raise SolveFailedError(
                f"The matrix has an eigenvalue outside [{low:.3g}, {high:.3g}]: as a Gram matrix it"
                " is not positive semi-definite.",
                advice="Give a ridge, or recompute the Gram matrix in float64.",
            )
        sums = tuple(
            total + one[degree] * current if degree < len(one) else total
            for total, one in zip(state.sums, series, strict=True)
        )
        state = SeriesState(degree, state.current, current, sums)
        on_product(state)
    return list(state.sums)
