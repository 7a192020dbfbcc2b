"""The error of kernels whose values cannot be computed or returned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from workers.kernels.duals.tables import LARGEST_DEVIATION
from workers.kernels.duals.tabulated import TabulatedDual
from workers.kernels.errors import KernelRangeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from workers.kernels.duals.base import ActivationModel, Dual


def range_error(
    activations: Iterable[ActivationModel], largest: float, dtype: np.dtype[Any], samples: str
) -> KernelRangeError:
    """For a kernel that reaches `largest`: inf or NaN where `dtype` cannot hold a value, and where
    pre-activations have deviations that the tables of an activation do not cover.

    `samples`: what the inputs are called, "rows" or "samples".
    """
    tabulated = [
        name
        for name, dual in ((a.fn, a.dual()) for a in activations)  # type: ignore[attr-defined]
        if isinstance(dual, TabulatedDual)
    ]
    if tabulated and not math.isfinite(largest):
        return _uncovered(samples, tabulated[0])
    return KernelRangeError(
        f"The kernel of these {samples} reaches {largest:.3g}, which {dtype.name} cannot hold.",
        advice="Use smaller w_std or b_std, fewer layers, normalised inputs, or float64.",
        largest=repr(largest),
    )


def check_covered(dual: Dual, deviations: np.ndarray[Any, Any]) -> None:
    """Raise KernelRangeError if the tables of `dual` do not cover these deviations."""
    if isinstance(dual, TabulatedDual) and not deviations.max(initial=0.0) <= LARGEST_DEVIATION:
        raise _uncovered("samples", "an activation of this network")


def _uncovered(samples: str, activation: str) -> KernelRangeError:
    return KernelRangeError(
        f"Pre-activations of these {samples} have standard deviations above "
        f"{LARGEST_DEVIATION:g}, the largest that kernels of {activation} are tabulated for.",
        advice="Use normalised inputs, or a smaller w_std or b_std.",
        largest_deviation=LARGEST_DEVIATION,
    )
