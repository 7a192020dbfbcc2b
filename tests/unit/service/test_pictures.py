"""Heat maps: which cells a window has, what is in them, and how they are coloured."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from service.pictures import colors, png
from service.pictures.cells import Source, read_cells
from service.pictures.heatmap import Scale, draw, finite_range, scale_for
from service.pictures.window import ReadLimits, fit, flat_shape
from storage import matrices, previews
from storage.blobs import BlobStore
from storage.errors import TooLargeError
from storage.previews import PreviewMissingError
from support.matrices import gram_manifest, panel_manifest, sealed_gram, write_all

LIMITS = ReadLimits(read_bytes=64 << 20, rebuild_bytes=64 << 20, tiles=10_000)


def cell_means(values: np.ndarray, rows: slice, cols: slice, cell: tuple[int, int]) -> np.ndarray:
    return np.array(
        [
            [
                values[i : min(i + cell[0], rows.stop), j : min(j + cell[1], cols.stop)].mean()
                for j in range(cols.start, cols.stop, cell[1])
            ]
            for i in range(rows.start, rows.stop, cell[0])
        ]
    )


@pytest.mark.parametrize("shape", [(333, 333), (200, 333)])
@pytest.mark.parametrize("size", [1, 7, 40, 64, 500])
@pytest.mark.parametrize("window", [(0, 1.0, 0, 1.0), (0.3, 0.7, 0.1, 0.9), (0.5, 0.58, 0.9, 1.0)])
def test_cells_are_means_of_the_entries(
    blobs: BlobStore, shape: tuple[int, int], size: int, window: tuple[float, ...]
) -> None:
    manifest, arrays = sealed_gram(
        blobs, shape, symmetric=shape[0] == shape[1], block_rows=32, tile_rows=64, dtype="float64"
    )
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    layout = manifest.arrays[0]
    rows = slice(int(window[0] * shape[0]), int(window[1] * shape[0]))
    cols = slice(int(window[2] * shape[1]), int(window[3] * shape[1]))
    view = fit(layout, previews.pyramid(layout), rows, cols, size=size, limits=LIMITS)
    assert view.rows.start <= rows.start < rows.stop <= view.rows.stop
    assert view.cols.start <= cols.start < cols.stop <= view.cols.stop
    assert view.cell[0] == view.cell[1]
    assert max(view.shape) <= size + 1  # the window may begin and end inside of cells
    longer = max(rows.stop - rows.start, cols.stop - cols.start)
    if longer <= size:
        assert view.cell == (1, 1)
    found = read_cells(Source(blobs, manifest, layout), view, LIMITS)
    expected = cell_means(arrays["ntk"], view.rows, view.cols, view.cell)
    np.testing.assert_allclose(found.means, expected, rtol=1e-9, atol=1e-12)
    assert found.holes == 0


def test_few_tiles_are_read_for_a_window_and_none_for_an_overview(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (512, 512), block_rows=64, tile_rows=64)
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    layout, whole = manifest.arrays[0], slice(0, 512)
    for coords in matrices.all_stored_coords(layout):  # now reading one would fail
        blobs.delete(matrices.stored_chunk(manifest, layout, coords)[0])
    view = fit(layout, previews.pyramid(layout), whole, whole, size=64, limits=LIMITS)
    found = read_cells(Source(blobs, manifest, layout), view, LIMITS)
    assert (view.level and view.level.cell) == 8
    np.testing.assert_allclose(
        found.means, cell_means(arrays["ntk"], whole, whole, (8, 8)), atol=1e-6
    )


def test_tables_have_cells_of_their_own_shape(blobs: BlobStore) -> None:
    values = np.random.default_rng(0).standard_normal((300, 2, 5))
    manifest = panel_manifest({"curves": values.shape})
    write_all(blobs, manifest, {"curves": values})
    layout = manifest.arrays[0]
    assert flat_shape(layout.shape) == (300, 10)
    view = fit(layout, None, slice(0, 300), slice(0, 10), size=50, limits=LIMITS)
    assert view.cell == (6, 1)
    found = read_cells(Source(blobs, manifest, layout), view, LIMITS)
    expected = cell_means(values.reshape(300, 10), view.rows, view.cols, view.cell)
    np.testing.assert_allclose(found.means, expected, rtol=1e-12)


def test_missing_previews_are_made_again_within_the_limit(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (256, 256), block_rows=64, tile_rows=64)
    layout, whole = manifest.arrays[0], slice(0, 256)
    chunk = 64 * 64 * 4
    limits = ReadLimits(read_bytes=0, rebuild_bytes=3 * chunk, tiles=100)
    view = fit(layout, previews.pyramid(layout), whole, whole, size=32, limits=limits)
    source = Source(blobs, manifest, layout)
    left = []
    for _ in range(3):  # 10 tiles, three at a time
        with pytest.raises(PreviewMissingError) as caught:
            read_cells(source, view, limits)
        left.append(caught.value.details["missing_tiles"])
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == 3
    found = read_cells(source, view, limits)
    np.testing.assert_allclose(
        found.means, cell_means(arrays["ntk"], whole, whole, (8, 8)), atol=1e-6
    )
    assert all(
        previews.is_there(blobs, manifest, "ntk", c) for c in matrices.all_stored_coords(layout)
    )


def test_an_unsealed_array_has_holes_and_no_tile_of_it_is_read(blobs: BlobStore) -> None:
    manifest = gram_manifest((128, 128), block_rows=64, tile_rows=64)
    matrices.create(blobs, manifest)
    values = np.full((64, 64), 3.0, np.float32)
    matrices.write_chunk(blobs, manifest, "ntk", (0, 1), values)
    layout, whole = manifest.arrays[0], slice(0, 128)
    view = fit(
        layout, previews.pyramid(layout), whole, whole, size=512, limits=LIMITS, entries=False
    )
    source = Source(blobs, manifest, layout, sealed=False)
    assert read_cells(source, view, LIMITS).holes == 16 * 16
    previews.write(blobs, manifest, "ntk", (0, 1), values)
    found = read_cells(source, view, LIMITS)
    np.testing.assert_array_equal(found.filled[:8, 8:], True)
    np.testing.assert_array_equal(found.filled[8:, :8], True)  # the mirror
    assert found.holes == 2 * 8 * 8
    np.testing.assert_array_equal(found.means[found.filled], 3.0)
    assert np.isnan(found.means[~found.filled]).all()


def test_windows_over_a_limit_are_refused(blobs: BlobStore) -> None:
    layout = gram_manifest((4096, 4096), block_rows=64, tile_rows=64).arrays[0]
    whole = slice(0, 4096)
    few = ReadLimits(read_bytes=1 << 30, rebuild_bytes=0, tiles=100)
    with pytest.raises(TooLargeError, match="100 tiles"):
        fit(layout, previews.pyramid(layout), whole, whole, size=64, limits=few)
    table = panel_manifest({"scores": (4096, 100)}).arrays[0]
    small = ReadLimits(read_bytes=1 << 20, rebuild_bytes=0, tiles=10_000)
    with pytest.raises(TooLargeError, match="1048576"):
        fit(table, None, whole, slice(0, 100), size=64, limits=small)


def decode_png(data: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Indices, palette and opacity, by an independent reading of the format."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, position = {}, 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        name, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(name + body)
        chunks[name] = body
        position += 12 + length
    assert next(iter(chunks)) == b"IHDR"
    assert list(chunks)[-1] == b"IEND"
    width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, kind) == (8, 3)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert (rows[:, 0] == 0).all()
    palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    return rows[:, 1:], palette, chunks[b"tRNS"]


def test_png_says_what_it_was_given() -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = np.arange(36, dtype=np.uint8).reshape(12, 3)
    found = decode_png(png.encode(indices, palette, b"\x00\x80"))
    np.testing.assert_array_equal(found[0], indices)
    np.testing.assert_array_equal(found[1], palette)
    assert found[2] == b"\x00\x80"


def test_holes_faults_and_numbers_have_different_colours() -> None:
    values = np.array([[0.0, 0.5, 1.0], [np.nan, np.inf, -7.0]])
    filled = np.array([[True, True, True], [False, True, True]])
    drawn = draw(values, filled, Scale(0.0, 1.0), "sequential")
    indices, palette, opacity = decode_png(drawn)
    np.testing.assert_array_equal(indices, [[2, 128, 255], [0, 1, 2]])
    assert opacity == b"\x00"  # the hole is transparent, everything else is not
    assert len(np.unique(palette[1:], axis=0)) == 255
    assert draw(values, filled, Scale(0.0, 1.0), "sequential") == drawn


@pytest.mark.parametrize("value", [0.0, 5.0, 1e308, -3e-320])
def test_equal_numbers_and_extreme_scales(value: float) -> None:
    values = np.array([[value, value]])
    indices, _, _ = decode_png(draw(values, values == values, finite_range(values), "gray"))
    assert indices[0, 0] == indices[0, 1] >= 2
    wide = np.array([[-1.7e308, 0.0, 1.7e308]])
    indices, _, _ = decode_png(draw(wide, wide == wide, finite_range(wide), "gray"))
    np.testing.assert_array_equal(indices, [[2, 128, 255]])


def test_scales() -> None:
    assert finite_range(np.array([np.nan, np.inf])) is None
    found = finite_range(np.array([1.0, np.nan, -0.25, np.inf]))
    assert found == Scale(-0.25, 1.0)
    assert scale_for(found, "diverging") == Scale(-1.0, 1.0)
    assert scale_for(found, "gray") == found
    assert scale_for(None, "diverging") is None


@pytest.mark.parametrize("name", colors.COLOR_MAPS)
def test_colours_are_even_and_on_the_screen(name: colors.ColorMap) -> None:
    path = colors.curve(name, 255)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert steps.min() > 0.9 * steps.max()
    screen = colors.srgb(path)
    assert screen.min() >= 0
    assert screen.max() <= 1
    lightness = path[:, 0]
    if name == "diverging":
        np.testing.assert_allclose(lightness, lightness[::-1], atol=0.02)
        assert lightness.argmax() == 127
    else:
        assert (np.diff(lightness) > 0).all()


def test_oklab_knows_white_black_and_red() -> None:
    """Values from Ottosson's article."""
    known = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.62796, 0.22486, 0.12585]])
    expected = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(colors.srgb(known), expected, atol=2e-3)
