"""Chunk bytes: what is refused, what is detected, what padding looks like."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest

from storage.chunks import (
    RunningChecksum,
    decode_chunk,
    decode_values,
    encode_chunk,
    encode_values,
)
from storage.errors import CorruptChunkError
from storage.format import ArrayLayout
from support.matrices import random_array

LAYOUT = ArrayLayout("ntk", (20, 20), (8, 8), "float32")


def test_layout_of_the_bytes() -> None:
    values = random_array((4, 8))
    data = encode_chunk(values, LAYOUT)
    assert len(data) == 8 * 8 * 4 + 4
    assert data[: 4 * 8 * 4] == values.astype("<f4").tobytes()
    assert np.isnan(np.frombuffer(data[4 * 8 * 4 : -4], "<f4")).all()
    assert int.from_bytes(data[-4:], "little") == google_crc32c.value(data[:-4])


@pytest.mark.parametrize(
    "position", ["first", "middle", "padding", "last", "checksum-first", "checksum-last"]
)
@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_detected(position: str, bit: int) -> None:
    data = bytearray(encode_chunk(random_array((4, 8)), LAYOUT))
    where = {
        "first": 0,
        "middle": 65,
        "padding": 200,
        "last": len(data) - 5,
        "checksum-first": len(data) - 4,
        "checksum-last": len(data) - 1,
    }[position]
    data[where] ^= 1 << bit
    with pytest.raises(CorruptChunkError, match="checksum"):
        decode_chunk(bytes(data), LAYOUT, "c/0/0")
    running = RunningChecksum(len(data))
    running.add(memoryview(data))
    with pytest.raises(CorruptChunkError, match="checksum"):
        decode_chunk(bytes(data), LAYOUT, "c/0/0", checksum=running.value)


@pytest.mark.parametrize("cuts", [[], [1], [100, 200], [255, 256, 257], [256], [259]])
def test_a_checksum_in_parts_is_that_of_the_whole(cuts: list[int]) -> None:
    values = random_array((8, 8))
    data = encode_chunk(values, LAYOUT)
    running = RunningChecksum(len(data))
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        running.add(memoryview(data)[start:stop])
    decoded = decode_chunk(data, LAYOUT, "c/0/0", checksum=running.value)
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("keep", [0, 1, 3, 4, 100, 259])
def test_truncation_and_growth_are_detected(keep: int) -> None:
    data = encode_chunk(random_array((8, 8)), LAYOUT)
    for wrong in (data[:keep], data + bytes(keep + 1)):
        with pytest.raises(CorruptChunkError, match="bytes instead of 260"):
            decode_chunk(wrong, LAYOUT, "c/0/0")


def test_big_endian_values_are_stored_little_endian() -> None:
    values = random_array((8, 8))
    assert encode_chunk(values.astype(">f4"), LAYOUT) == encode_chunk(values, LAYOUT)


def test_memory_order_does_not_matter() -> None:
    values = random_array((8, 8))
    assert encode_chunk(np.asfortranarray(values), LAYOUT) == encode_chunk(values, LAYOUT)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((8, 8), np.float64),
        np.zeros((8, 8), np.int32),
        np.zeros((9, 8), np.float32),
        np.zeros(8, np.float32),
    ],
)
def test_other_dtypes_and_shapes_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="values"):
        encode_chunk(values, LAYOUT)


def test_labels_round_trip_with_integer_padding() -> None:
    labels = np.array([3, -1, 2**40], np.int64)
    decoded = decode_values(encode_values(labels, (5,), "int64"), (5,), "int64", "k")
    assert decoded.tolist() == [3, -1, 2**40, -(2**63), -(2**63)]
