"""Previews of tiles: what they hold, how little they take, and what they leave alone."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import matrices, previews
from storage.blobs import BlobStore, LocalBlobs
from storage.format import ArrayLayout, DType
from storage.previews import PreviewMissingError, Pyramid, pyramid
from support.matrices import gram_manifest, panel_manifest, random_array, sealed_gram, write_all


def found(layout: ArrayLayout) -> Pyramid:
    result = pyramid(layout)
    assert result is not None
    return result


def layout_of(rows: int, edge: int, *, symmetric: bool = True, dtype: DType = "float32") -> Any:
    return ArrayLayout("ntk", (rows, rows), (edge, edge), dtype, symmetric)


def means(values: np.ndarray, cell: int) -> np.ndarray:
    """Block means the slow way."""
    rows, cols = (-(-n // cell) for n in values.shape)
    return np.array(
        [
            [
                values[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell].mean()
                for j in range(cols)
            ]
            for i in range(rows)
        ]
    )


@pytest.mark.parametrize("edge", [8, 16, 24, 32, 64, 128, 192, 320, 512, 768, 1024, 2048, 4096])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tiles", [1, 2, 30])
def test_previews_take_less_than_four_percent(edge: int, dtype: DType, tiles: int) -> None:
    for symmetric in (True, False):
        layout = layout_of(edge * tiles, edge, symmetric=symmetric, dtype=dtype)
        assert 0 < found(layout).stored_bytes < 0.04 * layout.stored_bytes


def test_what_is_stated_is_what_is_stored(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (300, 300), block_rows=64, tile_rows=128)
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    folder = f"{matrices.FOLDER}/{manifest.id}/{previews.FOLDER}"
    stored = sum(size for _, size in blobs.scan(folder))
    assert stored == found(manifest.arrays[0]).stored_bytes
    assert previews.stored_bytes(manifest) == stored
    one = previews.encode(found(layout_of(2000, 512)), (0, 1), random_array((512, 512)))
    assert len(one) == 19_676  # FORMAT.md says so


@pytest.mark.parametrize("shape", [(128, 128), (40, 128), (128, 3), (37, 61), (1, 1)])
def test_levels_are_means_and_ranges_of_the_chunk(shape: tuple[int, int], blobs: BlobStore) -> None:
    values = random_array(shape, dtype="float64")
    manifest = gram_manifest(shape, symmetric=False, tile_rows=128, dtype="float64")
    previews.write(blobs, manifest, "ntk", (0, 0), values)
    array = found(manifest.arrays[0])
    assert [level.cell for level in array.levels] == [8, 32, 128]
    for level in array.levels:
        planes = previews.read_level(blobs, manifest, array, (0, 0), level)
        np.testing.assert_allclose(planes[0], means(values, level.cell), rtol=1e-12, atol=1e-15)
        if level.planes == 3:
            for i, j in np.ndindex(planes[0].shape):
                c = level.cell
                block = values[i * c : (i + 1) * c, j * c : (j + 1) * c]
                assert (planes[1, i, j], planes[2, i, j]) == (block.min(), block.max())


def test_mirrors_and_the_diagonal_of_symmetric_arrays(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (150, 150), block_rows=64, tile_rows=64)
    values = arrays["ntk"]
    previews.write_array(blobs, manifest, "ntk", values)
    array = found(manifest.arrays[0])
    for i in range(3):
        for j in range(3):
            part = values[i * 64 : (i + 1) * 64, j * 64 : (j + 1) * 64].astype(np.float64)
            stored = previews.read_level(blobs, manifest, array, (i, j), array.levels[0])[0]
            np.testing.assert_allclose(stored, means(part, 8), rtol=1e-5, atol=1e-6)
    diagonal = [previews.read_diagonal(blobs, manifest, array, i) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(diagonal), np.diagonal(values))


def test_cells_with_entries_that_are_not_finite_say_so(blobs: BlobStore) -> None:
    values = np.ones((64, 64), np.float32)
    values[9, 3], values[40, 40], values[41, 41] = np.nan, np.inf, -np.inf
    manifest = gram_manifest((64, 64), symmetric=False, tile_rows=64)
    previews.write(blobs, manifest, "ntk", (0, 0), values)
    array = found(manifest.arrays[0])
    fine, coarse = (previews.read_level(blobs, manifest, array, (0, 0), k) for k in array.levels)
    bad = {(int(i), int(j)) for i, j in np.argwhere(~np.isfinite(fine[0]))}
    assert bad == {(1, 0), (5, 5)}
    np.testing.assert_array_equal(np.isfinite(coarse).all(axis=0), [[False, True], [True, False]])


def test_arrays_of_whole_rows_and_tiny_chunks_have_none(blobs: BlobStore) -> None:
    tall = panel_manifest({"dual": (50, 3)})
    assert pyramid(tall.arrays[0]) is None
    assert pyramid(layout_of(9, 4)) is None
    write_all(blobs, tall, {"dual": np.ones((50, 3))})
    previews.write_array(blobs, tall, "dual", np.ones((50, 3)))
    assert not list(blobs.list(f"{matrices.FOLDER}/{tall.id}/{previews.FOLDER}"))


def test_digest_reader_and_deletion_do_not_see_them(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (70, 70))
    digest = matrices.sealed_digest(blobs, manifest.id)
    assert all(not previews.is_there(blobs, manifest, "ntk", (0, j)) for j in range(5))
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    assert all(previews.is_there(blobs, manifest, "ntk", (0, j)) for j in range(5))
    assert matrices.sealed_digest(blobs, manifest.id) == digest
    assert matrices.stored_coords(blobs, manifest, "ntk") == set(
        matrices.all_stored_coords(manifest.arrays[0])
    )
    matrices.delete(blobs, manifest.id)
    assert list(blobs.list(matrices.FOLDER)) == []


@pytest.mark.parametrize("damage", ["missing", "short", "flipped"])
def test_damage_is_noticed(blobs: BlobStore, damage: str) -> None:
    manifest, arrays = sealed_gram(blobs, (70, 70), tile_rows=64)
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    array, key = found(manifest.arrays[0]), previews.key(manifest, "ntk", (0, 0))
    data = blobs.get(key)
    if damage == "missing":
        blobs.delete(key)
    elif damage == "short":
        blobs.put(key, data[:10])
    else:
        blobs.put(key, bytes([data[0] ^ 1]) + data[1:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PreviewMissingError):
        previews.read_level(blobs, manifest, array, (0, 0), array.levels[0])
    with pytest.raises(PreviewMissingError):
        previews.read_diagonal(blobs, manifest, array, 0)


@dataclass(frozen=True)
class FullForPreviews(LocalBlobs):
    """A disk that fills up right after a chunk."""

    def put(self, key: str, data: bytes | memoryview) -> None:
        if previews.FOLDER in key:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().put(key, data)


def test_a_full_disk_is_told_and_does_not_raise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = gram_manifest((16, 16))
    with caplog.at_level(logging.WARNING):
        kept = previews.write(
            FullForPreviews(tmp_path), manifest, "ntk", (0, 0), random_array((16, 16))
        )
    assert not kept
    assert manifest.id in caplog.text
    assert "No space left" in caplog.text
