"""LocalBlobs: key safety, atomic publication, sweeping, listing."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import pytest

from storage.blobs import BlobStore, LocalBlobs, open_blobs
from storage.errors import InvalidKeyError, NotFoundError


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
def test_hostile_keys_reach_no_file(local: LocalBlobs, key: str) -> None:
    for action in (
        lambda: local.get(key),
        lambda: local.put(key, b"x"),
        lambda: local.put_if_absent(key, b"x"),
        lambda: local.delete(key),
        lambda: local.delete_prefix(key),
        lambda: local.size(key),
        lambda: list(local.list(key)),
        lambda: list(local.folders(key)),
        lambda: local.path(key),
    ):
        with pytest.raises(InvalidKeyError):
            action()
    assert not local.root.exists()


def test_put_get_ranges_replace_and_delete(local: LocalBlobs) -> None:
    assert isinstance(local, BlobStore)
    local.put("a/b/c", b"0123456789")
    assert local.get("a/b/c") == b"0123456789"
    assert local.get("a/b/c", start=3, stop=5) == b"34"
    assert local.get("a/b/c", start=8) == b"89"
    assert local.get("a/b/c", stop=2) == b"01"
    assert local.size("a/b/c") == 10
    local.put("a/b/c", memoryview(bytearray(b"new")))
    assert local.get("a/b/c") == b"new"
    local.delete("a/b/c")
    local.delete("a/b/c")
    assert local.size("a/b/c") is None
    with pytest.raises(NotFoundError):
        local.get("a/b/c")


@pytest.mark.parametrize("room", [0, 9, 10, 12])
def test_get_into_a_buffer_of_any_size(local: LocalBlobs, room: int) -> None:
    local.put("a", b"0123456789")
    buffer = bytearray(b"-" * room)
    assert local.get_into("a", memoryview(buffer)) == 10
    assert bytes(buffer) == b"0123456789--"[:room]
    with pytest.raises(NotFoundError):
        local.get_into("b", memoryview(buffer))


def test_folders_are_not_blobs(local: LocalBlobs) -> None:
    local.put("a/b", b"x")
    assert local.size("a") is None
    assert local.size("a/b/c") is None
    for key in ("a", "a/b/c"):
        with pytest.raises(NotFoundError):
            local.get(key)


def test_listing_sees_published_blobs_only(local: LocalBlobs) -> None:
    for key in ("m/one/c/0/0", "m/one/zarr.json", "m/two/x", "mm/three"):
        local.put(key, key.encode())
    (local.root / "m" / ".tmp-aa").write_bytes(b"half")
    assert set(local.list("m")) == {"m/one/c/0/0", "m/one/zarr.json", "m/two/x"}
    assert dict(local.scan("m/one")) == {"m/one/c/0/0": 11, "m/one/zarr.json": 15}
    assert sorted(local.folders("m")) == ["one", "two"]
    assert list(local.list("nothing")) == list(local.folders("nothing")) == []


def test_delete_prefix_takes_the_folder_and_nothing_else(local: LocalBlobs) -> None:
    for key in ("m/one/c/0/0", "m/one/zarr.json", "m/one-more/x"):
        local.put(key, b"x")
    local.delete_prefix("m/one")
    local.delete_prefix("m/one")
    assert [p.name for p in (local.root / "m").iterdir()] == ["one-more"]


def test_put_if_absent_lets_one_of_many_threads_win(local: LocalBlobs) -> None:
    start, wins = threading.Barrier(16), []

    def race(number: int) -> None:
        start.wait()
        if local.put_if_absent("folder/key", str(number).encode()):
            wins.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert local.get("folder/key") == str(wins[0]).encode()
    assert [p.name for p in (local.root / "folder").iterdir()] == ["key"]


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


@pytest.mark.parametrize("url", ["s3://bucket/x", "http://host/x", "file://host/x", "file:///x?y"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(InvalidKeyError):
        open_blobs(url)
