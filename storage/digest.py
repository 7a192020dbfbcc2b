"""Digests of stored arrays: a tree of BLAKE3 hashes over compute blocks.

What is hashed. An array is cut into blocks with a fixed edge of `block_rows` (b), clipped at the
array's edges, aligned to multiples of b. A block's leaf is BLAKE3 of its clipped values in C order,
little-endian. Which cut depends on the chunk shape only:

- square chunks (Gram matrices): blocks are b x b; of a symmetric array only blocks (p, q) with
  p <= q are leaves, the others being their transposes;
- anything else (vectors, tall results): b rows by all the other dimensions, one block column.

Leaves are joined in a quadtree. Node (i, j) of level l+1 has the children (2i, 2j), (2i, 2j+1),
(2i+1, 2j), (2i+1, 2j+1) of level l; an absent child counts as 32 zero bytes. A node is

- absent, if all its children are;
- its first child, if the other three are absent (so trees of different heights agree);
- BLAKE3 of its four children, 128 bytes, otherwise.

The root is the single node of the first level that has only one. The array digest is BLAKE3 of a
header (name, shape, dtype, symmetric, b; canonical JSON and a newline) followed by the root.

Why it does not depend on the tile size. The leaves depend on values, shape, symmetry and b alone.
A node depends only on the leaves below it, which for node (i, j) of level l are the blocks (p, q)
with i 2^l <= p < (i+1) 2^l and the same for j and q. Tile (I, J) with edge b 2^k covers exactly the
blocks below node (I, J) of level k: `tile_digest` computes that node, from the tile alone. It stops
at the first level l <= k with one node, which is right although the tile may be clipped: between l
and k every node on the way up has only its first child, so it equals that child. In a diagonal tile
the local condition p <= q is the global one, in a tile right of the diagonal it always holds. So
the level-k nodes that `array_digest` starts from are the same nodes that it would pass through if
it had started from the leaves, for every k.

Leaves and inner nodes need no different prefixes: the header fixes the shape of the tree, so there
is one reading of every node. BLAKE3: O'Connor, Aumasson, Neves, Wilcox-O'Hearn (2020).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from storage.format import FORMAT_VERSION, ArrayLayout, MatrixManifest

DIGEST_BYTES = 32

Node = npt.NDArray[np.uint8]  # (rows, columns, 32); all-zero rows are absent nodes


def block_digests(
    values: npt.NDArray[np.generic],
    *,
    block_rows: int,
    diagonal: bool = False,
    square: bool = True,
) -> Node:
    """Leaves of one tile: uint8 array (block rows, block columns, 32), zeros where absent.

    `values`: a tile clipped to the array. `diagonal`: the tile lies on the diagonal of a symmetric
    array. `square`: blocks are block_rows x block_rows; otherwise (and always for one-dimensional
    values) a block is `block_rows` rows of everything.
    """
    rows = values.reshape(len(values), -1)
    width = block_rows if square and values.ndim == 2 else rows.shape[1]
    grid = (math.ceil(rows.shape[0] / block_rows), math.ceil(rows.shape[1] / width))
    leaves = empty_leaves(grid)
    for p in range(grid[0]):
        for q in range(p if diagonal else 0, grid[1]):
            block = rows[p * block_rows : (p + 1) * block_rows, q * width : (q + 1) * width]
            leaves[p, q] = leaf(block)
    return leaves


def empty_leaves(grid: tuple[int, int]) -> Node:
    """Leaves of a tile of `grid` blocks, all absent, to be filled in one by one."""
    return np.zeros((*grid, DIGEST_BYTES), np.uint8)


def leaf(block: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Digest (32 numbers) of one block, clipped to the array, in any memory and byte order."""
    data = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<"))
    return _hash(data.data.cast("B"))


def tile_digest(
    values: npt.NDArray[np.generic],
    *,
    block_rows: int,
    diagonal: bool = False,
    square: bool = True,
) -> bytes:
    """Digest (32 bytes) of one tile clipped to its array. Arguments as for `block_digests`."""
    leaves = block_digests(values, block_rows=block_rows, diagonal=diagonal, square=square)
    return root(leaves)


def chunk_digest(
    layout: ArrayLayout,
    coordinates: tuple[int, ...],
    values: npt.NDArray[np.generic],
    *,
    block_rows: int,
) -> bytes:
    """`tile_digest` of the stored chunk at `coordinates`, `values` being clipped to the array."""
    return tile_digest(
        values,
        block_rows=block_rows,
        diagonal=layout.symmetric and coordinates[0] == coordinates[1],
        square=has_square_chunks(layout),
    )


