"""Digests do not depend on the tile size, and do depend on every number."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from support.matrices import digest_in_tiles, gram_manifest, panel_manifest, random_array

SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)  # the machine may be busy
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    symmetric=st.booleans(),
    block_rows=st.integers(1, 12),
    exponents=st.lists(st.integers(0, 5), min_size=2, max_size=3),
    seed=SEEDS,
)
def test_gram_digest_is_independent_of_the_tile_size(
    rows: int, columns: int, symmetric: bool, block_rows: int, exponents: list[int], seed: int
) -> None:
    shape = (rows, rows if symmetric else columns)
    values = random_array(shape, symmetric=symmetric, seed=seed)
    digests = {
        digest_in_tiles(
            values,
            gram_manifest(
                shape, symmetric=symmetric, block_rows=block_rows, tile_rows=block_rows << k
            ),
        )
        for k in exponents
    }
    assert len(digests) == 1


@settings(deadline=None)  # the machine may be busy
@given(
    rows=st.integers(1, 200),
    columns=st.one_of(st.none(), st.integers(1, 5)),
    block_rows=st.integers(6, 12),  # more than the columns: no chunk is square
    exponents=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    seed=SEEDS,
)
def test_panel_digest_is_independent_of_the_chunk_height(
    rows: int, columns: int | None, block_rows: int, exponents: tuple[int, int], seed: int
) -> None:
    shape = (rows,) if columns is None else (rows, columns)
    values = random_array(shape, dtype="float64", seed=seed)
    first, second = (
        digest_in_tiles(
            values,
            panel_manifest({"dual": shape}, block_rows=block_rows, tile_rows=block_rows << k),
        )
        for k in exponents
    )
    assert first == second


@settings(deadline=None)  # the machine may be busy
@given(edge=st.integers(1, 40), symmetric=st.booleans(), seed=SEEDS, data=st.data())
def test_changing_one_number_changes_the_digest(
    edge: int, symmetric: bool, seed: int, data: st.DataObject
) -> None:
    manifest = gram_manifest((edge, edge), symmetric=symmetric, block_rows=8, tile_rows=16)
    values = random_array((edge, edge), symmetric=symmetric, seed=seed)
    i, j = (data.draw(st.integers(0, edge - 1)) for _ in range(2))
    changed = values.copy()
    changed[i, j] = np.nextafter(changed[i, j], np.float32(np.inf))
    if symmetric:
        changed[j, i] = changed[i, j]
    assert digest_in_tiles(changed, manifest) != digest_in_tiles(values, manifest)
