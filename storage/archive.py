"""A sealed matrix as one file, to carry it to another store: an uncompressed POSIX tar.

The members are the blobs of the matrix under their keys, the manifest first and the document that
seals it last. So an archive is a read-only store of one matrix, and what `verify` finds wrong with
a stored matrix it finds wrong with an archive.
"""

from __future__ import annotations

import io
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from storage import matrices
from storage.blobs import BlobStore, split_key
from storage.documents import GROUP_DOCUMENT
from storage.errors import (
    ConflictError,
    GramianError,
    InvalidKeyError,
    NotFoundError,
    TooLargeError,
)
from storage.format import MatrixManifest
from storage.verify import verify

OnBytes = Callable[[int, int], None]
"""Told the bytes copied so far, and those there are."""

_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


class InvalidArchiveError(GramianError):
    """A file is not an archive of one sealed, undamaged matrix."""

    kind = "invalid-archive"


def pack(
    blobs: BlobStore,
    matrix_id: str,
    path: Path,
    *,
    on_bytes: OnBytes = lambda done, total: None,
) -> MatrixManifest:
    """Write the sealed matrix to `path`, which appears when it is complete.

    The same matrix gives the same bytes. Chunks are copied as they are: `unpack` verifies them.
    Raises NotFoundError, NotReadyError, MissingChunkError.
    """
    manifest = matrices.load_manifest(blobs, matrix_id)
    matrices.require_sealed(blobs, matrix_id)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    done = 0
    try:
        with tarfile.open(temporary, "x", format=tarfile.PAX_FORMAT) as archive:
            for key in _keys(manifest):
                data = matrices.get_chunk(blobs, key)
                member = tarfile.TarInfo(key)
                member.size = len(data)
                member.mode = 0o644
                archive.addfile(member, io.BytesIO(data))
                done += len(data)
                on_bytes(done, manifest.stored_bytes)
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace hides the atomicity
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def unpack(
    blobs: BlobStore, path: Path, *, on_bytes: OnBytes = lambda done, total: None
) -> tuple[MatrixManifest, bool]:
    """Store the matrix of an archive and seal it; its manifest, and whether it was new here.

    Everything is verified before anything is written, down to the digest; that the numbers are
    those of the kernel named in the provenance is the word of whoever made the archive. Killed
    half-way, the matrix is not sealed, and unpacking again completes it. Raises
    InvalidArchiveError, UnsupportedFormatError; ConflictError if the store has the matrix with
    other numbers or in another chunk layout; TooLargeError if it does not fit.
    """
    with ArchiveBlobs(path) as archive:
        manifest = _checked(archive)
        recorded = matrices.attributes(archive, manifest.id)
        own = recorded.pop("gramian")
        if matrices.is_sealed(blobs, manifest.id):
            there = matrices.sealed_digest(blobs, manifest.id)
            if there != own["digest"]:
                raise ConflictError(
                    f"Matrix {manifest.id} is stored here with digest {there}; the archive has"
                    f" {own['digest']}.",
                    advice="Verify both; delete the one that is wrong.",
                )
            return manifest, False
        free = blobs.free_bytes()
        if free is not None and manifest.stored_bytes > free:
            raise TooLargeError(
                f"The matrix takes {manifest.stored_bytes} bytes; {free} are free.",
                advice="Make room in the store.",
                needed_bytes=manifest.stored_bytes,
                free_bytes=free,
            )
        matrices.create(blobs, manifest)
        done = 0
        for key in _chunk_keys(manifest):
            data = archive.get(key)
            blobs.put(key, data)
            done += len(data)
            on_bytes(done, manifest.stored_bytes)
        matrices.seal(blobs, manifest, own["array_digests"], recorded)
    return manifest, True


def _checked(archive: ArchiveBlobs) -> MatrixManifest:
    """The manifest of the one matrix in `archive`, which is sealed, complete and undamaged."""
    found = matrices.list_matrices(archive)
    if len(found) != 1:
        _refuse(f"There are {len(found)} matrices in {archive.name}, not one.")
    try:
        manifest = matrices.load_manifest(archive, found[0])
        if sum(layout.stored_chunks for layout in manifest.arrays) > len(archive.keys):
            _refuse(f"{archive.name} has fewer chunks than its matrix.")  # before listing them
        foreign = set(archive.keys) - set(_keys(manifest))
        sealed = matrices.is_sealed(archive, found[0])
        problems = verify(archive, manifest) if sealed and not foreign else []
        recorded = matrices.attributes(archive, found[0])["gramian"] if sealed else {}
        same = manifest.id == found[0] and all(
            recorded.get(name) == getattr(manifest, name)
            for name in ("id", "kind", "block_rows", "provenance", "format_version")
        )
    except (ValueError, KeyError, TypeError, AttributeError, InvalidKeyError) as error:
        _refuse(f"{archive.name} has documents that say nothing sensible ({error!r:.100}).")
    if not sealed:
        _refuse(f"The matrix in {archive.name} is not sealed.")
    if foreign:
        _refuse(f"{archive.name} holds what is no part of its matrix: {sorted(foreign)[0]!r:.100}.")
    if problems:
        _refuse(f"{archive.name} is damaged: {problems[0].message}")
    if not same:
        _refuse(f"The documents in {archive.name} are those of another matrix.")
    return manifest


