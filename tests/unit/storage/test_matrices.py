"""The life of a stored matrix: create, write, seal, read, repair, delete."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from storage import matrices, open_matrix
from storage.blobs import BlobStore, LocalBlobs
from storage.errors import (
    ConflictError,
    CorruptChunkError,
    InvalidKeyError,
    MissingChunkError,
    NotFoundError,
    NotReadyError,
    UnsupportedFormatError,
)
from storage.format import ArrayLayout, MatrixManifest
from support.matrices import (
    flip_bit,
    gram_manifest,
    panel_manifest,
    random_array,
    sealed_gram,
    write_all,
)


def chunk_of(manifest: MatrixManifest, chunk: str) -> str:
    return f"matrices/{manifest.id}/ntk/{chunk}"


def test_create_is_idempotent_and_keeps_the_first_layout(blobs: BlobStore) -> None:
    first = gram_manifest((40, 40), tile_rows=16)
    matrices.create(blobs, first)
    matrices.create(blobs, replace(first, provenance={"versions": {"jax": "other"}}))
    assert matrices.load_manifest(blobs, first.id) == first
    other_tiles = gram_manifest((40, 40), tile_rows=32)
    assert other_tiles.id == first.id
    with pytest.raises(ConflictError):
        matrices.create(blobs, other_tiles)
    assert matrices.load_manifest(blobs, first.id) == first
    assert matrices.list_matrices(blobs) == [first.id]


@pytest.mark.parametrize(
    "broken",
    [
        {"arrays": ()},
        {"arrays": gram_manifest((40, 40)).arrays * 2},
        {"block_rows": 6},
    ],
)
def test_manifests_that_break_the_format_are_refused(
    blobs: BlobStore, broken: dict[str, object]
) -> None:
    with pytest.raises(ValueError):
        matrices.create(blobs, replace(gram_manifest((40, 40)), **broken))
    assert matrices.list_matrices(blobs) == []


def test_hostile_ids_and_names_reach_no_file(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    for bad in ("../x", "mx-" + "0" * 31, "mx-" + "0" * 32 + "/..", "MX-" + "0" * 32, ""):
        for action in (matrices.load_manifest, matrices.is_sealed, matrices.delete, open_at):
            with pytest.raises(InvalidKeyError):
                action(blobs, bad)
    layout = replace(manifest.arrays[0], name="../ntk")
    with pytest.raises(InvalidKeyError):
        matrices.create(blobs, replace(manifest, arrays=(layout,)))
    matrices.create(blobs, manifest)
    for coords in ((0, 3), (-1, 0), (0,), (0, 0, 0)):
        with pytest.raises(InvalidKeyError):
            matrices.write_chunk(blobs, manifest, "ntk", coords, np.zeros((16, 16), np.float32))
        with pytest.raises(InvalidKeyError):
            matrices.read_chunk(blobs, manifest, "ntk", coords)
    with pytest.raises(NotFoundError):
        matrices.read_chunk(blobs, manifest, "nngp", (0, 0))


def open_at(blobs: BlobStore, matrix_id: str) -> object:
    return open_matrix(blobs.url, matrix_id)


def test_nothing_is_readable_before_sealing(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    with pytest.raises(NotFoundError):
        open_matrix(blobs.url, manifest.id)
    values = random_array((40, 40), symmetric=True)
    digests = write_all(blobs, manifest, {"ntk": values})
    for action in (
        lambda: matrices.read_slice(blobs, manifest, "ntk", slice(0, 1)),
        lambda: matrices.attributes(blobs, manifest.id),
        lambda: open_matrix(blobs.url, manifest.id),
    ):
        with pytest.raises(NotReadyError):
            action()
    matrices.seal(blobs, manifest, digests, {})
    found = matrices.read_slice(blobs, manifest, "ntk", slice(None))
    np.testing.assert_array_equal(found, values)


def test_sealing_needs_every_chunk_at_full_size(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    digests = write_all(blobs, manifest, {"ntk": random_array((40, 40), symmetric=True)})
    assert len(matrices.stored_coords(blobs, manifest, "ntk")) == 6
    key = chunk_of(manifest, "c/1/2")
    whole = blobs.get(key)

    blobs.put(key, whole[:-1])
    assert not matrices.has_chunk(blobs, manifest, "ntk", (1, 2))
    assert (1, 2) not in matrices.stored_coords(blobs, manifest, "ntk")
    with pytest.raises(CorruptChunkError):
        matrices.seal(blobs, manifest, digests, {})
    blobs.delete(key)
    with pytest.raises(MissingChunkError):
        matrices.seal(blobs, manifest, digests, {})
    assert not matrices.is_sealed(blobs, manifest.id)
    blobs.put(key, whole)
    matrices.seal(blobs, manifest, digests, {})
    assert matrices.is_sealed(blobs, manifest.id)


def test_sealing_repeats_and_never_changes(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    digests = write_all(blobs, manifest, {"ntk": random_array((40, 40), symmetric=True)})
    digest = matrices.seal(blobs, manifest, digests, {"note": "first"})
    assert matrices.seal(blobs, manifest, digests, {"note": "second"}) == digest
    assert matrices.attributes(blobs, manifest.id)["note"] == "first"
    with pytest.raises(ConflictError):
        matrices.seal(blobs, manifest, {"ntk": "0" * 64}, {})
    before = blobs.get(chunk_of(manifest, "c/0/1"))
    with pytest.raises(ConflictError):
        matrices.write_chunk(blobs, manifest, "ntk", (0, 1), np.zeros((16, 16), np.float32))
    assert blobs.get(chunk_of(manifest, "c/0/1")) == before


@dataclass(frozen=True)
class FailingBlobs(LocalBlobs):
    """Stops working at the first key that ends in `fails_at`, as a killed process would."""

    fails_at: str = ""

    def put(self, key: str, data: bytes | memoryview) -> None:
        if key.endswith(self.fails_at):
            raise KeyboardInterrupt
        super().put(key, data)


@pytest.mark.parametrize("fails_at", ["nngp/zarr.json", "ntk/zarr.json", "/zarr.json"])
def test_interrupted_sealing_can_be_repeated(tmp_path: Path, fails_at: str) -> None:
    blobs = LocalBlobs(tmp_path)
    manifest = gram_manifest((40, 40), names=("nngp", "ntk"))
    arrays = {name: random_array((40, 40), symmetric=True) for name in ("nngp", "ntk")}
    digests = write_all(blobs, manifest, arrays)
    with pytest.raises(KeyboardInterrupt):
        matrices.seal(FailingBlobs(tmp_path, fails_at=fails_at), manifest, digests, {})
    assert not matrices.is_sealed(blobs, manifest.id)
    with pytest.raises(NotReadyError):
        open_matrix(blobs.url, manifest.id)
    digest = matrices.seal(blobs, manifest, digests, {})
    assert matrices.sealed_digest(blobs, manifest.id) == digest


def test_group_attributes_say_what_the_matrix_is(blobs: BlobStore) -> None:
    provenance = {"kernel": {"preset": "fc"}, "x1": "ds-1", "versions": {"jax": "1"}}
    manifest = gram_manifest((40, 40), provenance=provenance)
    digests = write_all(blobs, manifest, {"ntk": random_array((40, 40), symmetric=True)})
    digest = matrices.seal(blobs, manifest, digests, {"title": "t"})
    found = matrices.attributes(blobs, manifest.id)
    assert found == {
        "title": "t",
        "gramian": {
            "format_version": 1,
            "id": manifest.id,
            "kind": "gram",
            "digest": digest,
            "array_digests": digests,
            "block_rows": 8,
            "provenance": provenance,
        },
    }


def test_mirrored_and_ragged_chunks(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (40, 40))
    for i in range(3):
        for j in range(3):
            chunk = matrices.read_chunk(blobs, manifest, "ntk", (i, j))
            expected = arrays["ntk"][16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
            np.testing.assert_array_equal(chunk, expected, strict=True)
            assert not chunk.flags.writeable
    assert matrices.has_chunk(blobs, manifest, "ntk", (2, 0))
    assert matrices.stored_coords(blobs, manifest, "ntk") == set(
        matrices.all_stored_coords(manifest.arrays[0])
    )


def test_diagonal_chunks_must_be_exactly_symmetric(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    matrices.create(blobs, manifest)
    values = random_array((16, 16), symmetric=True)
    values[3, 5] = np.nextafter(values[3, 5], np.float32(9))
    with pytest.raises(ValueError, match="not exactly symmetric"):
        matrices.write_chunk(blobs, manifest, "ntk", (1, 1), values)
    with pytest.raises(InvalidKeyError, match="mirror"):
        matrices.write_chunk(blobs, manifest, "ntk", (1, 0), values)
    with pytest.raises(ValueError, match="is \\(16, 8\\)"):
        matrices.write_chunk(blobs, manifest, "ntk", (0, 2), values[:, :7])
    assert matrices.stored_coords(blobs, manifest, "ntk") == set()


def test_foreign_files_are_no_chunks(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    matrices.create(blobs, manifest)
    size = 16 * 16 * 4 + 4
    for name in ("c/00/1", "c/2/0", "c/9/9", "c/x", "c/0"):
        blobs.put(f"matrices/{manifest.id}/ntk/{name}", bytes(size))
    assert matrices.stored_coords(blobs, manifest, "ntk") == set()


def test_damage_raises_and_repair_heals(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (40, 40))
    key = chunk_of(manifest, "c/0/1")
    flip_bit(blobs, key)
    for coords in ((0, 1), (1, 0)):
        with pytest.raises(CorruptChunkError):
            matrices.read_chunk(blobs, manifest, "ntk", coords)
    matrices.write_chunk(blobs, manifest, "ntk", (0, 1), arrays["ntk"][:16, 16:32], repair=True)
    np.testing.assert_array_equal(
        matrices.read_slice(blobs, manifest, "ntk", slice(None)), arrays["ntk"]
    )
    blobs.delete(key)
    with pytest.raises(MissingChunkError):
        matrices.read_slice(blobs, manifest, "ntk", slice(20, 21), slice(0, 1))


@dataclass(frozen=True)
class RecordingBlobs(LocalBlobs):
    reads: tuple[list[str], ...] = ([],)

    def get(self, key: str, *, start: int | None = None, stop: int | None = None) -> bytes:
        self.reads[0].append(key)
        return super().get(key, start=start, stop=stop)


def test_a_slice_reads_the_chunks_it_needs_and_no_other(tmp_path: Path) -> None:
    manifest, _ = sealed_gram(LocalBlobs(tmp_path), (80, 80))
    blobs = RecordingBlobs(tmp_path, reads=([],))
    matrices.read_slice(blobs, manifest, "ntk", slice(40, 50), slice(10, 17))
    assert [key.split("/", 2)[2] for key in blobs.reads[0]] == [
        f"ntk/c/{i}/{j}" for i, j in ((0, 2), (1, 2), (0, 3), (1, 3))
    ]


def test_empty_and_strided_slices(blobs: BlobStore) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    assert matrices.read_slice(blobs, manifest, "ntk", slice(5, 5)).shape == (0, 40)
    assert matrices.read_slice(blobs, manifest, "ntk", slice(30, 9), slice(3, 99)).shape == (0, 37)
    for wrong in (slice(0, 9, 2), slice(9, 0, -1)):
        with pytest.raises(ValueError, match="step 1"):
            matrices.read_slice(blobs, manifest, "ntk", wrong)


def test_results_are_stored_in_panels(blobs: BlobStore) -> None:
    shapes: dict[str, tuple[int, ...]] = {"dual": (70, 3), "residuals": (21,)}
    manifest = panel_manifest(shapes)
    arrays = {name: random_array(shape, dtype="float64") for name, shape in shapes.items()}
    matrices.seal(blobs, manifest, write_all(blobs, manifest, arrays), {})
    group = open_matrix(blobs.url, manifest.id)
    for name, values in arrays.items():
        np.testing.assert_array_equal(group[name][...], values)
        found = matrices.read_slice(blobs, manifest, name, slice(5, 19))
        np.testing.assert_array_equal(found, values[5:19])
    found = matrices.read_slice(blobs, manifest, "dual", slice(60, 70), slice(1, 2))
    np.testing.assert_array_equal(found, arrays["dual"][60:, 1:2])
    with pytest.raises(ValueError, match="1 dimension"):
        matrices.read_slice(blobs, manifest, "residuals", slice(0, 1), slice(0, 1))


def test_delete_removes_everything(blobs: BlobStore) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    matrices.delete(blobs, manifest.id)
    matrices.delete(blobs, manifest.id)
    assert list(blobs.list("matrices")) == []
    with pytest.raises(NotFoundError):
        matrices.load_manifest(blobs, manifest.id)


def test_other_format_versions_are_refused(blobs: BlobStore) -> None:
    manifest = gram_manifest((40, 40))
    document = {**manifest.to_json(), "format_version": 2}
    blobs.put(f"matrices/{manifest.id}/manifest.json", json.dumps(document).encode())
    with pytest.raises(UnsupportedFormatError):
        matrices.load_manifest(blobs, manifest.id)


def test_stored_bytes_are_predicted_exactly(blobs: BlobStore) -> None:
    manifest, _ = sealed_gram(blobs, (41, 41), names=("ntk", "nngp"))
    chunks = [size for key, size in blobs.scan("matrices") if "/c/" in key]
    assert sum(chunks) == manifest.stored_bytes
    assert len(chunks) == sum(layout.stored_chunks for layout in manifest.arrays)
    assert isinstance(manifest.arrays[0], ArrayLayout)
