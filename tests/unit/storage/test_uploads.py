"""Uploaded .npy and .npz files: honest ones of every kind, and attacks."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.errors import GramianError, InvalidArrayError, TooLargeError
from storage.uploads import UploadLimits, read_upload

LIMITS = UploadLimits(file_bytes=1 << 20, array_bytes=1 << 20)
Read = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def read(
        data: bytes, filename: str = "x.npy", limits: UploadLimits = LIMITS
    ) -> dict[str, np.ndarray]:
        path = tmp_path / "upload"
        path.write_bytes(data)
        before = {p for p in tmp_path.rglob("*") if p.parent != scratch}
        try:
            return read_upload(path, filename=filename, limits=limits, scratch=scratch)
        finally:
            assert {p for p in tmp_path.rglob("*") if p.parent != scratch} == before

    return read


def npy(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def raw_npy(header: str | bytes, payload: bytes = b"", version: int = 1) -> bytes:
    text = header if isinstance(header, bytes) else header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + payload


def header(descr: object = "<f4", fortran_order: object = False, shape: object = (2, 2)) -> str:
    return repr({"descr": descr, "fortran_order": fortran_order, "shape": shape})


def npz(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def archive(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


GOOD = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "u1", "<i2", ">i2", "<u4", "<i8", ">u8", "<f2", "<f4", ">f4", "<f8", ">f8"],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_honest_arrays_keep_their_values(read: Read, dtype: str, order: str) -> None:
    values = np.array(np.arange(24).reshape(4, 3, 2) % 2, dtype=dtype, order=order)
    found = read(npy(values))["x"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    assert not found.flags.writeable


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_header_version(read: Read, version: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, GOOD, version=version)
    np.testing.assert_array_equal(read(buffer.getvalue())["x"], GOOD)


@pytest.mark.parametrize("compressed", [False, True])
def test_archives(read: Read, compressed: bool) -> None:
    y = np.array([3, 1, 2, 0])
    found = read(npz(compressed, x=np.asfortranarray(GOOD), y=y), "data.npz")
    assert set(found) == {"x", "y"}
    np.testing.assert_array_equal(found["x"], GOOD)
    np.testing.assert_array_equal(found["y"], y)
    assert set(read(npz(compressed, x=GOOD))) == {"x"}


class Bomb:
    """Unpickling this would create a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("/tmp/gramian-pickle-ran", "w"))


@pytest.mark.parametrize(
    "array",
    [
        np.array([Bomb(), None], dtype=object),
        np.array(["a", "bb"]),
        np.array([b"a"]),
        np.array([1 + 2j]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([3], dtype="m8[s]"),
        np.zeros(2, np.longdouble),
        np.zeros(2, "V8"),
    ],
    ids=["object", "str", "bytes", "complex", "struct", "date", "delta", "longdouble", "void"],
)
@pytest.mark.parametrize("wrap", [npy, lambda a: npz(x=a)], ids=["npy", "npz"])
def test_other_types_are_refused(
    read: Read, array: np.ndarray, wrap: Callable[[np.ndarray], bytes]
) -> None:
    with pytest.raises(InvalidArrayError, match="holds values of type") as caught:
        read(wrap(array))
    assert caught.value.advice
    assert not Path("/tmp/gramian-pickle-ran").exists()


@pytest.mark.parametrize(
    ("shape", "message"),
    [((), "0 dimensions"), ((0, 3), "empty"), ((3, 0), "empty"), ((1,) * 9, "9 dimensions")],
)
def test_strange_shapes_are_refused(read: Read, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidArrayError, match=message):
        read(npy(np.zeros(shape, np.float32)))


def test_truncated_at_every_length(read: Read) -> None:
    whole = npy(GOOD)
    for keep in range(len(whole)):
        with pytest.raises(InvalidArrayError):
            read(whole[:keep])
    with pytest.raises(InvalidArrayError, match="trailing"):
        read(whole + b"\0")


def test_archives_truncated_or_extended_anywhere(read: Read) -> None:
    whole = npz(True, x=GOOD)
    for keep in range(len(whole)):
        with pytest.raises(InvalidArrayError):
            read(whole[:keep])


def test_archives_with_a_byte_missing_or_repeated_anywhere(read: Read) -> None:
    whole = npz(True, x=GOOD, y=np.arange(4))
    for at in range(len(whole)):
        for damaged in (whole[:at] + whole[at + 1 :], whole[: at + 1] + whole[at:]):
            try:
                found = read(damaged, "data.npz")
            except InvalidArrayError:
                continue
            np.testing.assert_array_equal(found["x"], GOOD)  # it was in a place that says nothing


def test_flipped_bytes_in_an_archive_never_pass_silently(read: Read) -> None:
    """Every byte of the compressed data is covered by the archive's own CRC-32."""
    whole = npz(True, x=GOOD)
    start = whole.index(b"x.npy") + len(b"x.npy")
    for position in range(start, whole.index(b"PK\x01\x02")):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        try:
            found = read(bytes(damaged))["x"]
        except GramianError:
            continue
        np.testing.assert_array_equal(found, GOOD)  # an extra field that nothing reads


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"PK",
        b"hello, world",
        b"\x80\x04\x95pickle",
        raw_npy(header(), bytes(16), version=4),
        raw_npy("not a dict", bytes(16)),
        raw_npy("__import__('os').system('touch /tmp/gramian-header-ran')", bytes(16)),
        raw_npy("{" * 5000, bytes(16)),
        raw_npy("(" * 9000, bytes(16)),
        raw_npy("-" * 9000 + "1", bytes(16)),
        raw_npy(header(descr="|O"), bytes(16)),
        raw_npy(header(descr=["<f4"]), bytes(16)),
        raw_npy(header(descr="<f4, <f4"), bytes(16)),
        raw_npy(header(descr="<f4\n"), bytes(16)),
        raw_npy(header(descr=7), bytes(16)),
        raw_npy(header(fortran_order=1), bytes(16)),
        raw_npy(header(shape=[2, 2]), bytes(16)),
        raw_npy(header(shape=(-2, -2)), bytes(16)),
        raw_npy(header(shape=(True, 4)), bytes(4)),
        raw_npy(header(shape=(2.0, 2)), bytes(16)),
        raw_npy("{'descr': '<f4', 'shape': (2, 2)}", bytes(16)),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), 'x': 1}", bytes(16)),
        raw_npy(b"{'descr': '<f4', \xff\xfe}", bytes(16), version=3),
        raw_npy(b"{'a\0': 1}", bytes(16)),
    ],
)
def test_malformed_files_are_refused(read: Read, data: bytes) -> None:
    with pytest.raises(InvalidArrayError):
        read(data)
    assert not Path("/tmp/gramian-header-ran").exists()


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**63, 2), (10**30,), (2**18 + 1,)])
def test_huge_announcements_are_refused_unread(read: Read, shape: tuple[int, ...]) -> None:
    with pytest.raises(TooLargeError) as caught:
        read(raw_npy(header(shape=shape), bytes(16)))
    assert caught.value.details["limit"] == "array_bytes"


