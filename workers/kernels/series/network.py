"""Dense networks as chains of polynomials: what blocks of float32 results take on CPUs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workers.kernels.program import LayerForm, LoopForm
from workers.kernels.series.fit import (
    LARGEST_DEVIATION,
    REACH,
    STRETCH,
    Cell,
    Floats,
    cell_of,
    position,
)
from workers.kernels.series.stack import Fit, Layer, LayerSide, Side, fits_of, run

if TYPE_CHECKING:
    from workers.kernels.program import Form, Program


def _layers(units: Iterable[tuple[Form, Any]]) -> Iterator[Layer]:
    for form, numbers in units:
        if isinstance(form, LoopForm):
            for group in numbers:
                yield from _layers(zip(form.body, group, strict=True))
        else:
            assert isinstance(form, LayerForm)
            yield Layer(form.dual, numbers)


class SeriesNetwork:
    """A chain of layers (program.takes_series) for inputs of one number of features."""

    def __init__(self, program: Program, features: int) -> None:
        import jax

        from workers.kernels.rows import row_states

        self._forms = tuple(unit.form for unit in program.units)
        self._layers = tuple(_layers(program.units))
        self._rows = jax.jit(lambda length: row_states(program, length, features)[0])

    def side(self, length: Any) -> Side | None:
        """Rows with Euclidean norms `length` (n,) float64; None where one is out of reach."""
        rows = self._rows(length)
        deviation = np.asarray(rows.deviation)
        # Rows whose kernel is 0, wherever their pairs stand. Not all rows of 0: phi(0) may not be.
        live = deviation > 0
        layers = []
        for own in _layer_rows(self._forms, rows.units):
            count = len(rows.deviation)
            s = np.ones(count) if own.deviation is None else np.asarray(own.deviation)
            if not np.max(s) <= LARGEST_DEVIATION:
                return None
            weights, bias = np.ones(count), np.zeros(count)
            if own.parts is not None:
                weights, bias = (np.asarray(part) for part in own.parts)
            cell = cell_of(s[live] if live.any() else np.ones(1))
            layers.append(LayerSide(cell, _around(cell), position(s), weights, bias))
        variance = deviation * deviation
        largest = np.max(np.maximum(variance, variance * np.asarray(rows.ntk)))
        # Not on the way to an error, which the traced recursion finds words for.
        return Side(tuple(layers), deviation) if largest <= np.finfo(np.float32).max else None

    def pairs(self, left: Side, right: Side) -> SeriesPairs | None:
        """The pair maps for rows of two sides; None where one has no short series."""
        fits = fits_of(self._layers, left, right)
        return None if fits is None else SeriesPairs(self._layers, fits, left, right)


def _around(cell: Cell) -> Cell:
    """The cell, or a small one around a single deviation."""
    if not cell.single:
        return cell
    edge = np.sinh(REACH * (cell.low + 1e-9)) / STRETCH
    return cell_of(np.array([cell.deviation, edge]))


def _layer_rows(forms: tuple[Form, ...], units: tuple[Any, ...]) -> Iterator[Any]:
    from jax import tree

    for form, rows in zip(forms, units, strict=True):
        if isinstance(form, LoopForm):
            for k in range(form.count):
                yield from _layer_rows(form.body, tree.map(lambda value, k=k: value[k], rows))
        else:
            yield rows


class SeriesPairs:
    """The pair maps of all layers for the rows of two sides."""

    def __init__(self, layers: tuple[Layer, ...], fits: list[Fit], left: Side, right: Side) -> None:
        self._layers, self._fits, self._left, self._right = layers, fits, left, right

    def run(self, folded: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """NNGP and NTK (n1, n2) of pairs with folded correlations (inputs.py) (n1, n2)."""
        return run(self._layers, self._fits, folded, self._left, self._right)

    def gain(self, folded: NDArray[Any]) -> float:
        """Largest relative change of a kernel per change of rho, at correlations as far from 0 and
        +-1 as those of `folded`, for the rows of least and largest deviation."""
        grid = _probes(folded)
        rows, columns = _extremes(self._left), np.repeat(_extremes(self._right), 2 * len(grid))
        near = np.concatenate([grid, grid * (1 - PROBE)] * 2)
        left, right = self._left.take(rows), self._right.take(columns)
        values = run(self._layers, self._fits, np.stack([near, near]), left, right)
        gains = [0.0]
        for value in values.values():
            at, moved = value.astype(np.float64).reshape(2, 2, 2, -1).transpose(2, 0, 1, 3)
            steps = PROBE * np.abs(grid)
            # A kernel of 0 that moves has lost all digits; one that stays is that of a zero row.
            with np.errstate(divide="ignore", invalid="ignore"):
                change = np.abs(moved - at) / (np.abs(at) * steps)
            gains.append(float(np.nanmax(change, initial=0.0)))
            if np.any((at.max(-1) > 0) & (at.min(-1) < 0)):  # 0 lies between the probes
                gains.append(math.inf)
        return max(gains)


PROBE = 0.05
"""Relative step of 1 - |rho| over which the change of a kernel is measured."""

PROBES = 12
"""Correlations at which it is measured, of either sign."""


def _probes(folded: NDArray[Any]) -> Floats:
    """Folded correlations between the extremes of `folded` that the product alone gives."""
    from workers.kernels.inputs import CLOSE_SINGLE

    def between(low: float, high: float) -> Floats:
        return np.geomspace(
            min(max(low, CLOSE_SINGLE), 1.0), min(max(high, CLOSE_SINGLE), 1.0), PROBES
        )

    low, high = float(folded.min()), float(folded.max())
    if low >= 0:
        return between(low, high)
    return np.concatenate([between(CLOSE_SINGLE, 1.0), -between(CLOSE_SINGLE, 1.0)])


def _extremes(side: Side) -> NDArray[np.intp]:
    """Rows of least and largest deviation, of those that are not 0."""
    live = np.flatnonzero(side.deviation > 0)
    if not len(live):
        return np.zeros(2, np.intp)
    order = live[np.argsort(side.deviation[live], kind="stable")]
    return order[[0, -1]]
