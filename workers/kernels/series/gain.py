"""How much a network of polynomials magnifies an error of its inputs' correlations.

Measured between rows of the lengths at the ends of two panels, by one small block: what decides
which product of the rows is accurate enough (compile.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.kernels.inputs import CLOSE_SINGLE
from workers.kernels.series.fit import Cell, Floats
from workers.kernels.series.stack import Fit, Layer, Side, run

PROBE = 0.05
"""Step over which the change of a kernel is measured, relative to the distance of rho from +-1 or
from 0."""

PROBES = 16
"""Correlations at which it is measured, of either sign or near to either end."""

PROPORTION = 2 / 3
"""Correlation up to which the error of the product in pieces grows with it."""

LEAST_RHO = 1e-3
"""Below, kernels are linear in rho."""


@dataclass(frozen=True)
class Ends:
    """Two rows each of two sides, the shortest and the longest, and the pair maps between them.

    Equal ones have equal cells and lengths, which determine all the rest.
    """

    cells: tuple[tuple[Cell, Cell], ...]
    lengths: tuple[float, ...]
    fits: tuple[Fit, ...] = field(compare=False)
    left: Side = field(compare=False)
    right: Side = field(compare=False)


def gain(layers: tuple[Layer, ...], ends: Ends, folded: NDArray[Any]) -> float:
    """Largest relative change of a kernel per change of rho, at correlations as far from 0 and +-1
    as those of `folded`; infinite where a kernel changes its sign among them."""
    low, high = float(folded.min()), float(folded.max())
    nearest, farthest = (CLOSE_SINGLE, 1.0) if low < 0 else (low, high)
    size = _geometric(*(min(max(end, CLOSE_SINGLE), 1.0) for end in (nearest, farthest)))
    signs = np.array([1.0, -1.0] if low < 0 else [1.0])[:, None]
    gains = _gains(layers, ends, (signs * size).ravel(), PROBE * np.tile(size, len(signs)))
    return float(gains.max())


def proportional_gain(layers: tuple[Layer, ...], ends: Ends) -> float:
    """The same for any rho >= 0, each change being min(rho/PROPORTION, 1) of a whole one."""
    rho = np.concatenate([_geometric(LEAST_RHO, 0.5), 1 - _geometric(CLOSE_SINGLE, 0.5)])
    gains = _gains(layers, ends, 1 - rho, PROBE * np.minimum(rho, 1 - rho))
    return float(np.max(gains * np.minimum(rho / PROPORTION, 1)))


def _gains(layers: tuple[Layer, ...], ends: Ends, folded: Floats, steps: Floats) -> Floats:
    """Largest relative change of a kernel per change of |rho|, which grows by `steps`."""
    probes = np.concatenate([folded, np.copysign(np.abs(folded) - steps, folded)])
    right = ends.right.take(np.repeat([0, 1], len(probes)))
    values = run(layers, ends.fits, np.tile(probes, (2, 2)), ends.left, right)
    gains = np.zeros(len(folded))
    for value in values.values():
        at, after = value.astype(np.float64).reshape(2, 2, 2, -1).transpose(2, 0, 1, 3)
        # A kernel of 0 that moves has lost all digits; one that stays is that of a zero row.
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.abs(after - at) / (np.abs(at) * steps)
        gains = np.fmax(gains, np.fmax.reduce(change, axis=(0, 1)))
        if np.any((at.max(-1) > 0) & (at.min(-1) < 0)):  # 0 lies between the probes
            gains[:] = math.inf
    return gains


def _geometric(low: float, high: float) -> Floats:
    return np.asarray(np.exp(np.linspace(math.log(low), math.log(high), PROBES)))
