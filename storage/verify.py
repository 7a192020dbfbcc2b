"""Does a stored matrix still hold the numbers that were written? Reads every chunk to find out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage import digest as trees
from storage import matrices
from storage.blobs import BlobStore
from storage.chunks import decode_chunk
from storage.errors import CorruptChunkError, MissingChunkError
from storage.format import ArrayLayout, MatrixManifest
from storage.symmetry import is_bitwise_symmetric

# Array and chunk coordinates.
ChunkName = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `coordinates`: the chunk to recompute, None for the whole array.

    `kind`: `missing-chunk`, `corrupt-chunk` (size, checksum, padding or symmetry is wrong) or
    `digest-mismatch` (intact as a chunk or an array, but not the numbers that were sealed).
    """

    array: str
    coordinates: tuple[int, ...] | None
    kind: str
    message: str


def verify(
    blobs: BlobStore,
    manifest: MatrixManifest,
    *,
    recorded: Mapping[ChunkName, bytes] | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> list[Problem]:
    """Everything that is wrong with a matrix; an empty list means it is intact.

    Decodes every stored chunk, one in memory at a time, and recomputes the digests. Of a matrix
    that is not sealed only the chunks that are there are checked. `recorded`: chunk digests (32
    bytes) that were noted when the chunks were made; with them a wrong chunk is named, not only
    its array. `check_stop` is called before each chunk and may raise.
    """
    known = recorded or {}
    sealed = matrices.is_sealed(blobs, manifest.id)
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for layout in manifest.arrays:
        nodes: list[tuple[tuple[int, ...], bytes]] = []
        for coordinates in matrices.all_stored_coords(layout):
            check_stop()
            try:
                values = _read(blobs, manifest, layout, coordinates)
            except (MissingChunkError, CorruptChunkError) as error:
                if sealed or not isinstance(error, MissingChunkError):
                    problem = Problem(layout.name, coordinates, error.kind, error.message)
                    problems.append(problem)
                continue
            node = trees.chunk_digest(layout, coordinates, values, block_rows=manifest.block_rows)
            nodes.append((coordinates, node))
            if known.get((layout.name, coordinates), node) != node:
                message = f"Chunk {coordinates} of {layout.name} holds other numbers than it did."
                problems.append(Problem(layout.name, coordinates, "digest-mismatch", message))
        if len(nodes) == layout.stored_chunks:
            found[layout.name] = trees.array_digest(layout, nodes, manifest.block_rows)
    if sealed:
        problems += _compare(blobs, manifest, found)
    return problems


def _read(
    blobs: BlobStore, manifest: MatrixManifest, layout: ArrayLayout, coordinates: tuple[int, ...]
) -> npt.NDArray[np.floating]:
    key, _ = matrices.stored_chunk(manifest, layout, coordinates)
    chunk = decode_chunk(matrices.get_chunk(blobs, key), layout, key)
    clipped = tuple(slice(0, e.stop - e.start) for e in layout.chunk_extent(coordinates))
    values = chunk[clipped]
    padding = np.ones(chunk.shape, bool)
    padding[clipped] = False
    if not np.isnan(chunk[padding]).all():
        raise CorruptChunkError(f"Chunk {key} has numbers beyond the edge of the array.", key=key)
    on_diagonal = layout.symmetric and coordinates[0] == coordinates[1]
    if on_diagonal and not is_bitwise_symmetric(values):
        raise CorruptChunkError(f"Chunk {key} on the diagonal is not symmetric.", key=key)
    return values


def _compare(blobs: BlobStore, manifest: MatrixManifest, found: dict[str, str]) -> list[Problem]:
    recorded = matrices.attributes(blobs, manifest.id)["gramian"]
    problems = [
        Problem(
            name,
            None,
            "digest-mismatch",
            f"Array {name} has digest {digest}, sealed was {recorded['array_digests'].get(name)}.",
        )
        for name, digest in found.items()
        if recorded["array_digests"].get(name) != digest
    ]
    if not problems and len(found) == len(manifest.arrays):
        total = trees.matrix_digest(manifest, found)
        if total != recorded["digest"]:
            message = f"The matrix has digest {total}, sealed was {recorded['digest']}."
            problems.append(Problem(manifest.arrays[0].name, None, "digest-mismatch", message))
    return problems
