"""Stores of both kinds: key safety, atomic publication, listing; and what only folders have."""

from __future__ import annotations

import os
import pickle
import threading
import time
from pathlib import Path

import pytest

from storage.blobs import BlobStore, LocalBlobs, open_blobs
from storage.errors import InvalidKeyError, NotFoundError, StoreUnavailableError


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "store")


HOSTILE_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    "..",
    "a/../b",
    "a/..",
    "./a",
    "a/./b",
    ".tmp-0123456789abcdef",
    "a/.hidden",
    "a\\b",
    "a\0b",
    "a\nb",
    "a%2f..%2fb",
    "ключ",
    "a b",
    "x" * 129,
    "/".join("a" * 17),
]


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_hostile_keys_reach_nothing(blobs: BlobStore, key: str) -> None:
    for action in (
        lambda: blobs.get(key),
        lambda: blobs.get_into(key, memoryview(bytearray(1))),
        lambda: blobs.tail(key, 1),
        lambda: blobs.put(key, b"x"),
        lambda: blobs.put_if_absent(key, b"x"),
        lambda: blobs.delete(key),
        lambda: blobs.delete_prefix(key),
        lambda: blobs.size(key),
        lambda: list(blobs.list(key)),
        lambda: list(blobs.folders(key)),
        lambda: blobs.newest(key),
        lambda: blobs.path(key),
    ):
        with pytest.raises(InvalidKeyError):
            action()
    if isinstance(blobs, LocalBlobs):
        assert not blobs.root.exists()


def test_put_get_ranges_replace_and_delete(blobs: BlobStore) -> None:
    assert isinstance(blobs, BlobStore)
    blobs.put("a/b/c", b"0123456789")
    assert blobs.get("a/b/c") == b"0123456789"
    assert blobs.get("a/b/c", start=3, stop=5) == b"34"
    assert blobs.get("a/b/c", start=8) == b"89"
    assert blobs.get("a/b/c", stop=2) == b"01"
    assert blobs.size("a/b/c") == 10
    blobs.put("a/b/c", memoryview(bytearray(b"new")))
    assert blobs.get("a/b/c") == b"new"
    blobs.delete("a/b/c")
    blobs.delete("a/b/c")
    assert blobs.size("a/b/c") is None
    for read in (
        lambda: blobs.get("a/b/c"),
        lambda: blobs.get("a/b/c", start=1, stop=1),
        lambda: blobs.get("a/b/c", start=1),
        lambda: blobs.tail("a/b/c", 1),
    ):
        with pytest.raises(NotFoundError):
            read()


def test_ranges_that_reach_beyond_the_end(blobs: BlobStore) -> None:
    blobs.put("a", b"0123456789")
    blobs.put("empty", b"")
    assert blobs.get("a", start=8, stop=20) == b"89"
    assert blobs.get("a", start=10) == blobs.get("a", start=12, stop=20) == b""
    assert blobs.get("a", start=4, stop=4) == b""
    assert blobs.tail("a", 4) == (10, b"6789")
    assert blobs.tail("a", 40) == (10, b"0123456789")
    assert blobs.get("empty") == blobs.get("empty", stop=3) == b""
    assert blobs.tail("empty", 4) == (0, b"")


@pytest.mark.parametrize("room", [0, 9, 10, 12])
def test_get_into_a_buffer_of_any_size(blobs: BlobStore, room: int) -> None:
    blobs.put("a", b"0123456789")
    buffer = bytearray(b"-" * room)
    assert blobs.get_into("a", memoryview(buffer)) == 10
    assert bytes(buffer) == b"0123456789--"[:room]
    seen: list[bytes] = []
    assert blobs.get_into("a", memoryview(buffer), lambda part: seen.append(bytes(part))) == 10
    assert b"".join(seen) == b"0123456789"[:room]
    with pytest.raises(NotFoundError):
        blobs.get_into("b", memoryview(buffer))


def test_large_blobs_are_seen_in_parts_while_they_are_read(tmp_path: Path) -> None:
    blobs, data = open_blobs(tmp_path), bytes(range(256)) * 6000
    blobs.put("a", data)
    buffer, seen = bytearray(len(data)), []
    blobs.get_into("a", memoryview(buffer), lambda part: seen.append(bytes(part)))
    assert len(seen) > 1
    assert b"".join(seen) == bytes(buffer) == data


def test_folders_are_not_blobs(blobs: BlobStore) -> None:
    blobs.put("a/b", b"x")
    assert blobs.size("a") is None
    assert blobs.size("a/b/c") is None
    for key in ("a", "a/b/c"):
        with pytest.raises(NotFoundError):
            blobs.get(key)


def test_listing_knows_folders_sizes_and_ages(blobs: BlobStore) -> None:
    before = int(time.time()) - 1  # S3 keeps whole seconds
    for key in ("m/one/c/0/0", "m/one/zarr.json", "m/two/x", "mm/three"):
        blobs.put(key, key.encode())
    assert set(blobs.list("m")) == {"m/one/c/0/0", "m/one/zarr.json", "m/two/x"}
    assert dict(blobs.scan("m/one")) == {"m/one/c/0/0": 11, "m/one/zarr.json": 15}
    assert sorted(blobs.folders("m")) == ["one", "two"]
    assert before <= blobs.newest("m") <= time.time() + 1
    assert list(blobs.list("nothing")) == list(blobs.folders("nothing")) == []
    assert blobs.newest("nothing") == 0.0


