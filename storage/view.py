"""A sealed matrix as a zarr store, for readers in Python.

zarr presents a chunk that its store does not have as fill values. A sealed matrix has no such
chunks, so this store raises for every chunk of the grid that it cannot deliver intact.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import product

import zarr
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from storage import matrices
from storage.blobs import BlobStore
from storage.chunks import check_bytes
from storage.documents import GROUP_DOCUMENT, array_key
from storage.errors import InvalidKeyError, NotFoundError
from storage.format import MatrixManifest
from storage.keys import chunk_key
from storage.reader import StoredObject, resolve


class MatrixStore(Store):
    """Read-only zarr store over one sealed matrix; symmetric arrays appear whole.

    Reading a chunk checks its size and checksum first: MissingChunkError and CorruptChunkError
    come out of zarr unchanged. Picklable, so Dask workers can read through it. Raises NotFoundError
    or NotReadyError when it is made.
    """

    def __init__(self, blobs: BlobStore, matrix_id: str) -> None:
        super().__init__(read_only=True)
        self._blobs = blobs
        self._manifest = matrices.load_manifest(blobs, matrix_id)
        matrices.require_sealed(blobs, matrix_id)

    @property
    def manifest(self) -> MatrixManifest:
        return self._manifest

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MatrixStore)
            and self._blobs.url == other._blobs.url
            and self._manifest.id == other._manifest.id
        )

    def __hash__(self) -> int:
        return hash((self._blobs.url, self._manifest.id))

    def __str__(self) -> str:
        return f"{self._blobs.url}/{matrices.FOLDER}/{self._manifest.id}"

    def __repr__(self) -> str:
        return f"MatrixStore({str(self)!r})"

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return True

    def with_read_only(self, read_only: bool = False) -> Store:
        if not read_only:
            raise ValueError("a sealed matrix cannot be opened for writing")
        return type(self)(self._blobs, self._manifest.id)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = await asyncio.to_thread(self._read, key)
        if data is None:
            return None
        return prototype.buffer.from_bytes(_cut(data, byte_range))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._find, key, body=False) is not None

    async def getsize(self, key: str) -> int:
        found = await asyncio.to_thread(self._find, key, body=False)
        if found is None:
            raise FileNotFoundError(key)
        return found.size

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        for key in self._keys():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self._keys():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        folder = prefix.strip("/")
        if not folder:
            yield GROUP_DOCUMENT
            for layout in self._manifest.arrays:
                yield layout.name
            return
        start = folder + "/"
        names = {key[len(start) :].split("/")[0] for key in self._keys() if key.startswith(start)}
        for name in sorted(names):
            yield name

    def _keys(self) -> Iterator[str]:
        yield GROUP_DOCUMENT
        for layout in self._manifest.arrays:
            yield array_key(layout.name)
            for coordinates in product(*map(range, layout.grid)):
                yield f"{layout.name}/{chunk_key(coordinates)}"

    def _find(self, key: str, *, body: bool) -> StoredObject | None:
        """None for what a zarr client probes for and a matrix does not have."""
        try:
            return resolve(self._blobs, self._manifest, key, body=body)
        except NotFoundError:
            return None
        except InvalidKeyError:
            if any(key.startswith(f"{layout.name}/c") for layout in self._manifest.arrays):
                raise  # None would turn into fill values
            return None

    def _read(self, key: str) -> bytes | None:
        found = self._find(key, body=True)
        if found is None:
            return None
        if found.data is not None:
            return found.data
        data = matrices.get_chunk(self._blobs, found.key)
        check_bytes(data, found.size, found.key)
        return data


def open_group(blobs: BlobStore, matrix_id: str) -> zarr.Group:
    """See `storage.open_matrix`."""
    return zarr.open_group(MatrixStore(blobs, matrix_id), mode="r")


def _cut(data: bytes, byte_range: ByteRequest | None) -> bytes:
    match byte_range:
        case None:
            return data
        case RangeByteRequest(start, end):
            return data[start:end]
        case OffsetByteRequest(offset):
            return data[offset:]
        case SuffixByteRequest(suffix):
            return data[max(0, len(data) - suffix) :]
        case _:
            raise TypeError(f"unexpected byte range {byte_range!r}")
