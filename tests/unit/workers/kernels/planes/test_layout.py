"""Which pairs of pixels the bands of the compiled core hold, and what memory it takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.convolutional import RELU
from workers.kernels.planes import AveragePool, Convolution, Network, Precision
from workers.kernels.planes.geometry import LANES, Geometry, bands, cover
from workers.kernels.planes.layout import make_plan, make_scratch, pooled_pairs


def geometry_of(pixels: tuple[int, int], padding: str) -> Geometry:
    conv = Convolution((1, 3) if pixels[1] > 1 else (1, 1), padding)  # type: ignore[arg-type]
    return make_plan(Network(pixels, (conv, RELU)), "mixed").groups[0].geometry


def held(geometry: Geometry, half: bool) -> Counter[tuple[int, int]]:
    """By rows and columns of the lag, how many planes its lanes stand for."""
    found: Counter[tuple[int, int]] = Counter()
    for (line, across), weights in zip(*bands(geometry, half=half), strict=True):
        for lane in range(LANES):
            lag = (line, across + lane) if geometry.torus else (0, line + lane)
            found[tuple(map(int, lag))] += int(weights[lane])  # type: ignore[index]
    return +found


SIZES = st.tuples(st.integers(1, 6), st.integers(1, 40))


@given(SIZES)
def test_every_lag_is_in_one_band(pixels: tuple[int, int]) -> None:
    geometry = geometry_of(pixels, "SAME")
    (rows, columns), stride = pixels, geometry.stride
    lags = {i * stride + j for i in range(1 - rows, rows) for j in range(1 - columns, columns)}
    assert held(geometry, half=False) == {(0, lag): 1 for lag in lags}
    expected = {(0, lag): 2 if lag else 1 for lag in lags if lag >= 0}
    assert held(geometry, half=True) == expected


@given(SIZES)
def test_every_offset_of_the_torus_is_in_one_band(pixels: tuple[int, int]) -> None:
    geometry = geometry_of(pixels, "CIRCULAR")
    rows, columns = pixels
    offsets = {(i, j) for i in range(rows) for j in range(columns)}
    assert held(geometry, half=False) == dict.fromkeys(offsets, 1)
    half = held(geometry, half=True)
    assert sum(half.values()) == rows * columns
    for (i, j), weight in half.items():
        opposite = (-i % rows, -j % columns)
        assert weight == (1 if opposite == (i, j) else 2)
        assert opposite == (i, j) or opposite not in half


@given(st.sets(st.integers(-100, 100), min_size=1))
def test_cover(lags: set[int]) -> None:
    """Bands are disjoint, begin at even lags, and are no more than a band per LANES - 1 lags."""
    found = cover(dict.fromkeys(lags, 1))
    named = [first + lane for first, weights in found for lane in range(LANES) if weights[lane]]
    assert sorted(named) == sorted(lags)
    firsts = [first for first, _ in found]
    assert all(first % 2 == 0 for first in firsts)
    assert (np.diff(firsts) >= LANES).all()
    assert len(found) <= 1 + (max(lags) - min(lags)) // (LANES - 1)


@pytest.mark.parametrize("precision", ["mixed", "fast", "double"])
def test_work_bytes_are_what_is_allocated(precision: Precision) -> None:
    conv, pool = Convolution((3, 3)), AveragePool((2, 2))
    plan = make_plan(Network((8, 12), (conv, RELU, pool, conv, RELU, conv, RELU)), precision)
    first, second = plan.groups
    sink, _ = pooled_pairs(first, second)
    arrays = [sink.nngp, sink.ntk]
    for group in plan.groups:
        scratch = make_scratch(group)
        arrays += [scratch.high, scratch.low]
    assert plan.work_bytes == sum(array.nbytes for array in arrays)
