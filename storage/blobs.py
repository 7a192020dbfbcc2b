"""Where bytes live: a flat map from keys to immutable blobs.

Everything above this file names bytes by key only. Stores are folders (`LocalBlobs`, here) and
S3-compatible buckets (`object_blobs.py`). What callers may rely on: `put` is atomic (a reader, or a
process that starts after a crash, sees the old blob, the new blob, or none: never part of one), and
`put_if_absent` lets exactly one of several racing writers win.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from storage.errors import InvalidKeyError, NotFoundError, StoreUnavailableError

# Temporary names start with a dot and keys never do, so no key can name a temporary.
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_TEMPORARY_PREFIX = ".tmp-"
_MAX_SEGMENTS = 16
_PUT_ATTEMPTS = 8
_PART_BYTES = 512 << 10  # read at a time by those who look at them at once: half of an L2 cache


@runtime_checkable
class BlobStore(Protocol):
    """Keys are relative POSIX paths whose parts match `[A-Za-z0-9_-][A-Za-z0-9._-]*`.

    Every method raises InvalidKeyError for any other spelling. Instances are cheap to make and
    picklable: workers receive their `url` in task arguments. Remote stores raise
    StoreUnavailableError, which no docstring here repeats.
    """

    @property
    def url(self) -> str:
        """What `open_blobs` needs to make an equal store."""
        ...

    def get(self, key: str, *, start: int | None = None, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of a blob (all of it by default). Raises NotFoundError."""
        ...

    def get_into(
        self, key: str, buffer: memoryview, seen: Callable[[memoryview], None] | None = None
    ) -> int:
        """Read a blob into `buffer` (bytes); the size of the blob, which may be larger.

        `seen` is called with each part of the buffer that was filled, in order, while that part is
        likely to lie in a cache of the CPU. Raises NotFoundError.
        """
        ...

    def tail(self, key: str, count: int) -> tuple[int, bytes]:
        """Size of a blob and its last `count` bytes (all of it if it has fewer), in one request.

        Raises NotFoundError.
        """
        ...

    def size(self, key: str) -> int | None:
        """Size in bytes, or None when there is no such blob."""
        ...

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Store a blob atomically, replacing one that is there."""
        ...

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Store a blob atomically unless one is there; True if this call stored it."""
        ...

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when it is not there."""
        ...

    def delete_prefix(self, prefix: str) -> None:
        """Remove every blob under the folder `prefix`."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys under the folder `prefix`, in no particular order."""
        ...

    def scan(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys under the folder `prefix` with their sizes in bytes."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders directly under the folder `prefix`."""
        ...

    def newest(self, prefix: str) -> float:
        """When the youngest blob under the folder `prefix` was written, in seconds since 1970; 0 if
        there is none. By the clock of the store."""
        ...

    def path(self, key: str) -> Path | None:
        """The local file that holds (or would hold) this blob; None for remote stores."""
        ...

    def free_bytes(self) -> int | None:
        """Free space, or None where the question has no answer."""
        ...

    def sweep_temporary(self, older_than_seconds: float, prefix: str | None = None) -> int:
        """Remove what interrupted writers left behind, in the whole store or under the folder
        `prefix`; the number of things removed. A write that it overtakes is made again."""
        ...

    def check(self) -> None:
        """Write, read and delete a probe, within seconds. Raises StoreUnavailableError, saying why,
        unless the store does now what is asked of it here."""
        ...


@dataclass(frozen=True)
class LocalBlobs:
    """Blobs as files under `root`.

    `put` writes a temporary file in the target's own folder and renames it. A killed process
    therefore leaves whole blobs and stray temporaries, nothing else (`sweep_temporary`). With
    `fsync` this also holds when the machine loses power; without it a blob can come back short
    or zeroed after power loss, which checksums and sizes detect.
    """

    root: Path
    fsync: bool = False

    @property
    def url(self) -> str:
        return self.root.absolute().as_uri()

    def get(self, key: str, *, start: int | None = None, stop: int | None = None) -> bytes:
        try:
            with self.path(key).open("rb") as file:
                if start is None and stop is None:
                    return file.read()
                first = start or 0
                file.seek(first)
                return file.read(-1 if stop is None else max(0, stop - first))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError(f"There is no stored object {key!r}.") from None

    def get_into(
        self, key: str, buffer: memoryview, seen: Callable[[memoryview], None] | None = None
    ) -> int:
        most = len(buffer) if seen is None else _PART_BYTES
        try:
            with self.path(key).open("rb", buffering=0) as file:
                done = 0
                while part := file.readinto(buffer[done : done + most]):
                    if seen is not None:
                        seen(buffer[done : done + part])
                    done += part
                return done if done < len(buffer) else os.fstat(file.fileno()).st_size
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError(f"There is no stored object {key!r}.") from None

    def tail(self, key: str, count: int) -> tuple[int, bytes]:
        try:
            with self.path(key).open("rb", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - count))
                return size, file.read(count)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError(f"There is no stored object {key!r}.") from None

    def size(self, key: str) -> int | None:
        path = self.path(key)
        try:
            return path.stat().st_size if path.is_file() else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._publish(key, data, replace=True)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        return self._publish(key, data, replace=False)

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.path(key).unlink()

    def delete_prefix(self, prefix: str) -> None:
        folder = self.path(prefix)
        # Renaming first makes all blobs vanish at once; a crash after it leaves a temporary.
        doomed = folder.with_name(_temporary_name())
        try:
            folder.rename(doomed)
        except (FileNotFoundError, NotADirectoryError):
            return
        shutil.rmtree(doomed)

    def list(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self.scan(prefix))

    def scan(self, prefix: str) -> Iterator[tuple[str, int]]:
        return ((key, stat.st_size) for key, stat in _scan(str(self.path(prefix)), prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        try:
            entries = os.scandir(self.path(prefix))
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    yield entry.name

    def newest(self, prefix: str) -> float:
        found = _scan(str(self.path(prefix)), prefix)
        return max((stat.st_mtime for _, stat in found), default=0.0)

    def path(self, key: str) -> Path:
        return self.root.joinpath(*split_key(key))

    def free_bytes(self) -> int | None:
        folder = self.root.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def sweep_temporary(self, older_than_seconds: float, prefix: str | None = None) -> int:
        horizon = time.time() - older_than_seconds
        removed = 0
        start = self.root if prefix is None else self.path(prefix)
        for folder, subfolders, files in os.walk(start):
            for name in [n for n in subfolders if n.startswith(_TEMPORARY_PREFIX)]:
                subfolders.remove(name)
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    # Renaming a folder, as delete_prefix does, sets its ctime and not its mtime.
                    if path.stat().st_ctime <= horizon:
                        shutil.rmtree(path)
                        removed += 1
            for name in files:
                if name.startswith(_TEMPORARY_PREFIX):
                    with contextlib.suppress(FileNotFoundError):
                        path = Path(folder, name)
                        if path.stat().st_mtime <= horizon:
                            path.unlink()
                            removed += 1
        return removed

    def check(self) -> None:
        key = f"probes/{secrets.token_hex(8)}"
        try:
            self.put(key, b"probe")
            self.delete(key)
        except OSError as error:
            raise StoreUnavailableError(
                f"The store cannot be written: {error.strerror}.",
                advice="Free space there, and look at its permissions.",
            ) from error

    def _publish(self, key: str, data: bytes | memoryview, *, replace: bool) -> bool:
        target = self.path(key)
        for attempt in range(_PUT_ATTEMPTS):
            temporary = self._write_temporary(target.parent, data)
            try:
                if replace:
                    os.replace(temporary, target)  # noqa: PTH105 - Path.replace hides the atomicity
                else:
                    os.link(temporary, target)  # fails if the target exists, unlike rename
                break
            except FileExistsError:
                return False
            except FileNotFoundError:
                # A sweep, or a concurrent delete_prefix, took the temporary away.
                if attempt == _PUT_ATTEMPTS - 1:
                    raise
            finally:
                temporary.unlink(missing_ok=True)
        if self.fsync:
            _sync_folder(target.parent)
        return True

    def _write_temporary(self, folder: Path, data: bytes | memoryview) -> Path:
        temporary = folder / _temporary_name()
        for attempt in range(_PUT_ATTEMPTS):
            try:
                file = temporary.open("xb", buffering=0)
                break
            except FileNotFoundError:
                # First blob of its folder, or a concurrent delete_prefix took the folder away.
                if attempt == _PUT_ATTEMPTS - 1:
                    raise
                folder.mkdir(parents=True, exist_ok=True)
                if self.fsync:
                    for parent in (folder, *folder.parents):
                        _sync_folder(parent)
                        if parent == self.root:
                            break
        try:
            with file:
                view = memoryview(data).cast("B")
                while view:
                    view = view[file.write(view) :]
                if self.fsync:
                    os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


def open_blobs(url_or_path: str | Path, *, fsync: bool = False) -> BlobStore:
    """The store at a local path, a `file://` URL or an `s3://` URL (s3_location.py).

    Nothing is looked at yet. Raises InvalidKeyError for what names no store, and MissingExtraError
    for `s3://` without the extra `s3`.
    """
    if isinstance(url_or_path, Path):
        return LocalBlobs(url_or_path, fsync=fsync)
    if "://" not in url_or_path:
        return LocalBlobs(Path(url_or_path), fsync=fsync)
    parts = urlsplit(url_or_path)
    if parts.scheme == "s3":
        from storage.object_blobs import open_object_blobs  # needs the extra `s3`

        return open_object_blobs(url_or_path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query:
        raise InvalidKeyError(
            f"Stores at {parts.scheme}://{parts.netloc} are not supported.",
            advice="Use a local path, file:///absolute/path or s3://bucket/prefix.",
        )
    return LocalBlobs(Path(unquote(parts.path)), fsync=fsync)


def split_key(key: str) -> tuple[str, ...]:
    """The parts of a key. Raises InvalidKeyError unless it is a plain relative path."""
    parts = tuple(key.split("/"))
    if len(parts) > _MAX_SEGMENTS or not all(_SEGMENT.fullmatch(part) for part in parts):
        raise InvalidKeyError(
            f"{key[:64]!r} is not a storage key.",
            advice="Keys are relative paths of letters, digits, '_', '-' and inner dots.",
        )
    return parts


def _temporary_name() -> str:
    return _TEMPORARY_PREFIX + secrets.token_hex(8)


def _scan(folder: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            key = f"{prefix}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(entry.path, key)
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield key, entry.stat()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
