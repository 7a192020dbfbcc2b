"""`verify` finds every kind of damage, and names the chunk to recompute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from storage import matrices
from storage.blobs import BlobStore
from storage.chunks import encode_chunk
from storage.format import MatrixManifest
from storage.verify import verify
from support.matrices import flip_bit, gram_manifest, random_array, sealed_gram, write_all


def chunk_of(manifest: MatrixManifest, chunk: str) -> str:
    return f"matrices/{manifest.id}/ntk/{chunk}"


def truncate(blobs: BlobStore, key: str) -> None:
    blobs.put(key, blobs.get(key)[:-7])


def lose(blobs: BlobStore, key: str) -> None:
    blobs.delete(key)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [(flip_bit, "corrupt-chunk"), (truncate, "corrupt-chunk"), (lose, "missing-chunk")],
)
def test_damaged_chunks_are_named(
    blobs: BlobStore, damage: Callable[[BlobStore, str], None], kind: str
) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40), names=("ntk", "nngp"))
    assert verify(blobs, manifest) == []
    damage(blobs, chunk_of(manifest, "c/1/2"))
    damage(blobs, chunk_of(manifest, "c/0/0"))
    found = {(p.array, p.coordinates, p.kind) for p in verify(blobs, manifest)}
    assert found == {("ntk", (0, 0), kind), ("ntk", (1, 2), kind)}


def test_other_numbers_with_right_checksums_are_found(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (40, 40))
    values = arrays["ntk"][:16, 16:32].copy()
    values[0, 0] += 1
    matrices.write_chunk(blobs, manifest, "ntk", (0, 1), values, repair=True)
    (problem,) = verify(blobs, manifest)
    assert (problem.array, problem.coordinates, problem.kind) == ("ntk", None, "digest-mismatch")


@pytest.mark.parametrize("chunk", [(2, 2), (0, 0)])
def test_wrong_padding_and_asymmetry_are_found(blobs: BlobStore, chunk: tuple[int, int]) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    whole = np.zeros((16, 16), np.float32)
    if chunk == (0, 0):
        whole[0, 1] = 1  # not symmetric; (2, 2) has numbers where the array has none
    key = chunk_of(manifest, f"c/{chunk[0]}/{chunk[1]}")
    blobs.put(key, encode_chunk(whole, manifest.arrays[0]))
    (problem,) = verify(blobs, manifest)
    assert (problem.coordinates, problem.kind) == (chunk, "corrupt-chunk")


def test_an_unsealed_matrix_may_miss_chunks_but_not_hold_damaged_ones(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    write_all(blobs, manifest, {"ntk": random_array((40, 40), symmetric=True)})
    lose(blobs, chunk_of(manifest, "c/0/2"))
    assert verify(blobs, manifest) == []
    flip_bit(blobs, chunk_of(manifest, "c/1/1"))
    (problem,) = verify(blobs, manifest)
    assert problem.coordinates == (1, 1)
