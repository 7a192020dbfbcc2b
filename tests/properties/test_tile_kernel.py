"""The compiled product of a tile: its error, and which bits do not depend on what."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.solves.tile_kernel import (
    BLOCK,
    LANES,
    MOST_VECTORS,
    ROWS,
    STRIP_ROWS,
    multiply,
    widest_group,
)

ROUNDOFF = 2.0**-24
edges = st.integers(1, 2 * ROWS + 1)


def product(
    a: np.ndarray, vectors: np.ndarray, *, widest: int, mirrored: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A V (k, rows) and Aᵀ U (k, columns); vectors (k, rows + columns) hold U and then V.

    A lies in rows with more entries than columns, all of which are NaN.
    """
    rows, cols = a.shape
    stored = np.full((rows, cols + 3), np.nan, np.float32)
    stored[:, :cols] = a
    entries = stored.ravel()[: (rows - 1) * (cols + 3) + cols]
    entries.flags.writeable = False
    total = np.zeros((len(vectors), rows + cols))
    multiply(
        entries, cols + 3, rows, cols, vectors, 0, rows, mirrored, widest, total, 0, rows
    )  # fmt: skip
    return total[:, :rows], total[:, rows:]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.one_of(edges, edges.map(lambda n: STRIP_ROWS - ROWS + n)),
    cols=st.one_of(st.integers(1, 2 * LANES + 1), edges.map(lambda n: BLOCK - ROWS + n)),
    k=st.one_of(st.integers(1, 17), st.just(MOST_VECTORS)),
    positive=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_error_and_bits(rows: int, cols: int, k: int, positive: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, cols)).astype(np.float32)
    vectors = rng.standard_normal((k, rows + cols)).astype(np.float32)
    if positive:  # as kernels are: rounding errors of large sums
        a, vectors = np.abs(a), np.abs(vectors)
    above, below = product(a, vectors, widest=1)
    exact, u, v = a.astype(np.float64), vectors[:, :rows], vectors[:, rows:]
    sizes = np.abs(exact)
    # Float32 sums: 32 terms in each of 16 lanes, added in 4 steps; and a strip of 252.
    error = np.abs(above - v.astype(np.float64) @ exact.T)
    assert (error <= (BLOCK // LANES + 4) * ROUNDOFF * (np.abs(v) @ sizes.T)).all()
    error = np.abs(below - u.astype(np.float64) @ exact)
    assert (error <= (STRIP_ROWS + 1) * ROUNDOFF * (np.abs(u) @ sizes)).all()

    for widest in (2, 4):
        again = product(a, vectors, widest=widest)
        np.testing.assert_array_equal(again[0], above)
        np.testing.assert_array_equal(again[1], below)
    alone, nothing = product(a, vectors, widest=widest_group(), mirrored=False)
    np.testing.assert_array_equal(alone, above)
    assert not nothing.any()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 20),
    cols=st.integers(1, 40),
    k=st.integers(1, 9),
    seed=st.integers(0, 1000),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    where=st.sampled_from(["tile", "vectors"]),
)
def test_what_is_not_finite_goes_where_it_belongs_and_nowhere_else(
    rows: int, cols: int, k: int, seed: int, bad: float, where: str
) -> None:
    rng = np.random.default_rng(seed)
    a = np.abs(rng.standard_normal((rows, cols))).astype(np.float32)
    vectors = np.abs(rng.standard_normal((k, rows + cols))).astype(np.float32)
    target = a if where == "tile" else vectors
    target[rng.integers(target.shape[0]), rng.integers(target.shape[1])] = bad
    above, below = product(a, vectors, widest=widest_group())
    with np.errstate(invalid="ignore"):
        expected = vectors[:, rows:] @ a.T, vectors[:, :rows] @ a
    for found, wanted in zip((above, below), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
