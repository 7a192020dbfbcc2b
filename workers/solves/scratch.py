"""Arrays that a solve keeps in the store while it runs: factors and panels larger than memory.

They lie under the checkpoint of the solve, one blob per block with its checksum, and are written
once. A block that is there is whole (puts are atomic), so a solve that was killed goes on from the
blocks it finds. What nobody came back for is removed by `sweep_scratch`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from storage.blobs import BlobStore, open_blobs
from storage.chunks import decode_values, encode_values, encoded_bytes
from storage.errors import CorruptChunkError, NotFoundError

ROOT = "solves"
KEEP_SECONDS = 7 * 24 * 3600.0  # an unfinished solve may be submitted again for this long
READ_AHEAD_BLOCKS = 2
_USED = "used"  # blob that says when a folder was last worked with

T = TypeVar("T")


@dataclass(frozen=True)
class Scratch:
    """Blocks under `folder` of the store. Picklable: workers read and write through it."""

    store_url: str
    folder: str

    def write(self, name: str, values: NDArray[Any]) -> int:
        """Store a block; the bytes written."""
        data = encode_values(values, values.shape, values.dtype)
        self._blobs.put(f"{self.folder}/{name}", data)
        return len(data)

    def read(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Raises NotFoundError, and CorruptChunkError when it is not what was written."""
        key = f"{self.folder}/{name}"
        return decode_values(self._blobs.get(key), shape, dtype, key)

    def has(self, name: str, shape: tuple[int, ...], dtype: str) -> bool:
        return self._blobs.size(f"{self.folder}/{name}") == encoded_bytes(shape, dtype)

    def found(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any] | None:
        """`read`, or None where there is no whole block: it must be made again."""
        if not self.has(name, shape, dtype):
            return None
        try:
            return self.read(name, shape, dtype)
        except CorruptChunkError:
            return None

    def open(self) -> None:
        """Say that the folder is in use now, so that no sweep takes it."""
        stamp = json.dumps({"used_at": time.time()}).encode()
        self._blobs.put(f"{self.folder}/{_USED}", stamp)

    def remove(self) -> None:
        self._blobs.delete_prefix(self.folder)

    @property
    def _blobs(self) -> BlobStore:
        return open_blobs(self.store_url)


def sweep_scratch(blobs: BlobStore, older_than_seconds: float = KEEP_SECONDS) -> int:
    """Remove the folders that no solve has opened for a while; how many."""
    horizon, removed = time.time() - older_than_seconds, 0
    for solve in blobs.folders(ROOT):
        for name in blobs.folders(f"{ROOT}/{solve}"):
            folder = f"{ROOT}/{solve}/{name}"
            try:
                used_at = float(json.loads(blobs.get(f"{folder}/{_USED}"))["used_at"])
            except NotFoundError:
                continue  # being made or being removed this moment
            if used_at < horizon:
                blobs.delete_prefix(folder)
                removed += 1
    return removed


def ahead(read: Callable[[T], NDArray[Any]], items: Iterable[T]) -> Iterator[tuple[T, Any]]:
    """Each item with what `read` gives for it, read by a thread ahead of the consumer."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        waiting: list[tuple[T, Any]] = []
        try:
            for item in items:
                waiting.append((item, reader.submit(read, item)))
                if len(waiting) > READ_AHEAD_BLOCKS:
                    first, pending = waiting.pop(0)
                    yield first, pending.result()
            while waiting:
                first, pending = waiting.pop(0)
                yield first, pending.result()
        finally:
            for _, pending in waiting:
                pending.cancel()
