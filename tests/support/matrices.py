"""Small sealed matrices in a temporary store, with the NumPy arrays that they must equal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from storage import digest as trees
from storage import matrices
from storage.blobs import BlobStore
from storage.format import ArrayLayout, DType, MatrixManifest
from storage.keys import matrix_id


def random_array(
    shape: tuple[int, ...], *, symmetric: bool = False, dtype: DType = "float32", seed: int = 0
) -> np.ndarray:
    """Standard normal numbers, exactly symmetric on request."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    if symmetric:
        values = np.triu(values) + np.triu(values, 1).T
    return values


def gram_manifest(
    shape: tuple[int, int],
    *,
    names: Sequence[str] = ("ntk",),
    symmetric: bool = True,
    block_rows: int = 8,
    tile_rows: int = 16,
    dtype: DType = "float32",
    provenance: dict[str, Any] | None = None,
) -> MatrixManifest:
    """A Gram manifest whose id depends on everything but the tile size, as in real jobs."""
    request = repr((shape, tuple(names), symmetric, block_rows, dtype))
    return MatrixManifest(
        id=matrix_id(hashlib.sha256(request.encode()).hexdigest()),
        kind="gram",
        arrays=tuple(
            ArrayLayout(name, shape, (tile_rows, tile_rows), dtype, symmetric) for name in names
        ),
        block_rows=block_rows,
        provenance=provenance or {"kernel": {"preset": "fc", "depth": 3}},
    )


def write_all(
    blobs: BlobStore, manifest: MatrixManifest, arrays: dict[str, np.ndarray]
) -> dict[str, str]:
    """Create the matrix and write every stored chunk; the array digests."""
    matrices.create(blobs, manifest)
    return {name: matrices.write_array(blobs, manifest, name, a) for name, a in arrays.items()}


def sealed_gram(
    blobs: BlobStore,
    shape: tuple[int, int] = (40, 40),
    *,
    names: Sequence[str] = ("ntk",),
    symmetric: bool = True,
    seed: int = 0,
    **layout: Any,
) -> tuple[MatrixManifest, dict[str, np.ndarray]]:
    """A sealed Gram matrix of random numbers, and these numbers."""
    manifest = gram_manifest(shape, names=names, symmetric=symmetric, **layout)
    arrays = {
        name: random_array(
            shape, symmetric=symmetric, dtype=manifest.arrays[0].dtype, seed=seed + k
        )
        for k, name in enumerate(names)
    }
    matrices.seal(blobs, manifest, write_all(blobs, manifest, arrays), {})
    return manifest, arrays


def flip_bit(blobs: BlobStore, key: str) -> None:
    """Damage one bit in the middle of a stored blob."""
    data = bytearray(blobs.get(key))
    data[len(data) // 2] ^= 0x10
    blobs.put(key, bytes(data))


def panel_manifest(
    arrays: dict[str, tuple[int, ...]], *, block_rows: int = 8, tile_rows: int = 16
) -> MatrixManifest:
    """A manifest of results (vectors, tall matrices) in chunks of whole rows."""
    return MatrixManifest(
        id=matrix_id(hashlib.sha256(repr((arrays, block_rows)).encode()).hexdigest()),
        kind="solution",
        arrays=tuple(
            ArrayLayout(name, shape, (tile_rows, *shape[1:]), "float64")
            for name, shape in arrays.items()
        ),
        block_rows=block_rows,
    )


def digest_in_tiles(values: np.ndarray, manifest: MatrixManifest) -> str:
    """Array digest of `values` computed tile by tile, without a store."""
    layout = manifest.arrays[0]
    nodes = [
        (
            c,
            trees.chunk_digest(
                layout, c, values[layout.chunk_extent(c)], block_rows=manifest.block_rows
            ),
        )
        for c in matrices.all_stored_coords(layout)
    ]
    return trees.array_digest(layout, nodes, manifest.block_rows)
