"""Vectors in compiled loops do what NumPy does to their numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.compiled.vectors import (
    behind_zero,
    convert,
    even,
    fma,
    largest,
    last,
    least,
    loads,
    odd,
    size,
    splats,
    spreads,
    sqrt,
    store,
    where_less,
)

LANES = 32
load, splat = loads(LANES), splats(LANES)
NUMBERS = st.floats(-1e100, 1e100)
ROW = st.lists(NUMBERS, min_size=LANES, max_size=LANES).map(np.array)


@numba.njit
def every_operation(a: Any, b: Any, c: Any, number: float, out: Any) -> None:
    n = np.uint64(a.shape[0])
    for j in range(np.uint64(0), n, np.uint64(LANES)):
        x, y, z = load(a, j), load(b, j), load(c, j)
        store(out[0], j, x + y)
        store(out[1], j, x - y)
        store(out[2], j, x * y)
        store(out[3], j, fma(x, y, z))
        store(out[4], j, least(x, y))
        store(out[5], j, largest(x, y))
        store(out[6], j, where_less(x, y, z, splat(number)))
        store(out[7], j, sqrt(z * z))


def run(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], number: float) -> NDArray[Any]:
    out = np.empty((8, len(a)))
    every_operation(a, b, c, number, out)
    return out


@settings(max_examples=50, deadline=None)
@given(ROW, ROW, ROW, NUMBERS)
def test_every_operation(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], number: float) -> None:
    found = run(a, b, c, number)
    expected = [
        a + b, a - b, a * b, found[3], np.minimum(a, b), np.maximum(a, b),
        np.where(a < b, c, number), np.sqrt(c * c),
    ]  # fmt: skip
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=50, deadline=None)
@given(*[st.lists(st.floats(-1e9, 1e9), min_size=LANES, max_size=LANES).map(np.array)] * 3)
def test_products_and_sums_are_rounded_once(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]
) -> None:
    exact = [
        float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)
    ]
    np.testing.assert_array_equal(run(a, b, c, 0.0)[3], exact)


def test_several_vectors_and_numbers_that_are_none() -> None:
    a = np.arange(3.0 * LANES)
    a[1], a[LANES] = np.nan, np.inf
    found = run(a, np.ones_like(a), a, -1.0)
    np.testing.assert_array_equal(found[0], a + 1)
    np.testing.assert_array_equal(found[3], a + a)
    assert found[4, 1] == found[5, 1] == 1
    assert found[6, 1] == -1


load16, spread16 = loads(16), spreads(16)


@numba.njit
def rearranged(a: Any, index: int, whole: Any, half: Any, other: Any) -> float:
    x = load16(a, 0)
    store(whole[0], 0, behind_zero(x))
    store(whole[1], 0, spread16(a, index))
    store(whole[2], 0, size(x))
    store(half[0], 0, even(x))
    store(half[1], 0, odd(x))
    store(other[0], 0, convert(x, other[0]))
    store(whole[3], 0, convert(convert(x, other[0]), a))
    return last(x)  # type: ignore[no-any-return]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=16, max_size=16),
    st.integers(0, 15),
    st.sampled_from([(np.float32, np.float64), (np.float64, np.float32)]),
)
def test_lanes_and_dtypes(numbers: list[float], index: int, dtypes: tuple[Any, Any]) -> None:
    """Of either dtype: lanes go where they should, and conversions round as NumPy's do."""
    a = np.array(numbers, dtypes[0])
    whole, half = np.empty((4, 16), dtypes[0]), np.empty((2, 8), dtypes[0])
    other = np.empty((1, 16), dtypes[1])
    assert rearranged(a, index, whole, half, other) == a[15]
    np.testing.assert_array_equal(whole[0], [0, *a[:15]])
    np.testing.assert_array_equal(whole[1], [a[index]] * 16)
    np.testing.assert_array_equal(whole[2], np.abs(a))
    np.testing.assert_array_equal(half, [a[::2], a[1::2]])
    np.testing.assert_array_equal(other[0], a.astype(dtypes[1]))
    np.testing.assert_array_equal(whole[3], a.astype(dtypes[1]).astype(dtypes[0]))


def test_vectors_of_unlike_types_do_not_mix() -> None:
    @numba.njit
    def mixed(a: Any, b: Any) -> None:
        store(a, 0, load16(a, 0) + load16(b, 0))

    with pytest.raises(numba.TypingError):
        mixed(np.zeros(16), np.zeros(16, np.float32))
