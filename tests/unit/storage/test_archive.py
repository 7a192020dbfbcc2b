"""Matrices from one store to another in a file, and files that are not what they seem."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import matrices
from storage.archive import ArchiveBlobs, InvalidArchiveError, pack, unpack
from storage.blobs import BlobStore, open_blobs
from storage.errors import (
    ConflictError,
    MissingChunkError,
    NotFoundError,
    NotReadyError,
    TooLargeError,
    UnsupportedFormatError,
)
from storage.verify import verify
from support.grams import sealed, spd

ROWS = 50


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return spd(ROWS)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return open_blobs(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def matrix(source: BlobStore, values: np.ndarray) -> str:
    return sealed(source, values, tile_rows=32, block_rows=16, provenance={"request": {"a": 1}})


@pytest.fixture(scope="module")
def archive(source: BlobStore, matrix: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "gram.tar"
    pack(source, matrix, path)
    return path


def files(blobs: BlobStore, matrix_id: str) -> dict[str, bytes]:
    return {key: blobs.get(key) for key in blobs.list(f"{matrices.FOLDER}/{matrix_id}")}


def test_a_matrix_arrives_byte_for_byte(
    blobs: BlobStore, source: BlobStore, matrix: str, archive: Path, values: np.ndarray
) -> None:
    seen: list[tuple[int, int]] = []
    manifest, new = unpack(blobs, archive, on_bytes=lambda *counts: seen.append(counts))
    assert (manifest.id, new) == (matrix, True)
    assert files(blobs, matrix) == files(source, matrix)
    assert verify(blobs, manifest) == []
    np.testing.assert_array_equal(matrices.read_slice(blobs, manifest, "ntk", slice(None)), values)
    assert seen[-1] == (manifest.stored_bytes, manifest.stored_bytes)
    assert unpack(blobs, archive) == (manifest, False)  # a second time changes nothing


def test_the_same_matrix_gives_the_same_file(
    source: BlobStore, matrix: str, archive: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.tar"
    pack(source, matrix, again)
    assert again.read_bytes() == archive.read_bytes()


def test_only_what_is_whole_is_exported(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "gram.tar"
    with pytest.raises(NotFoundError):
        pack(blobs, "mx-" + "0" * 32, path)
    with pytest.raises(NotReadyError):
        pack(blobs, sealed(blobs, spd(ROWS), seal=False), path)
    torn = sealed(blobs, spd(ROWS, seed=1), tile_rows=32)
    blobs.delete(f"matrices/{torn}/ntk/c/0/1")
    with pytest.raises(MissingChunkError):
        pack(blobs, torn, path)
    assert list(tmp_path.glob("*gram.tar*")) == []


def test_an_interrupted_import_is_completed_by_the_next(
    blobs: BlobStore, matrix: str, archive: Path
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(blobs, archive, on_bytes=stop)
    assert not matrices.is_sealed(blobs, matrix)
    manifest, new = unpack(blobs, archive)
    assert new
    assert verify(blobs, manifest) == []


def test_other_numbers_under_the_same_id_are_refused(
    blobs: BlobStore, source: BlobStore, matrix: str, archive: Path, values: np.ndarray
) -> None:
    manifest = matrices.load_manifest(source, matrix)
    matrices.create(blobs, manifest)
    digest = matrices.write_array(blobs, manifest, "ntk", values + np.float32(1))
    matrices.seal(blobs, manifest, {"ntk": digest}, {})
    with pytest.raises(ConflictError, match="stored here with digest"):
        unpack(blobs, archive)


def test_a_full_disk_is_noticed_before(
    blobs: BlobStore, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(blobs), "free_bytes", lambda self: 1000)
    with pytest.raises(TooLargeError, match="1000 are free"):
        unpack(blobs, archive)
    assert list(blobs.list("matrices")) == []


Change = Callable[[dict[str, bytes]], None]


def rewritten(archive: Path, path: Path, change: Change) -> Path:
    """A copy of the archive whose members `change` has been at."""
    with ArchiveBlobs(archive) as blobs:
        members = {key: blobs.get(key) for key in blobs.keys}
    change(members)
    with tarfile.open(path, "x") as tar:
        for key, data in members.items():
            member = tarfile.TarInfo(key)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _seal_key(members: dict[str, bytes]) -> str:
    return next(key for key in members if key.count("/") == 2 and key.endswith("zarr.json"))


def _key(members: dict[str, bytes], end: str) -> str:
    return next(key for key in members if key.endswith(end))


def _edit(members: dict[str, bytes], end: str, edit: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    document = json.loads(members[_key(members, end)])
    edit(document)
    members[_key(members, end)] = json.dumps(document).encode()


CHANGES: dict[str, tuple[Change, str]] = {
    "no chunk": (lambda m: m.pop(_key(m, "c/0/1")) and None, "fewer chunks|damaged"),
    "short chunk": (lambda m: m.update({_key(m, "c/0/1"): b"x" * 10}), "damaged"),
    "swapped chunks": (
        lambda m: m.update({_key(m, "c/0/0"): m[_key(m, "c/1/1")]}),
        "damaged",
    ),
    "not sealed": (
        lambda m: (
            m.pop(next(k for k in m if k.count("/") == 2 and k.endswith("zarr.json"))) and None
        ),
        "not sealed",
    ),
    "foreign member": (lambda m: m.update({"matrices/readme": b"hello"}), "no part of"),
    "two matrices": (
        lambda m: m.update({f"matrices/mx-{'1' * 32}/manifest.json": b"{}"}),
        "2 matrices",
    ),
    "empty": (lambda m: m.clear(), "0 matrices"),
    "no JSON": (lambda m: m.update({_key(m, "manifest.json"): b"]"}), "nothing sensible"),
    "no object": (lambda m: m.update({_key(m, "manifest.json"): b"[]"}), "nothing sensible"),
    "huge": (
        lambda m: _edit(m, "manifest.json", lambda d: d["arrays"][0].update(shape=[10**15] * 2)),
        "fewer chunks",
    ),
    "another id": (
        lambda m: _edit(m, "manifest.json", lambda d: d.update(id="mx-" + "1" * 32)),
        "no part of|another matrix",
    ),
    "another provenance": (
        lambda m: _edit(m, "manifest.json", lambda d: d.update(provenance={})),
        "another matrix",
    ),
    "path": (lambda m: m.update({"matrices/../../evil": b"x"}), "not an archive"),
    "absolute path": (lambda m: m.update({"/etc/evil": b"x"}), "not an archive"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_whole_matrix_leaves_no_trace(
    blobs: BlobStore, archive: Path, tmp_path: Path, name: str
) -> None:
    change, message = CHANGES[name]
    path = rewritten(archive, tmp_path / "changed.tar", change)
    with pytest.raises(InvalidArchiveError, match=message):
        unpack(blobs, path)
    assert list(blobs.list("matrices")) == []


def test_a_later_format_is_named(blobs: BlobStore, archive: Path, tmp_path: Path) -> None:
    def later(members: dict[str, bytes]) -> None:
        _edit(members, "manifest.json", lambda d: d.update(format_version=99))

    with pytest.raises(UnsupportedFormatError, match="99"):
        unpack(blobs, rewritten(archive, tmp_path / "later.tar", later))


def test_links_and_missing_files_are_refused(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "link.tar"
    with tarfile.open(path, "x") as tar:
        link = tarfile.TarInfo("matrices/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InvalidArchiveError, match="no plain file"):
        unpack(blobs, path)
    with pytest.raises(InvalidArchiveError, match="cannot be read"):
        unpack(blobs, tmp_path / "absent.tar")


@settings(max_examples=60)
@given(data=st.data())
def test_one_wrong_byte_is_refused_or_means_nothing(
    data: st.DataObject,
    source: BlobStore,
    matrix: str,
    archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Time stamps and padding of the tar format carry nothing; numbers are under their digest."""
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(archive.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    (folder / "gram.tar").write_bytes(content)
    blobs = open_blobs(folder / "store")
    try:
        unpack(blobs, folder / "gram.tar")
    except (InvalidArchiveError, UnsupportedFormatError):
        assert list(blobs.list("matrices")) == []
    else:
        manifest = matrices.load_manifest(blobs, matrix)
        assert verify(blobs, manifest) == []
        assert matrices.sealed_digest(blobs, matrix) == matrices.sealed_digest(source, matrix)
