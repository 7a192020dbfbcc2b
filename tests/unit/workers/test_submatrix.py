"""Chosen rows and columns of stored matrices, put together tile by tile."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import matrices, open_matrix
from storage.blobs import open_blobs
from support.gram_runs import Run
from support.matrices import sealed_gram
from workers.plan import TilePlan
from workers.solves.errors import InvalidSolveError
from workers.solves.prepare import cross_tiles
from workers.solves.source import StoredTiles
from workers.submatrix import (
    SubmatrixTask,
    compute_submatrix_batch,
    estimate_submatrix,
    pack_indices,
    submatrix_manifest,
    unpack_indices,
)

EDGE = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("submatrix")


@pytest.fixture(scope="module")
def source(folder: Path) -> StoredTiles:
    """A sealed symmetric matrix of several tiles."""
    blobs = open_blobs(folder)
    request = {"kernel": {"layers": []}, "x1": "ds-" + "0" * 32}
    manifest, _ = sealed_gram(
        blobs, (EDGE, EDGE), block_rows=32, tile_rows=64, provenance={"request": request}
    )
    return StoredTiles(blobs.url, manifest, "ntk")


def taken(
    folder: Path, source: StoredTiles, rows: np.ndarray, columns: np.ndarray | None, block: int
) -> StoredTiles:
    """The sealed result."""
    blobs = open_blobs(folder)
    manifest = submatrix_manifest(
        source, rows, columns, compute_block_rows=block, max_chunk_bytes=1 << 16, workers=1
    )
    matrices.create(blobs, manifest)
    task = SubmatrixTask(
        store_url=blobs.url,
        manifest=manifest,
        panel_cache_bytes=0,
        run=secrets.token_hex(8),
        source=source,
        rows=rows,
        columns=columns,
    )
    result = compute_submatrix_batch(task, tuple(TilePlan.of(manifest).tiles()))
    assert not result.failed
    run = Run(task)
    run.on_results(list(result.done))
    matrices.seal(blobs, manifest, run.digests(), {})
    return StoredTiles(blobs.url, manifest, "ntk")


def test_entries_are_those_of_the_matrix(folder: Path, source: StoredTiles) -> None:
    whole = open_matrix(folder, source.manifest.id)["ntk"][:]
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(rng.random(EDGE) < 0.6)
    others = np.setdiff1d(np.arange(EDGE), rows)
    square = taken(folder, source, rows, None, 64)
    assert TilePlan.of(square.manifest).n_tiles > 3
    assert square.layout.symmetric
    found = open_matrix(folder, square.manifest.id)["ntk"][:]
    np.testing.assert_array_equal(found, whole[np.ix_(rows, rows)])
    cross = taken(folder, source, others, rows, 64)
    found = open_matrix(folder, cross.manifest.id)["ntk"][:]
    np.testing.assert_array_equal(found, whole[np.ix_(others, rows)])

    blobs = open_blobs(folder)
    assert cross_tiles(blobs, cross.manifest.id, "ntk", square).layout.shape == cross.layout.shape
    other = taken(folder, source, np.sort(rng.permutation(EDGE)[: len(rows)]), None, 64)
    with pytest.raises(InvalidSolveError, match="training set"):
        cross_tiles(blobs, cross.manifest.id, "ntk", other)


def test_few_rows_and_all_of_them(folder: Path, source: StoredTiles) -> None:
    whole = open_matrix(folder, source.manifest.id)["ntk"][:]
    for rows in (np.array([299]), np.array([0, 64, 128]), np.arange(EDGE)):
        part = taken(folder, source, rows, None, 512)
        found = open_matrix(folder, part.manifest.id)["ntk"][:]
        np.testing.assert_array_equal(found, whole[np.ix_(rows, rows)])


def test_estimates_count_what_is_read(source: StoredTiles) -> None:
    seconds = []
    for rows in (np.arange(40), np.arange(0, EDGE, 2)):
        manifest = submatrix_manifest(
            source, rows, None, compute_block_rows=64, max_chunk_bytes=1 << 14, workers=1
        )
        estimate = estimate_submatrix(source, manifest, workers=2, worker_base_bytes=1000)
        assert estimate.bytes_written == manifest.stored_bytes
        assert estimate.peak_bytes_per_worker > 1000 + 64 * 64 * 4
        seconds.append(estimate.seconds)
    assert seconds[0] < seconds[1]


@pytest.mark.parametrize("rows", [[], [3, 3], [4, 2], [0, EDGE], [-1, 2]])
def test_bad_choices_are_refused(source: StoredTiles, rows: list[int]) -> None:
    with pytest.raises(InvalidSolveError, match="ascending"):
        submatrix_manifest(
            source,
            np.array(rows, np.int64),
            None,
            compute_block_rows=64,
            max_chunk_bytes=1 << 14,
            workers=1,
        )


@given(st.sets(st.integers(0, 40)), st.integers(41, 60))
def test_packed_indices_come_back(chosen: set[int], edge: int) -> None:
    indices = np.array(sorted(chosen), np.int64)
    np.testing.assert_array_equal(unpack_indices(pack_indices(indices, edge)), indices)
