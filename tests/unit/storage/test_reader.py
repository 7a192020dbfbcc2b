"""Answers to zarr keys over HTTP: what is passed through, built, refused, or an error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from storage import matrices
from storage.blobs import BlobStore, LocalBlobs
from storage.chunks import decode_chunk
from storage.errors import (
    CorruptChunkError,
    InvalidKeyError,
    MissingChunkError,
    NotFoundError,
    NotReadyError,
)
from storage.reader import resolve
from support.matrices import flip_bit, gram_manifest, sealed_gram


@dataclass(frozen=True)
class CountingBlobs(LocalBlobs):
    """Counts the bytes that are read, and those read from the ends of chunks."""

    count: tuple[list[int], ...] = ([],)

    def get(self, key: str, *, start: int | None = None, stop: int | None = None) -> bytes:
        data = super().get(key, start=start, stop=stop)
        self.count[0].append(len(data))
        return data

    def tail(self, key: str, count: int) -> tuple[int, bytes]:
        size, data = super().tail(key, count)
        self.count[0].append(len(data))
        return size, data


def test_stored_chunks_pass_through_unread(tmp_path: Path) -> None:
    manifest, _ = sealed_gram(LocalBlobs(tmp_path), (40, 40))
    blobs = CountingBlobs(tmp_path, count=([],))
    found = resolve(blobs, manifest, "ntk/c/0/1")
    assert blobs.count[0] == [4]
    assert found.data is None
    assert found.path is not None
    assert found.size == found.path.stat().st_size == 16 * 16 * 4 + 4
    assert found.media_type == "application/octet-stream"
    assert found.immutable


def test_mirrored_chunks_are_transposed(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (40, 40))
    found = resolve(blobs, manifest, "ntk/c/2/1")
    assert found.path is None
    assert found.data is not None
    assert found.size == len(found.data)
    chunk = decode_chunk(found.data, manifest.arrays[0], "mirror")
    np.testing.assert_array_equal(chunk[:8], arrays["ntk"][32:40, 16:32])
    assert np.isnan(chunk[8:]).all()


def test_asking_without_a_body_decodes_nothing(tmp_path: Path) -> None:
    manifest, _ = sealed_gram(LocalBlobs(tmp_path), (40, 40))
    blobs = CountingBlobs(tmp_path, count=([],))
    head = resolve(blobs, manifest, "ntk/c/2/1", body=False)
    assert blobs.count[0] == [4]
    assert head.data is None
    full = resolve(blobs, manifest, "ntk/c/2/1")
    assert (head.etag, head.size) == (full.etag, full.size)


def test_etags_tell_contents_apart(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (40, 40), names=("ntk", "nngp"))
    keys = [f"{name}/c/{i}/{j}" for name in arrays for i in range(3) for j in range(3)]
    keys += ["zarr.json", "ntk/zarr.json", "nngp/zarr.json"]
    etags = [resolve(blobs, manifest, key, body=False).etag for key in keys]
    assert len(set(etags)) == len(keys)
    assert all(tag.startswith('"') and tag.endswith('"') for tag in etags)
    assert etags == [resolve(blobs, manifest, key).etag for key in keys]
    matrices.delete(blobs, manifest.id)
    sealed_gram(blobs, (40, 40), names=("ntk", "nngp"), seed=5)
    assert not set(etags) & {resolve(blobs, manifest, key).etag for key in keys}


def test_metadata_describes_the_whole_array(blobs: BlobStore) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40), names=("ntk", "nngp"))
    group = resolve(blobs, manifest, "zarr.json")
    assert group.media_type == "application/json"
    assert group.data is not None
    document = json.loads(group.data)
    assert set(document["consolidated_metadata"]["metadata"]) == {"ntk", "nngp"}
    array = resolve(blobs, manifest, "ntk/zarr.json")
    assert array.data is not None
    described = json.loads(array.data)
    assert described == document["consolidated_metadata"]["metadata"]["ntk"]
    assert described["shape"] == [40, 40]
    assert described["fill_value"] == "NaN"
    assert [codec["name"] for codec in described["codecs"]] == ["bytes", "crc32c"]


@pytest.mark.parametrize(
    "key",
    [
        ".zarray",
        ".zgroup",
        ".zattrs",
        ".zmetadata",
        "ntk/.zarray",
        "ntk/.zattrs",
        "nngp/zarr.json",
        "nngp/c/0/0",
        "c/zarr.json",
        "c/0/0",  # a chunk of an array at the root, which is a group
    ],
)
def test_probes_are_not_found(blobs: BlobStore, key: str) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    with pytest.raises(NotFoundError):
        resolve(blobs, manifest, key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ntk",
        "manifest.json",
        "/zarr.json",
        "zarr.json/",
        "ntk//zarr.json",
        "ntk/c",
        "ntk/c/0",
        "ntk/c/0/0/0",
        "ntk/c/00/0",
        "ntk/c/+1/0",
        "ntk/c/-1/0",
        "ntk/c/3/0",
        "ntk/c/0/0\n",
        "ntk/c/0%2f0",
        "ntk/../manifest.json",
        "../zarr.json",
        "../../datasets/x",
        "NTK/zarr.json",
        "ntk\0/zarr.json",
        "ntk/C/0/0",
    ],
)
def test_other_spellings_are_refused(blobs: BlobStore, key: str) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    with pytest.raises(InvalidKeyError):
        resolve(blobs, manifest, key)


@pytest.mark.parametrize("key", ["zarr.json", "ntk/zarr.json", "ntk/c/0/0", ".zgroup"])
def test_an_unsealed_matrix_is_not_ready(blobs: BlobStore, key: str) -> None:
    manifest = gram_manifest((40, 40))
    matrices.create(blobs, manifest)
    with pytest.raises(NotReadyError):
        resolve(blobs, manifest, key)


@pytest.mark.parametrize("key", ["ntk/c/0/1", "ntk/c/1/0"])
def test_lost_and_damaged_chunks_are_never_not_found(blobs: BlobStore, key: str) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    chunk = f"matrices/{manifest.id}/ntk/c/0/1"
    blobs.put(chunk, blobs.get(chunk)[:-1])
    with pytest.raises(CorruptChunkError):
        resolve(blobs, manifest, key, body=False)
    blobs.delete(chunk)
    with pytest.raises(MissingChunkError):
        resolve(blobs, manifest, key, body=False)


def test_a_damaged_chunk_is_not_mirrored(blobs: BlobStore) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    flip_bit(blobs, f"matrices/{manifest.id}/ntk/c/0/1")
    with pytest.raises(CorruptChunkError):
        resolve(blobs, manifest, "ntk/c/1/0")
