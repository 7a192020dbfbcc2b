"""Arrays from files that strangers upload: `.npy` and `.npz`, never pickle.

Nothing here believes what a file says about itself: header and archive sizes are bounded before
they are read, a `.npy` must be exactly as long as its header implies, members of an archive are
matched against a list of names (so no member name ever becomes a path), and extraction counts the
bytes it really gets.

Formats: NumPy enhancement proposal 1 (`.npy` versions 1 to 3) and PKWARE APPNOTE 6.3 (`.npz`).
"""

from __future__ import annotations

import ast
import math
import re
import secrets
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from storage.errors import InvalidArrayError, TooLargeError

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_MEMBERS = {"x.npy": "x", "y.npy": "y"}
_ENCRYPTED = 0x1
_EXTRACT_BYTES = 1 << 20
# What zipfile raises over archives that are not as they should be; the last one over names that are
# said to be UTF-8.
_NO_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class UploadLimits:
    """How much one upload may ask of this machine."""

    file_bytes: int = 4 << 30  # the uploaded file
    array_bytes: int = 8 << 30  # all arrays together, unpacked, in their own and in float64 form
    header_bytes: int = 10_000  # of one .npy header
    archive_members: int = 8
    archive_directory_bytes: int = 128 << 10
    dimensions: int = 8


def read_upload(
    path: Path, *, filename: str, limits: UploadLimits, scratch: Path
) -> dict[str, npt.NDArray[np.generic]]:
    """Arrays of an uploaded file as read-only memory maps.

    path: the uploaded bytes. filename: what the client called it, used in messages only; the kind
    of file is told by its first bytes. A `.npy` gives {"x": array}; a `.npz` gives its members
    `x` and optionally `y`, unpacked into `scratch`, an existing folder that belongs to this
    upload; the caller removes both when done with the arrays. Arrays are boolean, integer or
    float, in either byte order and either memory order, with at least one dimension and one
    element. Raises InvalidArrayError or TooLargeError.
    """
    shown = repr(Path(filename).name[:80])
    file_bytes = path.stat().st_size
    if file_bytes > limits.file_bytes:
        raise _too_large(f"{shown} has {file_bytes} bytes", "file_bytes", limits.file_bytes)
    with path.open("rb") as file:
        magic = file.read(len(_NPY_MAGIC))
    if magic == _NPY_MAGIC:
        return {"x": _open_npy(path, shown, limits)}
    if magic.startswith(_ZIP_MAGIC):
        return _open_npz(path, shown, limits, scratch)
    raise InvalidArrayError(
        f"{shown} is neither a .npy nor a .npz file.",
        advice="Save the array with numpy.save, or x and y with numpy.savez.",
    )


def _open_npy(path: Path, shown: str, limits: UploadLimits) -> npt.NDArray[np.generic]:
    with path.open("rb") as file:
        shape, fortran_order, dtype = _read_header(file, shown, limits)
        offset = file.tell()
    expected_bytes = math.prod(shape) * dtype.itemsize
    if expected_bytes > limits.array_bytes:
        raise _too_large(
            f"{shown} holds {expected_bytes} bytes of numbers", "array_bytes", limits.array_bytes
        )
    actual_bytes = path.stat().st_size - offset
    if actual_bytes != expected_bytes:
        problem = "is truncated" if actual_bytes < expected_bytes else "has trailing bytes"
        raise InvalidArrayError(
            f"{shown} {problem}: its header announces {expected_bytes} bytes of numbers, "
            f"{actual_bytes} follow.",
            advice="Save and upload it again.",
        )
    order: Literal["F", "C"] = "F" if fortran_order else "C"
    mapped: npt.NDArray[np.generic] = np.memmap(
        path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order
    )
    return mapped