def _refuse(message: str) -> NoReturn:
    raise InvalidArchiveError(message, advice="Export the matrix again where it is intact.")


def _keys(manifest: MatrixManifest) -> Iterator[str]:
    folder = f"{matrices.FOLDER}/{manifest.id}"
    yield f"{folder}/{matrices.MANIFEST}"
    yield from _chunk_keys(manifest)
    for layout in manifest.arrays:
        yield f"{folder}/{layout.name}/{GROUP_DOCUMENT}"
    yield f"{folder}/{GROUP_DOCUMENT}"


def _chunk_keys(manifest: MatrixManifest) -> Iterator[str]:
    for layout in manifest.arrays:
        for coords in matrices.all_stored_coords(layout):
            yield matrices.stored_chunk(manifest, layout, coords)[0]


class ArchiveBlobs:
    """The members of a tar file as a store that cannot be written. Close it.

    Raises InvalidArchiveError if the file is no tar, or has members that are not plain files
    under plain keys, or two of the same name.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.keys: dict[str, tuple[int, int]] = {}  # offset and size of each member
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InvalidArchiveError(
                f"{path} cannot be read: {error.strerror}.", advice="Name a file that exists."
            ) from None
        try:
            self._index()
        except BaseException:
            self._file.close()
            raise

    def _index(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for member in archive:
                    split_key(member.name)
                    if member.type not in _REGULAR or member.name in self.keys:
                        _refuse(f"Member {member.name[:100]!r} of {self.name} is no plain file.")
                    if member.offset_data + member.size > size:
                        _refuse(f"{self.name} ends in the middle of {member.name!r}.")
                    self.keys[member.name] = (member.offset_data, member.size)
        except (tarfile.TarError, InvalidKeyError, EOFError, ValueError) as error:
            _refuse(f"{self.name} is not an archive of a matrix ({error!s:.100}).")

    def __enter__(self) -> ArchiveBlobs:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def url(self) -> str:
        return f"archive:{self.name}"

    def get(self, key: str, *, start: int | None = None, stop: int | None = None) -> bytes:
        if key not in self.keys:
            raise NotFoundError(f"There is no member {key!r} in {self.name}.")
        offset, size = self.keys[key]
        first, last = min(start or 0, size), size if stop is None else min(stop, size)
        self._file.seek(offset + first)
        return self._file.read(max(last - first, 0))

    def get_into(
        self, key: str, buffer: memoryview, seen: Callable[[memoryview], None] | None = None
    ) -> int:
        data = self.get(key)
        part = data[: len(buffer)]
        buffer[: len(part)] = part
        if seen is not None:
            seen(buffer[: len(part)])
        return len(data)

    def tail(self, key: str, count: int) -> tuple[int, bytes]:
        data = self.get(key)
        return len(data), data[max(0, len(data) - count) :]

    def size(self, key: str) -> int | None:
        return self.keys[key][1] if key in self.keys else None

    def list(self, prefix: str) -> Iterator[str]:
        return (key for key in self.keys if key.startswith(f"{prefix}/"))

    def scan(self, prefix: str) -> Iterator[tuple[str, int]]:
        return ((key, self.keys[key][1]) for key in self.list(prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        rest = (key[len(prefix) + 1 :].split("/") for key in self.list(prefix))
        return iter({parts[0] for parts in rest if len(parts) > 1})

    def newest(self, prefix: str) -> float:
        return os.fstat(self._file.fileno()).st_mtime if any(self.list(prefix)) else 0.0

    def path(self, key: str) -> Path | None:
        return None

    def free_bytes(self) -> int | None:
        return 0

    def put(self, key: str, data: bytes | memoryview) -> NoReturn:
        self._read_only()

    def put_if_absent(self, key: str, data: bytes | memoryview) -> NoReturn:
        self._read_only()

    def delete(self, key: str) -> NoReturn:
        self._read_only()

    def delete_prefix(self, prefix: str) -> NoReturn:
        self._read_only()

    def sweep_temporary(self, older_than_seconds: float, prefix: str | None = None) -> int:
        return 0

    def check(self) -> NoReturn:
        self._read_only()

    def _read_only(self) -> NoReturn:
        raise ConflictError("An archive does not change.", advice="Unpack it into a store.")
