"""The digest tree against a literal transcription of its definition, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from blake3 import blake3

from storage.digest import (
    array_digest,
    canonical_json,
    check_blocks,
    matrix_digest,
    tile_digest,
)
from storage.format import ArrayLayout
from support.matrices import digest_in_tiles, gram_manifest, random_array


def node(values: np.ndarray, b: int, level: int, i: int, j: int, symmetric: bool) -> bytes | None:
    """Node (i, j) of a level, top down from the definition in storage/digest.py."""
    if level == 0:
        block = values[i * b : (i + 1) * b, j * b : (j + 1) * b]
        absent = block.size == 0 or (symmetric and i > j)
        return None if absent else blake3(block.astype("<f4").tobytes("C")).digest()
    children = [
        node(values, b, level - 1, 2 * i + di, 2 * j + dj, symmetric)
        for di in (0, 1)
        for dj in (0, 1)
    ]
    if not any(children[1:]):
        return children[0]
    return blake3(b"".join(child or bytes(32) for child in children)).digest()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("edge", [5, 8, 9, 29, 40])
def test_matches_the_definition(edge: int, symmetric: bool) -> None:
    values = random_array((edge, edge), symmetric=symmetric)
    root = node(values, 8, 4, 0, 0, symmetric)  # 8 * 2**4 rows cover every edge tried
    header = {
        "name": "ntk",
        "shape": [edge, edge],
        "dtype": "float32",
        "symmetric": symmetric,
        "block_rows": 8,
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    expected = blake3(text.encode() + b"\n" + root).hexdigest()
    manifest = gram_manifest((edge, edge), symmetric=symmetric, block_rows=8, tile_rows=16)
    assert digest_in_tiles(values, manifest) == expected


def test_a_symmetric_array_and_its_full_copy_differ() -> None:
    values = random_array((40, 40), symmetric=True)
    digests = {
        digest_in_tiles(values, gram_manifest((40, 40), symmetric=symmetric))
        for symmetric in (True, False)
    }
    assert len(digests) == 2


def test_tile_digest_ignores_memory_and_byte_order() -> None:
    values = random_array((20, 12))
    expected = tile_digest(values, block_rows=8)
    assert len(expected) == 32
    assert tile_digest(np.asfortranarray(values), block_rows=8) == expected
    assert tile_digest(values.astype(">f4"), block_rows=8) == expected


def test_incomplete_or_strange_tiles_are_refused() -> None:
    layout = ArrayLayout("ntk", (30, 30), (16, 16), "float32", symmetric=True)
    digest = bytes(range(32))
    complete = [((0, 0), digest), ((0, 1), digest), ((1, 1), digest)]
    assert len(array_digest(layout, reversed(complete), 8)) == 64
    for wrong, message in [
        (complete[:2], "has 3 chunks, 2 were given"),
        ([*complete, ((0, 1), digest)], "twice"),
        ([*complete, ((1, 0), digest)], "no stored chunk"),
        ([*complete, ((0, 2), digest)], "no stored chunk"),
    ]:
        with pytest.raises(ValueError, match=message):
            array_digest(layout, wrong, 8)


def test_matrix_digest_covers_names_and_values() -> None:
    manifest = gram_manifest((30, 30), names=("ntk", "nngp"))
    digests = {"ntk": "a" * 64, "nngp": "b" * 64}
    first = matrix_digest(manifest, digests)
    assert first == matrix_digest(manifest, dict(reversed(digests.items())))
    assert first != matrix_digest(manifest, {"ntk": "b" * 64, "nngp": "a" * 64})
    with pytest.raises(ValueError, match="digests of"):
        matrix_digest(manifest, {"ntk": "a" * 64})


@pytest.mark.parametrize(
    ("shape", "chunk_shape"),
    [((100, 100), (12, 12)), ((100, 100), (24, 24)), ((100, 3), (16, 2)), ((100, 100), (16, 8))],
)
def test_chunks_that_are_no_nodes_are_refused(
    shape: tuple[int, int], chunk_shape: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="chunks of ntk"):
        check_blocks(ArrayLayout("ntk", shape, chunk_shape, "float32"), 8)


def test_canonical_json_has_no_nan() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})
