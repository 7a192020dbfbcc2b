"""`verify` finds every kind of damage, and names the chunk to recompute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage import matrices
from storage.blobs import BlobStore
from storage.chunks import encode_chunk
from storage.format import MatrixManifest
from storage.verify import verify
from support.matrices import gram_manifest, random_array, sealed_gram, write_all


def path_of(blobs: BlobStore, manifest: MatrixManifest, chunk: str) -> Path:
    path = blobs.path(f"matrices/{manifest.id}/ntk/{chunk}")
    assert path is not None
    return path


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("damage", "kind"),
    [(flip, "corrupt-chunk"), (truncate, "corrupt-chunk"), (Path.unlink, "missing-chunk")],
)
def test_damaged_chunks_are_named(
    blobs: BlobStore, damage: Callable[[Path], None], kind: str
) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40), names=("ntk", "nngp"))
    assert verify(blobs, manifest) == []
    damage(path_of(blobs, manifest, "c/1/2"))
    damage(path_of(blobs, manifest, "c/0/0"))
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
    path_of(blobs, manifest, f"c/{chunk[0]}/{chunk[1]}").write_bytes(
        encode_chunk(whole, manifest.arrays[0])
    )
    (problem,) = verify(blobs, manifest)
    assert (problem.coordinates, problem.kind) == (chunk, "corrupt-chunk")


def test_an_unsealed_matrix_may_miss_chunks_but_not_hold_damaged_ones(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    write_all(blobs, manifest, {"ntk": random_array((40, 40), symmetric=True)})
    path_of(blobs, manifest, "c/0/2").unlink()
    assert verify(blobs, manifest) == []
    flip(path_of(blobs, manifest, "c/1/1"))
    (problem,) = verify(blobs, manifest)
    assert problem.coordinates == (1, 1)
