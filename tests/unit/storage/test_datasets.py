"""Data sets: what is accepted, how it is canonicalised, stored, found again, and read."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from storage import datasets
from storage.blobs import BlobStore, LocalBlobs
from storage.errors import (
    ConflictError,
    CorruptChunkError,
    InvalidArrayError,
    InvalidKeyError,
    MissingChunkError,
    NotFoundError,
    TooLargeError,
)
from storage.uploads import UploadLimits
from support.matrices import flip_bit

RNG_SEED = 0


def samples(shape: tuple[int, ...] = (20, 3), dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(RNG_SEED).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("?", "float32"),
        ("i1", "float32"),
        ("u2", "float32"),
        (">i2", "float32"),
        ("f2", "float32"),
        ("f4", "float32"),
        (">f4", "float32"),
        ("i4", "float64"),
        ("u8", "float64"),
        (">f8", "float64"),
    ],
)
def test_samples_are_stored_as_floats(blobs: BlobStore, given: str, stored: str) -> None:
    x = (np.arange(60).reshape(20, 3) % 2).astype(given)
    info = datasets.ingest(blobs, x)
    assert (info.dtype, info.shape, info.targets) == (stored, (20, 3), None)
    found = datasets.read_rows(blobs, info, 0, 20)
    np.testing.assert_array_equal(found, x.astype(stored), strict=True)
    assert datasets.read_targets(blobs, info) is None


@pytest.mark.parametrize(
    ("y", "kind", "dtype"),
    [
        (np.arange(20, dtype=np.uint8), "labels", "int64"),
        (np.arange(20) % 2 == 0, "labels", "int64"),
        (np.linspace(0, 1, 20, dtype=np.float32), "real", "float64"),
        (np.linspace(0, 1, 40).reshape(20, 2), "real", "float64"),
        (np.eye(20, 4, dtype=np.int32), "real", "float64"),
    ],
    ids=["integers", "booleans", "floats", "columns", "one-hot"],
)
def test_targets(blobs: BlobStore, y: np.ndarray, kind: str, dtype: str) -> None:
    info = datasets.ingest(blobs, samples(), y)
    assert info.targets is not None
    assert (info.targets.kind, info.targets.shape) == (kind, y.shape)
    found = datasets.read_targets(blobs, info)
    np.testing.assert_array_equal(found, y.astype(dtype), strict=True)


def test_the_digest_is_the_documented_one(blobs: BlobStore) -> None:
    x, y = samples((20, 2, 3)), np.arange(20)
    header = {
        "samples": {"dtype": "float32", "shape": [20, 2, 3]},
        "targets": {"dtype": "int64", "shape": [20]},
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    expected = hashlib.sha256(text.encode() + b"\n" + x.tobytes() + y.tobytes()).hexdigest()
    info = datasets.ingest(blobs, x, y)
    assert info.digest == expected
    assert info.id == "ds-" + expected[:32]
    assert (info.samples, info.features) == (20, 6)


def test_equal_content_is_one_data_set(blobs: BlobStore) -> None:
    x = samples()
    first = datasets.ingest(blobs, x, np.arange(20))
    before = blobs.newest("datasets")
    for again in (np.asfortranarray(x), x.astype(">f4"), np.stack([x, x])[1]):
        assert datasets.ingest(blobs, again, np.arange(20, dtype=np.int16)) == first
    assert blobs.newest("datasets") == before
    others = {
        datasets.ingest(blobs, x).id,
        datasets.ingest(blobs, x, np.arange(20.0)).id,
        datasets.ingest(blobs, x[:, None]).id,
        datasets.ingest(blobs, x.astype("f8")).id,
    }
    assert len(others | {first.id}) == 5
    assert datasets.list_datasets(blobs) == sorted(others | {first.id})
    assert datasets.load_info(blobs, first.id) == first


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(5), r"x\[:, None\]"),
        (np.zeros(()), "two dimensions"),
        (np.zeros((0, 3)), "empty"),
        (np.zeros((3, 0)), "empty"),
        (np.zeros((1,) * 9), "9 dimensions"),
        (np.array([[1, np.nan]]), r"index \[0, 1\]"),
        (np.array([[1.0], [np.inf]], np.float16), r"index \[1, 0\]"),
        (np.array([["a"]]), "type <U1"),
        (np.array([[1j]]), "type complex128"),
        (np.array([[None]]), "type object"),
        (np.array([[2**53 + 1]]), "beyond"),
        (np.array([[2**63]], np.uint64), "beyond"),
        (np.array([[-(2**53) - 2]]), "beyond"),
    ],
)
def test_bad_samples_are_refused(blobs: BlobStore, x: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidArrayError, match=message):
        datasets.ingest(blobs, x)
    assert list(blobs.list("datasets")) == []


@pytest.mark.parametrize(
    "y",
    [
        np.arange(19),
        np.arange(21),
        np.zeros(()),
        np.zeros((20, 0)),
        np.zeros((20, 2, 2)),
        np.full(20, np.nan),
        np.array(["a"] * 20),
        np.full(20, 2**63, np.uint64),
    ],
)
def test_bad_targets_are_refused(blobs: BlobStore, y: np.ndarray) -> None:
    with pytest.raises(InvalidArrayError):
        datasets.ingest(blobs, samples(), y)
    assert list(blobs.list("datasets")) == []


def test_a_nan_in_the_last_chunk_is_found_before_anything_is_stored(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "CHUNK_BYTES", 64)
    x = samples((100, 3))
    x[97, 1] = np.nan
    with pytest.raises(InvalidArrayError) as caught:
        datasets.ingest(blobs, x)
    assert caught.value.details["index"] == [97, 1]
    assert list(blobs.list("datasets")) == []


def test_the_canonical_size_is_limited(blobs: BlobStore) -> None:
    x = np.zeros((100, 10), np.int32)  # 4000 bytes that become 8000
    with pytest.raises(TooLargeError):
        datasets.ingest(blobs, x, limits=UploadLimits(array_bytes=7999))
    assert datasets.ingest(blobs, x, limits=UploadLimits(array_bytes=8000)).samples == 100


@pytest.mark.parametrize("chunk_bytes", [1, 12, 64, 8 << 20])
def test_rows_across_chunks(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(datasets, "CHUNK_BYTES", chunk_bytes)
    x, y = samples((37, 3)), samples((37, 2), "float64")
    info = datasets.ingest(blobs, x, y)
    monkeypatch.undo()  # reading goes by what was recorded
    for start, stop in [(0, 37), (0, 0), (5, 6), (4, 29), (36, 37), (37, 37)]:
        np.testing.assert_array_equal(datasets.read_rows(blobs, info, start, stop), x[start:stop])
    np.testing.assert_array_equal(datasets.read_targets(blobs, info), y)
    for start, stop in [(-1, 5), (5, 4), (0, 38)]:
        with pytest.raises(ValueError, match="of 37"):
            datasets.read_rows(blobs, info, start, stop)


def test_damage_is_detected(blobs: BlobStore) -> None:
    info = datasets.ingest(blobs, samples(), np.arange(20))
    chunk = f"datasets/{info.id}/samples/c/0/0"
    flip_bit(blobs, chunk)
    with pytest.raises(CorruptChunkError):
        datasets.read_rows(blobs, info, 0, 1)
    blobs.delete(chunk)
    with pytest.raises(MissingChunkError):
        datasets.read_rows(blobs, info, 0, 1)
    blobs.delete(f"datasets/{info.id}/targets/c/0")
    with pytest.raises(MissingChunkError):
        datasets.read_targets(blobs, info)


@dataclass(frozen=True)
class FailingBlobs(LocalBlobs):
    """Stops at the first key that ends in `fails_at`, as a killed process would."""

    fails_at: str = ""

    def put(self, key: str, data: bytes | memoryview) -> None:
        if key.endswith(self.fails_at):
            raise KeyboardInterrupt
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        if key.endswith(self.fails_at):
            raise KeyboardInterrupt
        return super().put_if_absent(key, data)


@pytest.mark.parametrize(
    "fails_at", ["samples/c/1/0", "targets/c/0", "samples/zarr.json", "/zarr.json", "dataset.json"]
)
def test_an_interrupted_ingest_publishes_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    monkeypatch.setattr(datasets, "CHUNK_BYTES", 64)
    blobs = LocalBlobs(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        datasets.ingest(FailingBlobs(tmp_path, fails_at=fails_at), samples(), np.arange(20))
    assert datasets.list_datasets(blobs) == []
    info = datasets.ingest(blobs, samples(), np.arange(20))
    np.testing.assert_array_equal(datasets.read_rows(blobs, info, 0, 20), samples())


def test_input_that_changes_meanwhile_is_not_published(tmp_path: Path) -> None:
    x = samples()

    @dataclass(frozen=True)
    class Meddling(LocalBlobs):
        def put(self, key: str, data: bytes | memoryview) -> None:
            super().put(key, data)
            x[0, 0] += 1

        def size(self, key: str) -> int | None:
            return super().size(key)

        def get(self, key: str, *, start: int | None = None, stop: int | None = None) -> bytes:
            x[5, 0] += 1  # between hashing and storing, ingest looks whether the set is there
            return super().get(key, start=start, stop=stop)

    with pytest.raises(ConflictError):
        datasets.ingest(Meddling(tmp_path), x)
    assert datasets.list_datasets(LocalBlobs(tmp_path)) == []


def test_delete(blobs: BlobStore) -> None:
    info = datasets.ingest(blobs, samples())
    datasets.delete(blobs, info.id)
    datasets.delete(blobs, info.id)
    assert list(blobs.list("datasets")) == []
    with pytest.raises(NotFoundError):
        datasets.load_info(blobs, info.id)
    for action in (datasets.load_info, datasets.delete):
        with pytest.raises(InvalidKeyError):
            action(blobs, "../" + info.id)


def test_memory_and_chunk_size_do_not_grow_with_the_data(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "store")
    path = tmp_path / "x.npy"
    x = np.lib.format.open_memmap(path, "w+", np.float32, (40_000, 784))
    x[:] = np.arange(784, dtype=np.float32)
    x.flush()
    mapped = np.load(path, mmap_mode="r")
    tracemalloc.start()
    try:
        info = datasets.ingest(blobs, mapped)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert mapped.nbytes > 120_000_000
    assert peak_bytes < 5 * datasets.CHUNK_BYTES
    assert 4 << 20 <= info.rows_per_chunk * 784 * 4 <= 8 << 20
