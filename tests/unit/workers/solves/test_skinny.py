"""Products of one tile with a few columns: every width, both ways, NumPy and JAX arrays."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from workers.solves.skinny import CACHED_ROWS, SkinnyProducts, padded_columns


def test_padded_columns() -> None:
    padded = [padded_columns(k) for k in (1, 2, 3, 5, 8, 9, 16, 17, 33)]
    assert padded == [1, 2, 4, 8, 8, 16, 16, 32, 48]


@pytest.mark.parametrize("columns", [1, 2, 3, 8, 10, 17])
@pytest.mark.parametrize("as_jax", [False, True])
def test_both_products_agree_with_float64(columns: int, as_jax: bool) -> None:
    rng = np.random.default_rng(columns)
    shape = (CACHED_ROWS + 44, 130)  # more rows than one strip, and not a whole number of strips
    a = rng.standard_normal(shape).astype(np.float32)
    vectors = rng.standard_normal((shape[0] + shape[1], columns))
    rows, cols = slice(0, shape[0]), slice(shape[0], None)
    products = SkinnyProducts(vectors)
    values = jnp.asarray(a) if as_jax else a

    top, bottom = products.both(values, rows, cols)
    alone = products.forward(values, cols)

    exact = a.astype(np.float64)
    rounded = vectors.astype(np.float32).astype(np.float64)
    for found, expected in (
        (top, exact @ rounded[cols]),
        (alone, exact @ rounded[cols]),
        (bottom, exact.T @ rounded[rows]),
    ):
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        # 300 terms of size one: float32 sums keep them to a few units of 1e-6 of the largest.
        assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max() + 1e-6


def test_where_a_tile_lies_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, 200)).astype(np.float32)
    vectors = rng.standard_normal((500, 5))
    products = SkinnyProducts(vectors)
    here = products.both(a, slice(0, 300), slice(300, 500))
    there = products.both(jnp.asarray(a), slice(0, 300), slice(300, 500))
    for left, right in zip(here, there, strict=True):
        np.testing.assert_array_equal(left, right)
