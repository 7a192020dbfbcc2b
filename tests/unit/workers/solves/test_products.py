"""Products of tiles: against dense products, padding, holding, reading ahead, stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from storage.blobs import open_blobs
from storage.errors import CorruptChunkError
from storage.format import ArrayLayout
from support.matrices import sealed_gram
from workers.solves import products, skinny
from workers.solves.errors import SolveInterrupted
from workers.solves.products import HeldTiles, multiply_tiles
from workers.solves.source import ArrayTiles, StoredTiles, Tile, row_panel, tiles_between


@dataclass
class CountingTiles:
    inner: ArrayTiles
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def layout(self) -> ArrayLayout:
        return self.inner.layout

    def read(self, tile: Tile, buffer: memoryview | None = None) -> Any:
        self.reads.append((tile.i, tile.j))
        return self.inner.read(tile, buffer)


def symmetric(rows: int, dtype: str = "float32") -> np.ndarray:
    a = np.random.default_rng(0).standard_normal((rows, rows)).astype(dtype)
    return a + a.T


def all_tiles(source: Any) -> list[Tile]:
    return list(tiles_between(source.layout, 0, source.layout.stored_chunks))


@pytest.mark.parametrize("columns", [1, 10, 16, 17])
@pytest.mark.parametrize("precise", [True, False])
def test_symmetric_product(columns: int, precise: bool) -> None:
    k = symmetric(100)
    v = np.random.default_rng(1).standard_normal((100, columns))
    source = ArrayTiles(k, 32)
    part = multiply_tiles(source, all_tiles(source), v, precise=precise)
    exact = k.astype(np.float64) @ v
    assert part.values.dtype == np.float64
    bound = 1e-13 if precise else 3e-6
    assert np.abs(part.values - exact).max() <= bound * np.abs(exact).max()
    if not precise:  # it really was a float32 product
        assert np.abs(part.values - exact).max() > 1e-10 * np.abs(exact).max()


def test_float64_matrices_are_multiplied_in_float64() -> None:
    k = symmetric(70, "float64")
    v = np.random.default_rng(1).standard_normal((70, 3))
    source = ArrayTiles(k, 32)
    part = multiply_tiles(source, all_tiles(source), v, precise=False)
    np.testing.assert_allclose(part.values, k @ v, rtol=1e-12)


def test_rectangular_product() -> None:
    k = np.random.default_rng(0).standard_normal((40, 90)).astype(np.float32)
    v = np.random.default_rng(1).standard_normal((90, 3))
    source = ArrayTiles(k, 32, symmetric=False)
    part = multiply_tiles(source, all_tiles(source), v, precise=True)
    np.testing.assert_allclose(part.values, k.astype(np.float64) @ v, rtol=1e-12)


def test_parts_add_up_and_say_which_rows_they_cover() -> None:
    k = symmetric(100, "float64")
    v = np.random.default_rng(1).standard_normal((100, 4))
    source = ArrayTiles(k, 20)
    total = np.zeros((100, 4))
    for start, stop in [(0, 4), (4, 5), (5, 5), (5, 15)]:
        part = multiply_tiles(source, tiles_between(source.layout, start, stop), v, precise=False)
        total[part.row_start : part.row_start + len(part.values)] += part.values
    np.testing.assert_allclose(total, k @ v, rtol=1e-12)
    last = multiply_tiles(source, tiles_between(source.layout, 14, 15), v, precise=False)
    assert (last.row_start, len(last.values)) == (80, 20)


def test_streaming_reads_each_tile_once_per_application() -> None:
    source = CountingTiles(ArrayTiles(symmetric(100), 32))
    part = multiply_tiles(source, all_tiles(source), np.ones((100, 2)), precise=True)
    assert sorted(source.reads) == [(i, j) for i in range(4) for j in range(i, 4)]
    # Upper-triangle tiles only: 36 of 100 rows are in each full tile row (edges clipped).
    assert part.bytes_read == 4 * sum(
        (t.rows.stop - t.rows.start) * (t.cols.stop - t.cols.start) for t in all_tiles(source)
    )


@pytest.mark.parametrize("hold", [False, True])
def test_stored_tiles_are_read_into_buffers_that_are_used_again(tmp_path: Path, hold: bool) -> None:
    blobs = open_blobs(tmp_path)
    manifest, arrays = sealed_gram(blobs, (100, 100), tile_rows=16)
    source = StoredTiles(blobs.url, manifest, "ntk")
    v = np.random.default_rng(1).standard_normal((100, 3))
    held = HeldTiles() if hold else None
    for _ in range(2):
        part = multiply_tiles(source, all_tiles(source), v, precise=False, held=held)
        np.testing.assert_allclose(part.values, arrays["ntk"] @ v, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data[1:]]
)
def test_damaged_tiles_are_never_multiplied(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    blobs = open_blobs(tmp_path)
    manifest, _ = sealed_gram(blobs, (100, 100), tile_rows=16)
    key = f"matrices/{manifest.id}/ntk/c/2/4"
    blobs.put(key, damage(blobs.get(key)))
    source = StoredTiles(blobs.url, manifest, "ntk")
    with pytest.raises(CorruptChunkError, match="c/2/4"):
        multiply_tiles(source, all_tiles(source), np.ones((100, 1)), precise=False)


def test_held_tiles_are_read_once_ever() -> None:
    source = CountingTiles(ArrayTiles(symmetric(100), 32))
    held = HeldTiles()
    first = multiply_tiles(source, all_tiles(source), np.ones((100, 2)), precise=False, held=held)
    again = multiply_tiles(source, all_tiles(source), np.ones((100, 2)), precise=False, held=held)
    precise = multiply_tiles(source, all_tiles(source), np.ones((100, 2)), precise=True, held=held)
    assert len(source.reads) == len(held) == 10
    assert again.bytes_read == precise.bytes_read == 0
    np.testing.assert_array_equal(first.values, again.values)


def test_tiles_held_by_an_accelerator_give_the_bits_of_streamed_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (products, skinny):  # XLA runs on this CPU instead
        monkeypatch.setattr(module, "on_accelerator", lambda: True)
    k, v = symmetric(100), np.random.default_rng(1).standard_normal((100, 3))
    source, held = ArrayTiles(k, 32), HeldTiles()
    streamed = multiply_tiles(source, all_tiles(source), v, precise=False)
    for _ in range(2):
        part = multiply_tiles(source, all_tiles(source), v, precise=False, held=held)
        np.testing.assert_array_equal(part.values, streamed.values)
    assert isinstance(held.get(all_tiles(source)[0]), jax.Array)
    exact = k.astype(np.float64) @ v
    assert np.abs(streamed.values - exact).max() <= 3e-6 * np.abs(exact).max()


def test_stops_between_tiles_and_stops_reading() -> None:
    source = CountingTiles(ArrayTiles(symmetric(320), 32))
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise SolveInterrupted

    with pytest.raises(SolveInterrupted):
        multiply_tiles(source, all_tiles(source), np.ones((320, 1)), precise=True, check_stop=stop)
    assert len(source.reads) <= 6  # three used, two ahead, one in flight


def test_read_errors_reach_the_caller() -> None:
    class Broken(CountingTiles):
        def read(self, tile: Tile, buffer: memoryview | None = None) -> Any:
            raise OSError("disk is gone")

    source = Broken(ArrayTiles(symmetric(64), 32))
    with pytest.raises(OSError, match="disk is gone"):
        multiply_tiles(source, all_tiles(source), np.ones((64, 1)), precise=True)


def test_row_panel_of_a_symmetric_matrix_uses_stored_mirrors() -> None:
    layout = ArrayTiles(symmetric(100), 32).layout
    assert [(t.i, t.j) for t in row_panel(layout, 2)] == [(0, 2), (1, 2), (2, 2), (2, 3)]
