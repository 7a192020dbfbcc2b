"""Any slice of a stored matrix equals NumPy's, whatever the tiling."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import matrices
from storage.blobs import LocalBlobs
from support.matrices import sealed_gram

BOUNDS = st.one_of(st.none(), st.integers(-45, 45))


@settings(max_examples=40, deadline=None)  # the machine may be busy
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    symmetric=st.booleans(),
    exponent=st.integers(0, 3),
    slices=st.lists(
        st.tuples(st.builds(slice, BOUNDS, BOUNDS), st.none() | st.builds(slice, BOUNDS, BOUNDS)),
        min_size=1,
        max_size=8,
    ),
)
def test_slices_equal_numpy(
    rows: int,
    columns: int,
    symmetric: bool,
    exponent: int,
    slices: list[tuple[slice, slice | None]],
) -> None:
    shape = (rows, rows if symmetric else columns)
    with tempfile.TemporaryDirectory() as folder:
        blobs = LocalBlobs(Path(folder))
        manifest, arrays = sealed_gram(
            blobs, shape, symmetric=symmetric, block_rows=4, tile_rows=4 << exponent
        )
        for row_slice, column_slice in slices:
            found = matrices.read_slice(blobs, manifest, "ntk", row_slice, column_slice)
            expected = arrays["ntk"][row_slice, column_slice or slice(None)]
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected, strict=True)
