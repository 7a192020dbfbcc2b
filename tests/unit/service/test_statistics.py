"""Statistics of large arrays, from previews."""

from __future__ import annotations

import numpy as np
import pytest

from service.pictures import statistics as module
from service.pictures.cells import Source
from service.pictures.statistics import statistics
from service.pictures.window import ReadLimits
from storage import matrices, previews
from storage.blobs import BlobStore
from storage.catalog.records import TileSummary
from storage.errors import TooLargeError
from support.matrices import sealed_gram

LIMITS = ReadLimits(read_bytes=64 << 20, rebuild_bytes=64 << 20, tiles=100)


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ENTRIES_BYTES", 0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_previews_tell_range_histogram_and_diagonal(blobs: BlobStore, symmetric: bool) -> None:
    manifest, arrays = sealed_gram(
        blobs, (300, 300), symmetric=symmetric, block_rows=64, tile_rows=64, dtype="float64"
    )
    values, layout = arrays["ntk"], manifest.arrays[0]
    previews.write_array(blobs, manifest, "ntk", values)
    if symmetric:  # reading a tile would fail
        for coords in matrices.all_stored_coords(layout):
            blobs.delete(matrices.stored_chunk(manifest, layout, coords)[0])
    found = statistics(Source(blobs, manifest, layout), LIMITS, None)
    assert (found["minimum"], found["maximum"]) == (values.min(), values.max())
    assert (found["range_of"], found["nonfinite"]) == ("previews of all tiles", None)
    means = np.array(
        [[values[i : i + 8, j : j + 8].mean() for j in range(0, 300, 8)] for i in range(0, 300, 8)]
    )
    expected, edges = np.histogram(means, 64, range=(values.min(), values.max()))
    np.testing.assert_allclose(found["histogram"]["edges"], edges)
    assert sum(found["histogram"]["counts"]) == means.size
    assert abs(np.array(found["histogram"]["counts"]) - expected).sum() <= 4
    assert found["histogram"]["of"] == "means of 8 x 8 entries"
    diagonal = np.diagonal(values)
    assert found["diagonal"]["trace"] == pytest.approx(diagonal.sum())
    assert found["diagonal"]["rows_per_value"] == 2
    np.testing.assert_allclose(found["diagonal"]["values"], diagonal.reshape(150, 2).mean(axis=1))


def test_records_of_all_tiles_are_believed(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (100, 100), block_rows=64, tile_rows=64)
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    recorded = TileSummary(
        tiles=3, stored_bytes=1, nonfinite=0, seconds=1.5, minimum=-9.0, maximum=9.0
    )
    found = statistics(Source(blobs, manifest, manifest.arrays[0]), LIMITS, recorded)
    assert (found["minimum"], found["maximum"], found["nonfinite"]) == (-9.0, 9.0, 0)
    assert found["tiles"] == {"count": 3, "seconds": 1.5}
    assert (found["histogram"]["edges"][0], found["histogram"]["edges"][-1]) == (-9.0, 9.0)


def test_a_coarser_level_is_taken_when_the_finest_is_too_much(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (256, 256), block_rows=128, tile_rows=128)
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    source = Source(blobs, manifest, manifest.arrays[0])
    few = ReadLimits(read_bytes=1000, rebuild_bytes=0, tiles=100)
    assert statistics(source, few, None)["histogram"]["cell"] == 32
    with pytest.raises(TooLargeError, match="3 tiles"):
        statistics(source, ReadLimits(read_bytes=1000, rebuild_bytes=0, tiles=2), None)


def test_numbers_that_are_not_finite_are_left_out(blobs: BlobStore) -> None:
    manifest, _ = sealed_gram(blobs, (100, 100), symmetric=False, block_rows=64, tile_rows=64)
    layout, values = manifest.arrays[0], np.full((64, 64), np.nan, np.float32)
    values[:32] = 2.0
    for coords in matrices.all_stored_coords(layout):
        extent = tuple(slice(0, part.stop - part.start) for part in layout.chunk_extent(coords))
        part = values[extent] if coords == (0, 0) else np.full_like(values[extent], np.nan)
        matrices.write_chunk(blobs, manifest, "ntk", coords, part, repair=True)
    found = statistics(Source(blobs, manifest, layout), LIMITS, None)
    assert (found["minimum"], found["maximum"]) == (2.0, 2.0)
    assert sum(found["histogram"]["counts"]) == 4 * 8
    assert found["diagonal"]["trace"] is None
    assert found["diagonal"]["mean"] == 2.0
    assert found["diagonal"]["values"][-1] is None
