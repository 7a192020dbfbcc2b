"""Products of one tile with a few vectors: NumPy and JAX arrays, compiled and by XLA."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from workers.solves import skinny
from workers.solves.skinny import SkinnyProducts
from workers.solves.tile_kernel import MOST_VECTORS

ROWS, COLUMNS = slice(0, 300), slice(300, 430)


def example(columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(columns)
    a = rng.standard_normal((300, 130)).astype(np.float32)
    return a, rng.standard_normal((430, columns))


def both(values: Any, vectors: np.ndarray, *, mirrored: bool = True) -> np.ndarray:
    total = np.zeros((vectors.shape[1], 430))
    SkinnyProducts(vectors).add(values, ROWS, COLUMNS, total, mirrored=mirrored)
    return total.T


@pytest.mark.parametrize("columns", [1, 2, 3, 8, MOST_VECTORS + 1])
@pytest.mark.parametrize("accelerated", [False, True])
def test_both_products_agree_with_float64(
    columns: int, accelerated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skinny, "on_accelerator", lambda: accelerated)
    a, vectors = example(columns)
    exact = a.astype(np.float64)
    rounded = vectors.astype(np.float32).astype(np.float64)
    for mirrored in (True, False):
        found = both(jnp.asarray(a) if accelerated else a, vectors, mirrored=mirrored)
        expected = np.zeros_like(found)
        expected[ROWS] = exact @ rounded[COLUMNS]
        if mirrored:
            expected[COLUMNS] = exact.T @ rounded[ROWS]
        # 300 terms of size one: float32 sums keep them to a few units of 1e-6 of the largest.
        assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max()


def test_where_and_how_a_tile_lies_changes_no_bit() -> None:
    a, vectors = example(5)
    expected = both(a, vectors)
    wide = np.full((300, 160), np.nan, np.float32)
    wide[:, :130] = a
    for values in (jnp.asarray(a), wide[:, :130], np.asfortranarray(a), a[::-1][::-1]):
        np.testing.assert_array_equal(both(values, vectors), expected)


def test_how_many_vectors_there_are_changes_no_bit() -> None:
    a, vectors = example(MOST_VECTORS + 7)
    expected = both(a, vectors)
    for c in (0, 3, MOST_VECTORS, MOST_VECTORS + 6):
        np.testing.assert_array_equal(both(a, vectors[:, c : c + 1])[:, 0], expected[:, c])


def test_sums_are_added_to_what_is_there() -> None:
    a, vectors = example(2)
    total = np.ones((2, 500))
    SkinnyProducts(vectors).add(a, ROWS, COLUMNS, total, first=-20, mirrored=True)
    assert (total[:, :20] == 1).all()
    assert (total[:, 450:] == 1).all()
    np.testing.assert_allclose(total[:, 20:450].T - 1, both(a, vectors), rtol=0, atol=1e-13)
