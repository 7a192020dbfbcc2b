"""Dense networks as chains of polynomials: what blocks of float32 results take on CPUs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
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
from workers.kernels.series.gain import Ends, gain, proportional_gain
from workers.kernels.series.stack import Fit, Layer, LayerSide, Side, fits_of, run

if TYPE_CHECKING:
    from workers.kernels.program import Form, Program


LENGTH_STEPS = 4
"""Steps per octave of the lengths at which gains are measured, so that panels share them."""

KEPT_GAINS = 1024
"""Gains that a network keeps."""


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
        self._proportional_gain = lru_cache(maxsize=KEPT_GAINS)(
            partial(proportional_gain, self._layers)
        )

    def side(self, length: Any) -> PanelSide | None:
        """Rows with Euclidean norms `length` (n,) float64; None where one is out of reach."""
        import jax

        length = np.asarray(length)
        ends = _ends(length)
        rows = jax.device_get(self._rows(np.concatenate([length, ends])))
        count = len(length)
        deviation = rows.deviation[:count]
        # Rows whose kernel is 0, wherever their pairs stand. Not all rows of 0: phi(0) may not be.
        live = deviation > 0
        layers = []
        for own in _layer_rows(self._forms, rows.units):
            s = np.ones(count + len(ends)) if own.deviation is None else own.deviation
            if not np.max(s[:count]) <= LARGEST_DEVIATION:
                return None
            weights, bias = np.ones_like(s), np.zeros_like(s)
            if own.parts is not None:
                weights, bias = own.parts
            cell = cell_of(s[:count][live] if live.any() else np.ones(1))
            layers.append(LayerSide(cell, _around(cell), position(s), weights, bias))
        variance = deviation * deviation
        largest = np.max(np.maximum(variance, variance * rows.ntk[:count]))
        # Not on the way to an error, which the traced recursion finds words for.
        if not largest <= np.finfo(np.float32).max:
            return None
        both = Side(tuple(layers), rows.deviation)
        lengths = float(ends[0]), float(ends[-1])
        return PanelSide(both.take(slice(0, count)), both.take(slice(count, None)), lengths)

    def pairs(self, left: PanelSide, right: PanelSide) -> SeriesPairs | None:
        """The pair maps for rows of two sides; None where one has no short series."""
        fits = fits_of(self._layers, left.rows, right.rows)
        if fits is None:
            return None
        return SeriesPairs(self._layers, fits, left, right, self._proportional_gain)


def _ends(length: Floats) -> Floats:
    """Two lengths around all that are not 0, of which a few serve many panels."""
    live = length[length > 0]
    if not len(live):
        return np.ones(2)
    steps = LENGTH_STEPS * np.log2([live.min(), live.max()])
    return np.exp2(np.array([math.floor(steps[0]), math.ceil(steps[1])]) / LENGTH_STEPS)


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


@dataclass(frozen=True, eq=False)
class PanelSide:
    """Rows of a panel; two rows whose `lengths` are around theirs."""

    rows: Side
    ends: Side
    lengths: tuple[float, float]


class SeriesPairs:
    """The pair maps of all layers for the rows of two sides."""

    def __init__(
        self,
        layers: tuple[Layer, ...],
        fits: tuple[Fit, ...],
        left: PanelSide,
        right: PanelSide,
        proportional_gain: Callable[[Ends], float],
    ) -> None:
        self._layers, self._fits = layers, fits
        self._left, self._right = left.rows, right.rows
        cells = tuple((fit.left, fit.right) for fit in fits)
        self._ends = Ends(cells, left.lengths + right.lengths, fits, left.ends, right.ends)
        self._proportional_gain = proportional_gain

    def run(self, folded: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """NNGP and NTK (n1, n2) of pairs with folded correlations (inputs.py) (n1, n2)."""
        return run(self._layers, self._fits, folded, self._left, self._right)

    def gain(self, folded: NDArray[Any]) -> float:
        """Largest relative change of a kernel per change of rho, at correlations as far from 0 and
        +-1 as those of `folded`."""
        return gain(self._layers, self._ends, folded)

    def proportional_gain(self) -> float:
        """The same for any rho >= 0 and changes that are proportional to rho where it is small."""
        return self._proportional_gain(self._ends)
