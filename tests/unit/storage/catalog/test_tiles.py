"""Tile records: bulk upsert, totals by SQL, iteration in bounded memory, nothing after the seal."""

from __future__ import annotations

import math
import tracemalloc

import pytest

from storage.catalog import Catalog, TileRecord, TileSummary
from storage.errors import ConflictError, NotFoundError
from support.catalogs import hex_digest, mx, tile

MATRIX = mx("k")


@pytest.fixture(autouse=True)
def _matrix(catalog: Catalog) -> None:
    catalog.add_matrix(MATRIX, "gram", {"id": MATRIX})


def same(left: TileRecord, right: TileRecord) -> bool:
    """Equality in which NaN equals NaN."""
    return repr(left) == repr(right)


def test_tiles_come_back_in_order(catalog: Catalog) -> None:
    stored = [tile(i, j, array) for array in ("nngp", "ntk") for i in range(12) for j in range(12)]
    for part in (stored[::-2], stored[-2::-2]):
        catalog.add_tiles(MATRIX, part)
    for batch_rows in (1, 7, 144, 288, 5000):
        assert list(catalog.tiles(MATRIX, batch_rows=batch_rows)) == stored
    assert list(catalog.tiles(MATRIX, "ntk", batch_rows=10)) == stored[144:]
    assert catalog.tile_count(MATRIX) == 288
    assert catalog.tile_count(MATRIX, "nngp") == 144
    assert list(catalog.tiles(mx("other"))) == []


def test_adding_again_overwrites(catalog: Catalog) -> None:
    catalog.add_tiles(MATRIX, [tile(0, 0), tile(0, 1)])
    better = tile(0, 1, seconds=9.0, digest=b"\xff" * 32, nonfinite=3)
    catalog.add_tiles(MATRIX, [tile(2, 2), tile(0, 1), better])
    assert list(catalog.tiles(MATRIX)) == [tile(0, 0), better, tile(2, 2)]


def test_totals(catalog: Catalog) -> None:
    assert catalog.tile_summary(MATRIX) == TileSummary(0, 0, 0, 0.0, None, None)
    catalog.add_tiles(
        MATRIX,
        [
            tile(0, 0, minimum=-3.0, maximum=2.0, stored_bytes=2**40),
            tile(0, 1, minimum=math.nan, maximum=math.nan, nonfinite=16, stored_bytes=2**40),
            tile(1, 1, "nngp", minimum=0.0, maximum=math.inf, nonfinite=1, stored_bytes=7),
        ],
    )
    assert catalog.tile_summary(MATRIX) == TileSummary(
        tiles=3,
        stored_bytes=2**41 + 7,
        nonfinite=17,
        seconds=0.75,
        minimum=-3.0,
        maximum=math.inf,
    )
    assert catalog.tile_summary(MATRIX, "ntk").maximum == 2.0


def test_a_tile_without_finite_values(catalog: Catalog) -> None:
    empty = tile(0, 0, minimum=math.nan, maximum=math.nan, nonfinite=16)
    catalog.add_tiles(MATRIX, [empty])
    assert same(next(catalog.tiles(MATRIX)), empty)
    summary = catalog.tile_summary(MATRIX)
    assert (summary.minimum, summary.maximum, summary.nonfinite) == (None, None, 16)


def test_a_bad_record_stores_nothing(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        catalog.add_tiles(MATRIX, [tile(0, 0), tile(0, 1, digest=bytes(31))])
    assert catalog.tile_count(MATRIX) == 0


def test_no_tiles_without_a_matrix(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError):
        catalog.add_tiles(mx("gone"), [tile(0, 0)])
    with pytest.raises(NotFoundError):
        catalog.delete_tiles(mx("gone"))


def test_after_the_seal_only_repeats_are_accepted(catalog: Catalog) -> None:
    stored = [tile(i, j) for i in range(25) for j in range(25)]
    catalog.add_tiles(MATRIX, stored)
    catalog.seal_matrix(MATRIX, hex_digest("k"), 625_000)
    # A late retry reports the same digest and another duration: nothing to change.
    catalog.add_tiles(MATRIX, [tile(i, j, seconds=99.0) for i in range(25) for j in range(25)])
    for wrong in (tile(24, 24, digest=bytes(32)), tile(25, 0)):
        with pytest.raises(ConflictError, match="sealed") as caught:
            catalog.add_tiles(MATRIX, [*stored[:300], wrong])
        assert (caught.value.details["i"], caught.value.details["j"]) == (wrong.i, wrong.j)
    with pytest.raises(ConflictError, match="sealed"):
        catalog.delete_tiles(MATRIX)
    assert list(catalog.tiles(MATRIX)) == stored


def test_tiles_can_be_forgotten_before_the_seal(catalog: Catalog) -> None:
    catalog.add_tiles(MATRIX, [tile(0, 0), tile(0, 1), tile(0, 0, "nngp")])
    assert catalog.delete_tiles(MATRIX, "ntk") == 2
    assert list(catalog.tiles(MATRIX)) == [tile(0, 0, "nngp")]
    assert catalog.delete_tiles(MATRIX) == 1


def test_iteration_needs_memory_for_a_batch_only(catalog: Catalog) -> None:
    edge = 60
    catalog.add_tiles(MATRIX, [tile(i, j) for i in range(edge) for j in range(edge)])
    list(catalog.tiles(MATRIX, batch_rows=100_000))  # whatever is allocated once, is now
    peaks = []
    for batch_rows in (50, 100_000):
        tracemalloc.start()
        assert sum(1 for _ in catalog.tiles(MATRIX, batch_rows=batch_rows)) == edge * edge
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    bounded, unbounded = peaks
    assert unbounded > 500 * edge * edge / 2, "3600 records at once need megabytes"
    assert bounded < unbounded / 4
