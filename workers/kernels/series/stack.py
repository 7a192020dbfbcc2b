"""The numbers of a chain of layers for the rows of two panels, as core.py takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.program import AffineNumbers
from workers.kernels.series.fit import Cell, Floats, PairSeries, pair_series, row_polynomials

if TYPE_CHECKING:
    from workers.kernels.duals.base import Dual
    from workers.kernels.series.core import Layers

SLICE_BYTES = 16 * 2**20
"""Most bytes of row coefficients held at once; deep networks take a block in slices of rows."""


class Layer(NamedTuple):
    """An activation and the affine layer after it."""

    dual: Dual
    numbers: AffineNumbers

    @property
    def linear(self) -> bool:
        return isinstance(self.dual, ReluLikeDual) and self.dual.linear


@dataclass(frozen=True, eq=False)
class LayerSide:
    """Rows of one panel at one layer."""

    cell: Cell
    around: Cell  # the same rows' cell, never single
    x: Floats  # (n,) positions
    weights: Floats  # (n,) components of the output's unit vector
    bias: Floats


@dataclass(frozen=True, eq=False)
class Side:
    """Rows of one panel at all layers, and the deviation of the output, (n,)."""

    layers: tuple[LayerSide, ...]
    deviation: Floats

    def take(self, rows: NDArray[np.intp] | slice) -> Side:
        """Some of the rows, in the same cells."""
        layers = tuple(
            LayerSide(own.cell, own.around, own.x[rows], own.weights[rows], own.bias[rows])
            for own in self.layers
        )
        return Side(layers, self.deviation[rows])


def run(
    layers: tuple[Layer, ...], fits: tuple[Fit, ...], folded: NDArray[Any], left: Side, right: Side
) -> dict[str, NDArray[np.float32]]:
    """NNGP and NTK (n1, n2) of pairs with folded correlations (inputs.py) (n1, n2).

    n2 is a multiple of core.COLUMN_MULTIPLE, as rows of blocks are.
    """
    from workers.kernels.series.core import COLUMN_MULTIPLE, SCRATCH_ROWS, run_block

    n1, n2 = folded.shape
    assert n2 % COLUMN_MULTIPLE == 0
    outputs = {name: np.empty((n1, n2), np.float32) for name in ("nngp", "ntk")}
    scratch = np.empty((SCRATCH_ROWS, n2))
    stack = Stack(layers, fits, left, right)
    for rows in stack.slices(n1):
        run_block(
            folded[rows],
            stack.rows(rows),
            left.deviation[rows],
            right.deviation,
            outputs["nngp"][rows],
            outputs["ntk"][rows],
            scratch,
        )
    return outputs


class Fit(NamedTuple):
    """The pair map of one layer, and the cells that it is for."""

    left: Cell
    right: Cell
    series: PairSeries | None  # None: the identity


def fits_of(layers: tuple[Layer, ...], left: Side, right: Side) -> tuple[Fit, ...] | None:
    """The pair maps of all layers; None where one has no short series for such rows."""
    fits = []
    for layer, own, other in zip(layers, left.layers, right.layers, strict=True):
        single = own.cell.single and own.cell == other.cell
        cells = (own.cell, other.cell) if single else (own.around, other.around)
        series = None if layer.linear else pair_series(layer.dual, *cells)
        if series is None and not layer.linear:
            return None
        fits.append(Fit(*cells, series))
    return tuple(fits)


class Stack:
    """The numbers that core.py takes, for slices of rows."""

    def __init__(
        self, layers: tuple[Layer, ...], fits: tuple[Fit, ...], left: Side, right: Side
    ) -> None:
        from workers.kernels.series import core

        self._fits, self._left = fits, left
        names = {"odd": core.ODD, "even": core.EVEN, "neither": core.NEITHER}
        shapes = []
        for fit in fits:
            series = fit.series
            if series is None:  # A = 1
                shapes.append(core.LayerShape(1, 1, 0, core.ODD, 0))
                continue
            gaps = int(not fit.left.single)
            below = 0 if series.below is None else len(series.below)
            rank, above = series.right.shape[1], len(series.above)
            shapes.append(core.LayerShape(rank, above, below, names[series.parity], gaps))
        self._shapes = np.array(shapes, np.int64)
        self._rank, self._terms, self._terms_below = (
            max(1, int(count)) for count in self._shapes[:, :3].max(axis=0)
        )
        self._functions = np.ones((len(fits), self._rank, len(right.deviation)))
        for at, (fit, own) in enumerate(zip(fits, right.layers, strict=True)):
            if fit.series is not None:
                values = row_polynomials(fit.right, own.x, len(fit.series.right))
                self._functions[at, : fit.series.right.shape[1]] = (values @ fit.series.right).T
        self._right = _numbers(right, slice(None))
        self._scales = np.array([(x.numbers.weight_scale, x.numbers.bias_scale) for x in layers])

    def slices(self, count: int) -> Iterator[slice]:
        per_row = 8 * len(self._fits) * self._rank * (self._terms + self._terms_below + 2)
        step = max(1, SLICE_BYTES // per_row)
        for start in range(0, count, step):
            yield slice(start, min(start + step, count))

    def rows(self, rows: slice) -> Layers:
        from workers.kernels.series.core import Layers

        count = rows.stop - rows.start
        depth, rank = len(self._fits), self._rank
        above = np.zeros((depth, count, self._terms, rank))
        below = np.zeros((depth, count, self._terms_below, rank))
        ends = np.zeros((depth, 2, count, rank))
        for at, (fit, own) in enumerate(zip(self._fits, self._left.layers, strict=True)):
            series = fit.series
            if series is None:
                above[at, :, 0, 0] = 1
                continue
            values = row_polynomials(fit.left, own.x[rows], len(series.apart))
            _place(above[at], values, series.above)
            if series.below is not None:
                _place(below[at], values, series.below)
            for end, form in enumerate((series.apart, series.opposite)):
                ends[at, end, :, : form.shape[1]] = values @ form
        return Layers(
            self._shapes,
            above,
            below,
            ends,
            self._functions,
            _numbers(self._left, rows),
            self._right,
            self._scales,
        )


def _place(out: Floats, rows: Floats, series: Floats) -> None:
    """Coefficients of rows, (n, terms, rank)."""
    terms, polynomials, rank = series.shape
    flat = series.transpose(1, 0, 2).reshape(polynomials, -1)
    out[:, :terms, :rank] = (rows @ flat).reshape(len(rows), terms, rank)


def _numbers(side: Side, rows: slice) -> Floats:
    """Positions and unit vectors of the rows, (layers, 3, n)."""
    return np.array([[x.x[rows], x.weights[rows], x.bias[rows]] for x in side.layers])