def test_size_limits_name_themselves(read: Read) -> None:
    for data, limits, name in [
        (npy(GOOD), replace(LIMITS, file_bytes=100), "file_bytes"),
        (npy(GOOD), replace(LIMITS, array_bytes=47), "array_bytes"),
        (npz(x=GOOD, y=GOOD), replace(LIMITS, array_bytes=300), "array_bytes"),
        (raw_npy(header() + " " * 20_000, bytes(16), version=2), LIMITS, "header_bytes"),
        (raw_npy(b"x", version=2)[:8] + b"\xff\xff\xff\xff", LIMITS, "header_bytes"),
        (archive([(f"{n}.npy", b"") for n in range(9)]), LIMITS, "archive_members"),
        (archive([(letter * 60_000, b"") for letter in "abc"]), LIMITS, "archive_directory_bytes"),
    ]:
        with pytest.raises(TooLargeError) as caught:
            read(data, limits=limits)
        assert caught.value.details["limit"] == name


def test_a_zip_bomb_costs_no_memory_or_disk(read: Read, tmp_path: Path) -> None:
    bomb = archive([("x.npy", raw_npy(header(shape=(1, 1 << 24)), bytes(1 << 26)))])
    assert len(bomb) < 1 << 19
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            read(bomb)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 22
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_zip_bomb_that_lies_about_its_size_is_refused(read: Read, tmp_path: Path) -> None:
    payload = raw_npy(header(shape=(1, 1 << 20)), bytes(1 << 22))
    bomb = bytearray(archive([("x.npy", payload)]))
    directory = bomb.index(b"PK\x01\x02")
    for offset in (22, directory + 24):  # uncompressed size, in both headers
        assert struct.unpack_from("<I", bomb, offset) == (len(payload),)
        struct.pack_into("<I", bomb, offset, 1000)
    with pytest.raises(InvalidArrayError):
        read(bytes(bomb))
    assert sum(p.stat().st_size for p in (tmp_path / "scratch").iterdir()) == 0


@pytest.mark.parametrize(
    "name",
    [
        "../../x.npy",
        "/tmp/x.npy",
        "a/x.npy",
        "x.npy/",
        "..\\x.npy",
        "C:x.npy",
        "X.npy",
        "x",
        "arr_0.npy",
    ],
)
def test_member_names_never_become_paths(read: Read, name: str) -> None:
    with pytest.raises(InvalidArrayError, match="does not know") as caught:
        read(archive([(name, npy(GOOD))]))
    assert "savez" in caught.value.advice


def test_other_archive_tricks_are_refused(read: Read) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = archive([("x.npy", npy(GOOD)), ("x.npy", npy(GOOD))])
    with pytest.raises(InvalidArrayError, match="twice"):
        read(twice)
    with pytest.raises(InvalidArrayError, match="no array called x"):
        read(archive([("y.npy", npy(GOOD))]))
    with pytest.raises(InvalidArrayError, match="compression"):
        read(archive([("x.npy", npy(GOOD))], zipfile.ZIP_LZMA))
    with pytest.raises(InvalidArrayError):
        read(archive([]))
    encrypted = bytearray(archive([("x.npy", npy(GOOD))]))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InvalidArrayError, match="encryption"):
        read(bytes(encrypted))
    with pytest.raises(InvalidArrayError, match="version"):
        read(archive([("x.npy", npz(x=GOOD))]))
    with pytest.raises(InvalidArrayError, match="not a readable"):
        read(archive([("é.npy", npy(GOOD))]).replace("é".encode(), b"\xf7\xf7"))


def test_messages_show_only_the_name_of_the_file(read: Read) -> None:
    with pytest.raises(InvalidArrayError) as caught:
        read(b"nonsense", filename="/home/me/" + "n" * 500 + ".npy")
    assert "/home" not in caught.value.message
    assert len(caught.value.message) < 200
