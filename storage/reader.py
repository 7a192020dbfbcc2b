"""Which bytes answer a zarr key: the part of serving a matrix over HTTP that knows the format.

Keys are `zarr.json`, `<array>/zarr.json` and `<array>/c/i/j`, in their one canonical spelling. A
chunk that is stored is passed through as a file, unread but for its last four bytes; the mirror of
a stored chunk is decoded, transposed and encoded again. Errors matter more than usual here: a
Zarr reader takes "not found" for a chunk to mean fill values, so NotFoundError (404) is for keys
that are no chunks, and a chunk that should be there raises MissingChunkError or CorruptChunkError,
which must become 5xx.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from storage import matrices
from storage.blobs import BlobStore
from storage.chunks import CHECKSUM_BYTES, check_size, decode_chunk, encode_chunk, encoded_bytes
from storage.documents import GROUP_DOCUMENT
from storage.errors import InvalidKeyError, NotFoundError
from storage.format import ArrayLayout, MatrixManifest
from storage.keys import check_array_name, parse_chunk_key

# What zarr clients ask for before they know that a hierarchy is Zarr v3.
_PROBES = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata"})


@dataclass(frozen=True)
class StoredObject:
    """The answer to a key. Exactly one of these holds its bytes:

    `data`, when it was built (metadata, mirrored chunks) and a body was asked for; else the blob
    `key` of the store, which is the file `path` on local stores. Mirrored chunks have neither
    without a body: they are not `complete`.
    """

    key: str  # of the blob that holds (or, for mirrors, determines) the bytes
    path: Path | None
    data: bytes | None
    size: int  # bytes
    etag: str  # strong, with its quotes (RFC 9110, section 8.8.3)
    media_type: str
    immutable: bool  # may be cached for ever
    complete: bool = True


def resolve(
    blobs: BlobStore, manifest: MatrixManifest, key: str, *, body: bool = True
) -> StoredObject:
    """The object that answers `key` in a sealed matrix.

    `body=False` (HEAD, If-None-Match) never decodes a chunk and leaves `data` empty for mirrored
    chunks; everything else is the same. Raises NotReadyError, InvalidKeyError, NotFoundError,
    MissingChunkError, CorruptChunkError.
    """
    matrices.require_sealed(blobs, manifest.id)
    first, _, rest = key.partition("/")
    if key == GROUP_DOCUMENT or (rest == GROUP_DOCUMENT and check_array_name(first)):
        return _document(blobs, manifest, key)
    if key in _PROBES or (rest in _PROBES and check_array_name(first)):
        raise NotFoundError(f"A Zarr v3 hierarchy has no {key}.", advice="Read zarr.json.")
    if not rest:
        raise InvalidKeyError(
            f"{key[:64]!r} is not a key of a matrix.",
            advice="Keys are zarr.json, <array>/zarr.json and <array>/c/<i>/<j>.",
        )
    layout = next((a for a in manifest.arrays if a.name == check_array_name(first)), None)
    if layout is None:
        raise NotFoundError(
            f"Matrix {manifest.id} has no array {first!r}.",
            advice=f"It has {', '.join(a.name for a in manifest.arrays)}.",
        )
    return _chunk(blobs, manifest, layout, parse_chunk_key(rest, layout.grid), body=body)


def _document(blobs: BlobStore, manifest: MatrixManifest, key: str) -> StoredObject:
    blob = f"{matrices.FOLDER}/{manifest.id}/{key}"
    data = blobs.get(blob)
    return StoredObject(
        key=blob,
        path=None,
        data=data,
        size=len(data),
        etag=f'"{blake3(data).hexdigest(16)}"',
        media_type="application/json",
        immutable=False,
    )


def _chunk(
    blobs: BlobStore,
    manifest: MatrixManifest,
    layout: ArrayLayout,
    coordinates: tuple[int, ...],
    *,
    body: bool,
) -> StoredObject:
    blob, mirrored = matrices.stored_chunk(manifest, layout, coordinates)
    size = encoded_bytes(layout.chunk_shape, layout.dtype)
    try:
        stored_size, checksum = blobs.tail(blob, CHECKSUM_BYTES)
    except NotFoundError:
        raise matrices.missing_chunk(blob) from None
    check_size(stored_size, size, blob)
    # The last four bytes are the checksum of all others: as good a validator as a digest is here,
    # because the URL names the matrix and a sealed matrix does not change.
    etag = f'"{checksum.hex()}-{size:x}{"-t" if mirrored else ""}"'
    return StoredObject(
        key=blob,
        path=None if mirrored else blobs.path(blob),
        data=_mirror(blobs, layout, blob) if mirrored and body else None,
        size=size,
        etag=etag,
        media_type="application/octet-stream",
        immutable=True,
        complete=body or not mirrored,
    )


def _mirror(blobs: BlobStore, layout: ArrayLayout, blob: str) -> bytes:
    values = decode_chunk(matrices.get_chunk(blobs, blob), layout, blob)
    return encode_chunk(np.ascontiguousarray(values.T), layout)