def array_digest(
    layout: ArrayLayout,
    tile_digests: Iterable[tuple[tuple[int, ...], bytes]],
    block_rows: int,
) -> str:
    """Digest of an array (64 hex digits) from those of its stored chunks, in any order.

    Raises ValueError unless every stored chunk is there exactly once.
    """
    grid = (layout.grid[0], layout.grid[1] if has_square_chunks(layout) else 1)
    nodes = np.zeros((*grid, DIGEST_BYTES), np.uint8)
    seen = np.zeros(grid, bool)
    for coordinates, digest in tile_digests:
        i, j = coordinates[0], coordinates[1] if len(coordinates) > 1 else 0
        if not (0 <= i < grid[0] and 0 <= j < grid[1]) or (layout.symmetric and i > j):
            raise ValueError(f"{layout.name} has no stored chunk {coordinates}")
        if seen[i, j]:
            raise ValueError(f"chunk {coordinates} of {layout.name} was given twice")
        seen[i, j] = True
        nodes[i, j] = np.frombuffer(digest, np.uint8, count=DIGEST_BYTES)
    if (count := int(seen.sum())) != layout.stored_chunks:
        raise ValueError(f"{layout.name} has {layout.stored_chunks} chunks, {count} were given")
    header = {
        "block_rows": block_rows,
        "dtype": layout.dtype,
        "name": layout.name,
        "shape": list(layout.shape),
        "symmetric": layout.symmetric,
    }
    return _hash(canonical_json(header) + b"\n" + root(nodes)).tobytes().hex()


def matrix_digest(manifest: MatrixManifest, array_digests: Mapping[str, str]) -> str:
    """Digest of a matrix (64 hex digits): its id, its kind and the digests of its arrays.

    Raises ValueError unless `array_digests` names exactly the manifest's arrays.
    """
    names = {layout.name for layout in manifest.arrays}
    if set(array_digests) != names:
        raise ValueError(f"digests of {sorted(array_digests)} given, arrays are {sorted(names)}")
    document = {
        "arrays": dict(array_digests),
        "format": FORMAT_VERSION,
        "id": manifest.id,
        "kind": manifest.kind,
    }
    return _hash(canonical_json(document)).tobytes().hex()


def has_square_chunks(layout: ArrayLayout) -> bool:
    """Whether the array is cut into square blocks (otherwise into panels of whole rows)."""
    return len(layout.shape) == 2 and layout.chunk_shape[0] == layout.chunk_shape[1]


def check_blocks(layout: ArrayLayout, block_rows: int) -> None:
    """Raises ValueError unless every chunk is a node of the tree: edge = block_rows * 2**k."""
    ratio, rest = divmod(layout.chunk_shape[0], block_rows)
    if rest or ratio.bit_count() != 1:
        raise ValueError(
            f"chunks of {layout.name} have {layout.chunk_shape[0]} rows, "
            f"which is not {block_rows} times a power of two"
        )
    if not has_square_chunks(layout) and layout.chunk_shape[1:] != layout.shape[1:]:
        raise ValueError(f"chunks of {layout.name} are neither square nor whole rows")


def canonical_json(document: Any) -> bytes:
    """The one spelling of a JSON document that is hashed: sorted keys, no spaces, UTF-8."""
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def root(nodes: Node) -> bytes:
    """Digest (32 bytes) of the node above `nodes`: of a tile from its leaves."""
    while nodes.shape[:2] != (1, 1):
        nodes = _parents(nodes)
    return nodes.tobytes()


def _parents(nodes: Node) -> Node:
    rows, columns = (math.ceil(n / 2) for n in nodes.shape[:2])
    padded = np.zeros((2 * rows, 2 * columns, DIGEST_BYTES), np.uint8)
    padded[: nodes.shape[0], : nodes.shape[1]] = nodes
    children = (
        padded.reshape(rows, 2, columns, 2, DIGEST_BYTES)
        .transpose(0, 2, 1, 3, 4)
        .reshape(rows * columns, 4 * DIGEST_BYTES)
    )
    parents = children[:, :DIGEST_BYTES].copy()
    for index in np.flatnonzero(children[:, DIGEST_BYTES:].any(axis=1)):
        parents[index] = _hash(children[index].tobytes())
    return parents.reshape(rows, columns, DIGEST_BYTES)


def _hash(data: bytes | memoryview) -> Node:
    return np.frombuffer(blake3(data).digest(), np.uint8)