def _read_header(
    file: BinaryIO, shown: str, limits: UploadLimits
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    def invalid(reason: str, advice: str = "Save the array with numpy.save.") -> InvalidArrayError:
        return InvalidArrayError(f"{shown} {reason}.", advice=advice)

    prefix = file.read(len(_NPY_MAGIC) + 2)
    version = prefix[len(_NPY_MAGIC) :]
    if not prefix.startswith(_NPY_MAGIC) or version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise invalid("is not a .npy file of version 1, 2 or 3")
    length_bytes = 2 if version == b"\1\0" else 4
    header_bytes = int.from_bytes(file.read(length_bytes), "little")
    if header_bytes > limits.header_bytes:
        raise _too_large(
            f"The header of {shown} has {header_bytes} bytes", "header_bytes", limits.header_bytes
        )
    raw = file.read(header_bytes)
    if len(raw) < header_bytes:
        raise invalid("is truncated inside its header")
    try:
        header = ast.literal_eval(raw.decode("utf-8" if version == b"\3\0" else "latin-1"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise invalid("has an unreadable header") from None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise invalid("has an unreadable header")
    descr, fortran_order, shape = header["descr"], header["fortran_order"], header["shape"]
    if not isinstance(fortran_order, bool) or not isinstance(shape, tuple):
        raise invalid("has an unreadable header")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise invalid("has an unreadable header")
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        raise invalid(
            f"holds values of type {str(descr)[:40]!r}",
            "Gramian takes booleans, integers and floats of up to 64 bits: convert with .astype, "
            "or encode text and categories as integers.",
        )
    if not 1 <= len(shape) <= limits.dimensions:
        raise invalid(f"has {len(shape)} dimensions, not 1 to {limits.dimensions}")
    if 0 in shape:
        raise invalid(f"is empty: its shape is {shape}", "Upload at least one sample.")
    return shape, fortran_order, np.dtype(descr)


def _open_npz(
    path: Path, shown: str, limits: UploadLimits, scratch: Path
) -> dict[str, npt.NDArray[np.generic]]:
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    try:
        with path.open("rb") as file:
            bounded = _BoundedReads(file, shown, limits.archive_directory_bytes)
            with zipfile.ZipFile(cast("IO[bytes]", bounded)) as archive:
                bounded.most_bytes = 2 * _EXTRACT_BYTES
                members = _check_members(archive, shown, limits)
                for name, member in members.items():
                    target = scratch / f"{secrets.token_hex(8)}.npy"
                    _extract(archive, member, target, shown)
                    arrays[name] = _open_npy(target, f"{name!r} in {shown}", limits)
    except _NO_ARCHIVE as error:
        raise InvalidArrayError(
            f"{shown} is not a readable .npz archive ({str(error)[:120]}).",
            advice="Save it with numpy.savez or numpy.savez_compressed and upload it again.",
        ) from None
    return arrays


def _check_members(
    archive: zipfile.ZipFile, shown: str, limits: UploadLimits
) -> dict[str, zipfile.ZipInfo]:
    found = archive.infolist()
    if len(found) > limits.archive_members:
        raise _too_large(
            f"{shown} has {len(found)} members", "archive_members", limits.archive_members
        )
    members: dict[str, zipfile.ZipInfo] = {}
    for member in found:
        name = _MEMBERS.get(member.filename)
        if name is None or name in members:
            problem = "twice" if name else "which Gramian does not know"
            raise InvalidArrayError(
                f"{shown} contains {member.filename[:80]!r} {problem}.",
                advice="Call the arrays x (samples) and y (targets): numpy.savez(path, x=x, y=y).",
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or (
            member.flag_bits & _ENCRYPTED
        ):
            raise InvalidArrayError(
                f"{shown} uses encryption or a compression other than deflate.",
                advice="Save it with numpy.savez or numpy.savez_compressed.",
            )
        members[name] = member
    if "x" not in members:
        raise InvalidArrayError(
            f"{shown} has no array called x.",
            advice="Call the samples x: numpy.savez(path, x=x, y=y).",
        )
    total_bytes = sum(member.file_size for member in members.values())
    if total_bytes > limits.array_bytes:
        raise _too_large(
            f"{shown} unpacks to {total_bytes} bytes", "array_bytes", limits.array_bytes
        )
    return members


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, shown: str) -> None:
    """Unpack one member, whose declared size was checked, giving up if it is larger."""
    extracted_bytes = 0
    try:
        with archive.open(member) as source, target.open("xb") as sink:
            while data := source.read(_EXTRACT_BYTES):
                extracted_bytes += len(data)
                if extracted_bytes > member.file_size:
                    raise InvalidArrayError(f"{shown} unpacks to more than it declares.")
                sink.write(data)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


class _BoundedReads:
    """A file that refuses large single reads.

    zipfile reads an archive's whole directory at once, at the size that the archive states, and
    keeps an object per entry; everything else it reads in small pieces.
    """

    def __init__(self, file: BinaryIO, shown: str, most_bytes: int) -> None:
        self._file = file
        self._shown = shown
        self.most_bytes = most_bytes
        self.tell, self.seekable = file.tell, file.seekable

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:
            # Where zipfile looks when the directory names places that do not fit the file.
            raise zipfile.BadZipFile("an entry begins before the file")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            # zipfile does this only for the tail in which it looks for the end record (64 KiB).
            here = self._file.tell()
            size = self._file.seek(0, 2) - here
            self._file.seek(here)
        if size > self.most_bytes:
            what = f"The directory of {self._shown} has {size} bytes"
            raise _too_large(what, "archive_directory_bytes", self.most_bytes)
        return self._file.read(size)


def _too_large(what: str, limit: str, value: int) -> TooLargeError:
    return TooLargeError(
        f"{what}; the limit {limit} is {value}.",
        advice="Upload less, or ask the operator to raise this limit.",
        limit=limit,
        value=value,
    )
