"""Stored matrices: create, write and read chunks, seal, delete. FORMAT.md is the format.

A matrix is *sealed* when its group document `zarr.json` exists. Before that only the workers that
compute it read it (`read_chunk`, `has_chunk`); everybody else gets NotReadyError. After it nothing
changes, except that a damaged chunk may be written again (`write_chunk(..., repair=True)`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from storage import digest as trees
from storage.blobs import BlobStore
from storage.chunks import (
    ChunkBuffer,
    RunningChecksum,
    check_size,
    decode_chunk,
    encode_values,
    encoded_bytes,
)
from storage.documents import (
    GROUP_DOCUMENT,
    ArrayDocument,
    dimension_names,
    group_documents,
)
from storage.errors import (
    ConflictError,
    InvalidKeyError,
    MissingChunkError,
    NotFoundError,
    NotReadyError,
)
from storage.format import ArrayLayout, MatrixManifest
from storage.keys import check_array_name, check_matrix_id, chunk_key, parse_chunk_key
from storage.symmetry import is_bitwise_symmetric

FOLDER = "matrices"
MANIFEST = "manifest.json"

Coordinates = tuple[int, ...]


def create(blobs: BlobStore, manifest: MatrixManifest) -> None:
    """Write the manifest; nothing happens if it is there already.

    Provenance is not compared: the id stands for the request, and a resumed job may run under
    other library versions. Raises ConflictError if the manifest that is there has other arrays (a
    matrix keeps the tile size of its first creation), ValueError if this one breaks the format.
    """
    check_matrix_id(manifest.id)
    if not manifest.arrays or len({a.name for a in manifest.arrays}) != len(manifest.arrays):
        raise ValueError("a matrix needs arrays with distinct names")
    for layout in manifest.arrays:
        check_array_name(layout.name)
        trees.check_blocks(layout, manifest.block_rows)
    document = json.dumps(manifest.to_json(), indent=2, allow_nan=False).encode()
    if blobs.put_if_absent(_key(manifest.id, MANIFEST), document):
        return
    there = load_manifest(blobs, manifest.id)
    if (there.kind, there.arrays, there.block_rows) != (
        manifest.kind,
        manifest.arrays,
        manifest.block_rows,
    ):
        raise ConflictError(
            f"Matrix {manifest.id} was created with another chunk layout.",
            advice="Go on with the layout of the stored manifest, or delete the matrix first.",
        )


def load_manifest(blobs: BlobStore, matrix_id: str) -> MatrixManifest:
    """Raises NotFoundError, InvalidKeyError, UnsupportedFormatError."""
    try:
        document = blobs.get(_key(check_matrix_id(matrix_id), MANIFEST))
    except NotFoundError:
        raise NotFoundError(
            f"There is no matrix {matrix_id}.", advice="GET /v1/matrices lists those that exist."
        ) from None
    return MatrixManifest.from_json(json.loads(document))


def is_sealed(blobs: BlobStore, matrix_id: str) -> bool:
    return blobs.size(_key(check_matrix_id(matrix_id), GROUP_DOCUMENT)) is not None


def require_sealed(blobs: BlobStore, matrix_id: str) -> None:
    """Raises NotReadyError unless the matrix is sealed."""
    if not is_sealed(blobs, matrix_id):
        raise NotReadyError(
            f"Matrix {matrix_id} is not complete yet.",
            advice="Wait until its job has succeeded; nothing of it can be read before.",
        )


def attributes(blobs: BlobStore, matrix_id: str) -> dict[str, Any]:
    """The attributes of a sealed matrix; `["gramian"]` holds what Gramian itself records.

    That is `id`, `kind`, `format_version`, `digest`, `array_digests`, `block_rows` and
    `provenance`. Raises NotReadyError.
    """
    require_sealed(blobs, matrix_id)
    document = json.loads(blobs.get(_key(matrix_id, GROUP_DOCUMENT)))
    found: dict[str, Any] = document["attributes"]
    return found


def seal(
    blobs: BlobStore,
    manifest: MatrixManifest,
    digests: Mapping[str, str],
    attributes: Mapping[str, Any],
) -> str:
    """Publish a complete matrix and return its digest (64 hex digits).

    `digests`: `array_digest` of every array. `attributes`: JSON object stored with the group next
    to Gramian's own (key `gramian`). Killed half-way, the matrix is not sealed and `seal` can
    be called again; on a sealed matrix it only compares. Raises MissingChunkError or
    CorruptChunkError if a chunk is missing or has the wrong size, ConflictError if the matrix is
    sealed with another digest.
    """
    total = trees.matrix_digest(manifest, digests)
    if is_sealed(blobs, manifest.id):
        there = sealed_digest(blobs, manifest.id)
        if there != total:
            raise ConflictError(
                f"Matrix {manifest.id} is sealed with digest {there}, not {total}.",
                advice="Sealed matrices never change; delete it to compute it anew.",
            )
        return total
    for layout in manifest.arrays:
        _check_complete(blobs, manifest, layout)
    shared = len({layout.shape for layout in manifest.arrays}) == 1
    documents = group_documents(
        [
            ArrayDocument(
                layout.name,
                layout.shape,
                layout.chunk_shape,
                layout.dtype,
                dimension_names(layout.name, len(layout.shape), shared=shared),
                {"digest": digests[layout.name], "symmetric": layout.symmetric},
            )
            for layout in manifest.arrays
        ],
        {
            **attributes,
            "gramian": {
                "format_version": manifest.format_version,
                "id": manifest.id,
                "kind": manifest.kind,
                "digest": total,
                "array_digests": dict(digests),
                "block_rows": manifest.block_rows,
                "provenance": manifest.provenance,
            },
        },
    )
    for key, document in documents.items():  # the group's own document comes last
        blobs.put(_key(manifest.id, key), document)
    return total


def sealed_digest(blobs: BlobStore, matrix_id: str) -> str:
    """Digest recorded at sealing. Raises NotReadyError."""
    return str(attributes(blobs, matrix_id)["gramian"]["digest"])


def write_chunk(
    blobs: BlobStore,
    manifest: MatrixManifest,
    name: str,
    coords: Coordinates,
    values: npt.NDArray[np.generic] | ChunkBuffer,
    *,
    repair: bool = False,
) -> int:
    """Write one chunk atomically; the number of bytes written.

    `values`: the chunk clipped to the array, or padded to the full chunk shape, or a buffer whose
    values are copied no more. Chunks right of
    the diagonal stand for their mirrors, and chunks on it must be bitwise symmetric. Raises
    ConflictError on a sealed matrix unless `repair`: a worker that was given up for dead must not
    change what readers have seen. A repair must restore the digest; `verify` tells.
    """
    layout = _layout(manifest, name)
    key = _stored_key(manifest, layout, coords)
    clipped = tuple(part.stop - part.start for part in layout.chunk_extent(coords))
    array = values.values if isinstance(values, ChunkBuffer) else values
    if array.shape not in (clipped, layout.chunk_shape):
        raise ValueError(f"chunk {coords} of {name} is {clipped}, values are {array.shape}")
    part = array[tuple(slice(0, n) for n in clipped)]
    if layout.symmetric and coords[0] == coords[1] and not is_bitwise_symmetric(part):
        raise ValueError(f"diagonal chunk {coords} of {name} is not exactly symmetric")
    if not repair and is_sealed(blobs, manifest.id):
        raise ConflictError(
            f"Matrix {manifest.id} is sealed.", advice="Sealed matrices never change."
        )
    if isinstance(values, ChunkBuffer):
        data = values.encoded(clipped)
    else:
        data = encode_values(part, layout.chunk_shape, layout.dtype)
    blobs.put(key, data)
    return len(data)


def has_chunk(blobs: BlobStore, manifest: MatrixManifest, name: str, coords: Coordinates) -> bool:
    """Whether a stored chunk is there with the right size (its checksum is not computed)."""
    layout = _layout(manifest, name)
    key, _ = stored_chunk(manifest, layout, coords)
    return blobs.size(key) == encoded_bytes(layout.chunk_shape, layout.dtype)


def read_chunk(
    blobs: BlobStore,
    manifest: MatrixManifest,
    name: str,
    coords: Coordinates,
    *,
    buffer: memoryview | None = None,
) -> npt.NDArray[np.floating]:
    """One chunk clipped to the array; sealed or not, either triangle.

    `buffer`: memory of `encoded_bytes(layout.chunk_shape, layout.dtype)` bytes that is read into;
    the result is a view of it. Without, the result is read-only. Fresh memory for each chunk costs
    as much as reading it: whoever reads many should bring a buffer.

    Raises MissingChunkError, CorruptChunkError, InvalidKeyError outside the grid.
    """
    layout = _layout(manifest, name)
    key, mirrored = stored_chunk(manifest, layout, coords)
    if buffer is None:
        values = decode_chunk(get_chunk(blobs, key), layout, key)
    else:
        checksum = RunningChecksum(len(buffer))
        data = _get_chunk_into(blobs, key, buffer, checksum.add)
        values = decode_chunk(data, layout, key, checksum=checksum.value)
    if mirrored:
        values = values.T
    return values[tuple(slice(0, p.stop - p.start) for p in layout.chunk_extent(coords))]


def read_slice(
    blobs: BlobStore,
    manifest: MatrixManifest,
    name: str,
    rows: slice,
    cols: slice | None = None,
) -> npt.NDArray[np.floating]:
    """A contiguous part of an array as a new array; holds one chunk at a time besides it.

    `rows`, `cols`: slices with step 1 along the first two dimensions (None: all columns). Raises
    NotReadyError, MissingChunkError, CorruptChunkError; ValueError for other steps.
    """
    layout = _layout(manifest, name)
    require_sealed(blobs, manifest.id)
    wanted = [slice(0, n) for n in layout.shape]
    for axis, part in enumerate((rows, cols)):
        if part is not None:
            if axis >= len(layout.shape):
                raise ValueError(f"{name} has {len(layout.shape)} dimension(s)")
            start, stop, step = part.indices(layout.shape[axis])
            if step != 1:
                raise ValueError("slices have step 1")
            wanted[axis] = slice(start, max(start, stop))
    result = np.empty([part.stop - part.start for part in wanted], layout.dtype)
    touched = [
        range(part.start // c, -(-part.stop // c)) if part.stop > part.start else range(0)
        for part, c in zip(wanted, layout.chunk_shape, strict=True)
    ]
    for coords in itertools.product(*touched):
        chunk = read_chunk(blobs, manifest, name, coords)
        source, target = [], []
        for extent, part in zip(layout.chunk_extent(coords), wanted, strict=True):
            first, last = max(extent.start, part.start), min(extent.stop, part.stop)
            source.append(slice(first - extent.start, last - extent.start))
            target.append(slice(first - part.start, last - part.start))
        result[tuple(target)] = chunk[tuple(source)]
    return result


def write_array(
    blobs: BlobStore, manifest: MatrixManifest, name: str, values: npt.NDArray[np.generic]
) -> str:
    """Write all chunks of an array that is in memory; its array digest.

    For results (dual coefficients, predictions); Gram matrices are written tile by tile.
    """
    layout = _layout(manifest, name)
    if values.shape != layout.shape:
        raise ValueError(f"{name} has shape {layout.shape}, values have {values.shape}")
    nodes = []
    for coords in all_stored_coords(layout):
        part = values[layout.chunk_extent(coords)]
        write_chunk(blobs, manifest, name, coords, part)
        node = trees.chunk_digest(layout, coords, part, block_rows=manifest.block_rows)
        nodes.append((coords, node))
    return trees.array_digest(layout, nodes, manifest.block_rows)


def stored_coords(blobs: BlobStore, manifest: MatrixManifest, name: str) -> set[Coordinates]:
    """Coordinates of the stored chunks that are there with the right size. One listing."""
    layout = _layout(manifest, name)
    folder = _key(manifest.id, name)
    expected = encoded_bytes(layout.chunk_shape, layout.dtype)
    present = set()
    for key, size in blobs.scan(f"{folder}/c"):
        try:
            coords = parse_chunk_key(key.removeprefix(f"{folder}/"), layout.grid)
        except InvalidKeyError:
            continue  # not ours: a file that somebody put into the folder
        if size == expected and not (layout.symmetric and coords[0] > coords[1]):
            present.add(coords)
    return present


def all_stored_coords(layout: ArrayLayout) -> Iterator[Coordinates]:
    """Coordinates of every chunk that a complete array has on disk, row by row."""
    for coords in itertools.product(*map(range, layout.grid)):
        if not (layout.symmetric and coords[0] > coords[1]):
            yield coords


def stored_chunk(
    manifest: MatrixManifest, layout: ArrayLayout, coords: Coordinates
) -> tuple[str, bool]:
    """Storage key of the chunk that holds `coords`, and whether it holds the transpose.

    Raises InvalidKeyError outside the grid.
    """
    if layout.symmetric and len(coords) == 2 and coords[0] > coords[1]:
        return _stored_key(manifest, layout, (coords[1], coords[0])), True
    return _stored_key(manifest, layout, coords), False


def get_chunk(blobs: BlobStore, key: str) -> bytes:
    """Bytes of a chunk file, unchecked. Raises MissingChunkError."""
    try:
        return blobs.get(key)
    except NotFoundError:
        raise missing_chunk(key) from None


def _get_chunk_into(
    blobs: BlobStore, key: str, buffer: memoryview, seen: Callable[[memoryview], None]
) -> memoryview:
    try:
        size = blobs.get_into(key, buffer, seen)
    except NotFoundError:
        raise missing_chunk(key) from None
    check_size(size, len(buffer), key)
    return buffer


def missing_chunk(key: str) -> MissingChunkError:
    return MissingChunkError(
        f"Chunk {key} is not there.",
        advice="It was not written yet, or it was removed; have this tile recomputed.",
        key=key,
    )


def delete(blobs: BlobStore, matrix_id: str) -> None:
    """Remove a matrix with everything in it; nothing happens when it is not there."""
    check_matrix_id(matrix_id)
    # Unseal first: on stores without folder rename, nobody may read a half-deleted matrix.
    blobs.delete(_key(matrix_id, GROUP_DOCUMENT))
    blobs.delete_prefix(f"{FOLDER}/{matrix_id}")


def scratch_key(matrix_id: str) -> str:
    """Prefix of what a job keeps beside its unsealed result to go on from; not an array name."""
    return _key(check_matrix_id(matrix_id), "_scratch")


def list_matrices(blobs: BlobStore) -> list[str]:
    """Ids of all matrices that have a manifest, sealed or not, sorted."""
    return sorted(
        name
        for name in blobs.folders(FOLDER)
        if blobs.size(f"{FOLDER}/{name}/{MANIFEST}") is not None
    )


def _check_complete(blobs: BlobStore, manifest: MatrixManifest, layout: ArrayLayout) -> None:
    if len(present := stored_coords(blobs, manifest, layout.name)) == layout.stored_chunks:
        return
    first = next(c for c in all_stored_coords(layout) if c not in present)
    key = _stored_key(manifest, layout, first)
    if (size := blobs.size(key)) is not None:
        check_size(size, encoded_bytes(layout.chunk_shape, layout.dtype), key)
    raise missing_chunk(key)


def _stored_key(manifest: MatrixManifest, layout: ArrayLayout, coords: Coordinates) -> str:
    if len(coords) != len(layout.grid) or any(
        not 0 <= i < n for i, n in zip(coords, layout.grid, strict=True)
    ):
        raise InvalidKeyError(f"{coords} lies outside the chunk grid {layout.grid}.")
    if layout.symmetric and coords[0] > coords[1]:
        raise InvalidKeyError(f"{coords} is the mirror of a stored chunk and cannot be written.")
    return f"{_key(manifest.id, layout.name)}/{chunk_key(coords)}"


def _layout(manifest: MatrixManifest, name: str) -> ArrayLayout:
    try:
        return manifest.array(name)
    except KeyError:
        raise NotFoundError(
            f"Matrix {manifest.id} has no array {name[:64]!r}.",
            advice=f"It has {', '.join(layout.name for layout in manifest.arrays)}.",
        ) from None


def _key(matrix_id: str, key: str) -> str:
    return f"{FOLDER}/{matrix_id}/{key}"
