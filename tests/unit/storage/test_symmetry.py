"""Exact symmetry, bit by bit, wherever the one differing entry stands."""

from __future__ import annotations

import numpy as np
import pytest

from storage.symmetry import is_bitwise_symmetric


@pytest.mark.parametrize("rows", [1, 127, 128, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_symmetric(rows: int, dtype: str) -> None:
    values = np.random.default_rng(0).standard_normal((rows, rows)).astype(dtype)
    values = np.triu(values) + np.triu(values, 1).T
    values[rows - 1, 0] = values[0, rows - 1] = np.nan
    assert is_bitwise_symmetric(values)
    assert is_bitwise_symmetric(np.asfortranarray(values))


@pytest.mark.parametrize("place", [(0, 1), (1, 0), (5, 200), (299, 0), (299, 298), (130, 131)])
def test_one_different_bit(place: tuple[int, int]) -> None:
    values = np.ones((300, 300), np.float32)
    values[place] = np.nextafter(np.float32(1), np.float32(2))
    assert not is_bitwise_symmetric(values)
    zeros = np.zeros((300, 300))
    zeros[place] = -0.0
    assert not is_bitwise_symmetric(zeros)
