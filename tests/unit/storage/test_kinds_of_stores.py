"""Data sets, archives, and the bytes behind Zarr keys are the same in every kind of store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage import datasets, matrices
from storage.archive import pack, unpack
from storage.blobs import BlobStore, LocalBlobs
from storage.errors import CorruptChunkError, MissingChunkError
from storage.reader import StoredObject, resolve
from support.matrices import flip_bit, sealed_gram


def test_data_sets(blobs: BlobStore, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    info = datasets.ingest(blobs, x, np.arange(50))
    assert info.id == datasets.ingest(LocalBlobs(tmp_path / "other"), x, np.arange(50)).id
    np.testing.assert_array_equal(datasets.read_rows(blobs, info, 7, 31), x[7:31])
    np.testing.assert_array_equal(datasets.read_targets(blobs, info), np.arange(50))
    chunk = f"datasets/{info.id}/samples/c/0/0"
    flip_bit(blobs, chunk)
    with pytest.raises(CorruptChunkError):
        datasets.read_rows(blobs, info, 0, 1)
    blobs.delete(chunk)
    with pytest.raises(MissingChunkError):
        datasets.read_rows(blobs, info, 0, 1)
    datasets.delete(blobs, info.id)
    assert datasets.list_datasets(blobs) == list(blobs.list("datasets")) == []


def test_matrices_move_between_stores(blobs: BlobStore, tmp_path: Path) -> None:
    other = LocalBlobs(tmp_path / "other")
    manifest, _ = sealed_gram(other, (40, 40))
    pack(other, manifest.id, tmp_path / "there.tar")
    assert unpack(blobs, tmp_path / "there.tar") == (manifest, True)
    pack(blobs, manifest.id, tmp_path / "back.tar")
    assert (tmp_path / "back.tar").read_bytes() == (tmp_path / "there.tar").read_bytes()
    assert matrices.list_matrices(blobs) == [manifest.id]


def test_what_answers_zarr_keys(blobs: BlobStore, tmp_path: Path) -> None:
    other = LocalBlobs(tmp_path / "other")
    manifest, _ = sealed_gram(other, (40, 40))
    sealed_gram(blobs, (40, 40))

    def answer(store: BlobStore, key: str) -> tuple[bytes, str]:
        found: StoredObject = resolve(store, manifest, key)
        assert found.complete
        return (store.get(found.key) if found.data is None else found.data), found.etag

    for key in ("zarr.json", "ntk/zarr.json", "ntk/c/0/1", "ntk/c/2/1"):
        assert answer(blobs, key) == answer(other, key)
    assert not resolve(blobs, manifest, "ntk/c/2/1", body=False).complete
    blobs.delete(f"matrices/{manifest.id}/ntk/c/0/1")
    for key in ("ntk/c/0/1", "ntk/c/1/0"):
        with pytest.raises(MissingChunkError):
            resolve(blobs, manifest, key, body=False)