def test_listing_sees_published_blobs_only(local: LocalBlobs) -> None:
    local.put("m/one/zarr.json", b"whole")
    (local.root / "m" / ".tmp-aa").write_bytes(b"half")
    assert list(local.list("m")) == ["m/one/zarr.json"]


def test_delete_prefix_takes_the_folder_and_nothing_else(blobs: BlobStore) -> None:
    for key in ("m/one/c/0/0", "m/one/zarr.json", "m/one-more/x"):
        blobs.put(key, b"x")
    blobs.delete_prefix("m/one")
    blobs.delete_prefix("m/one")
    assert list(blobs.list("m")) == ["m/one-more/x"]
    assert list(blobs.folders("m")) == ["one-more"]


def test_put_if_absent_lets_one_of_many_threads_win(blobs: BlobStore) -> None:
    start, wins = threading.Barrier(16), []

    def race(number: int) -> None:
        start.wait()
        if blobs.put_if_absent("folder/key", str(number).encode()):
            wins.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert blobs.get("folder/key") == str(wins[0]).encode()
    assert list(blobs.list("folder")) == ["folder/key"]
    if isinstance(blobs, LocalBlobs):
        assert [p.name for p in (blobs.root / "folder").iterdir()] == ["key"]


def test_a_store_that_works_passes_its_check_and_keeps_nothing_of_it(blobs: BlobStore) -> None:
    blobs.put("a", b"x")
    blobs.check()
    assert list(blobs.list("probes")) == []


def test_a_folder_that_cannot_be_written_fails_its_check(
    local: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(StoreUnavailableError, match="No space left"):
        local.check()


def test_a_failing_write_leaves_the_old_blob_and_no_temporary(
    local: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("a/b", b"old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        local.put("a/b", b"new")
    assert local.get("a/b") == b"old"
    assert [p.name for p in (local.root / "a").iterdir()] == ["b"]


def test_sweep_removes_old_temporaries_only(local: LocalBlobs) -> None:
    local.put("a/b", b"kept")
    old, young = local.root / "a" / ".tmp-old", local.root / "a" / ".tmp-young"
    for path in (old, young):
        path.write_bytes(b"half a chunk")
    os.utime(old, (1, 1))
    deleted = local.root / ".tmp-deleted"  # what delete_prefix leaves if it is killed
    (deleted / "c").mkdir(parents=True)
    assert local.sweep_temporary(older_than_seconds=3600) == 1
    assert not old.exists()
    assert young.exists()
    assert deleted.exists()
    assert local.sweep_temporary(older_than_seconds=0) == 2
    assert not young.exists()
    assert not deleted.exists()
    assert local.get("a/b") == b"kept"


def test_a_sweep_of_one_folder_leaves_the_others(local: LocalBlobs) -> None:
    for folder in ("matrices/a", "matrices/b"):
        local.put(f"{folder}/kept", b"kept")
        (local.root / folder / ".tmp-x").write_bytes(b"half a chunk")
    assert local.sweep_temporary(0, "matrices/a") == 1
    assert local.sweep_temporary(0, "matrices/absent") == 0
    assert (local.root / "matrices" / "b" / ".tmp-x").exists()
    assert sorted(local.list("matrices")) == ["matrices/a/kept", "matrices/b/kept"]


@pytest.mark.parametrize("put", ["put", "put_if_absent"])
def test_a_write_that_a_sweep_overtakes_is_made_again(
    local: LocalBlobs, monkeypatch: pytest.MonkeyPatch, put: str
) -> None:
    name = {"put": "replace", "put_if_absent": "link"}[put]
    publish, overtaken = getattr(os, name), []

    def overtake(temporary: Path, target: Path) -> None:
        if not overtaken:
            overtaken.append(local.sweep_temporary(0))
        publish(temporary, target)

    monkeypatch.setattr(os, name, overtake)
    getattr(local, put)("a/b", b"new")
    assert overtaken == [1]
    assert local.get("a/b") == b"new"
    assert [p.name for p in (local.root / "a").iterdir()] == ["b"]


def test_fsync_reaches_the_file_and_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    store = open_blobs(tmp_path / "store", fsync=True)
    store.put("a/b/c", b"x")
    folder = tmp_path / "store" / "a" / "b"
    assert any(Path(name).name.startswith(".tmp-") for name in synced)
    assert {str(folder), str(folder.parent), str(tmp_path / "store")} <= set(synced)
    assert synced[-1] == str(folder)  # after the rename
    synced.clear()
    LocalBlobs(tmp_path / "store").put("a/b/d", b"x")
    assert synced == []


def test_open_blobs_round_trips_and_pickles(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    store = open_blobs(folder)
    store.put("k", b"v")
    assert open_blobs(store.url).get("k") == b"v"
    assert open_blobs(str(folder)).get("k") == b"v"
    assert pickle.loads(pickle.dumps(store)) == store
    assert store.path("k") == folder / "k"
    assert (store.free_bytes() or 0) > 0


@pytest.mark.parametrize("url", ["gs://bucket/x", "http://host/x", "file://host/x", "file:///x?y"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(InvalidKeyError):
        open_blobs(url)
