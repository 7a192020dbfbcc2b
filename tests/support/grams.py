"""Symmetric positive definite test matrices with known spectra, dense and sealed in a store."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from storage import matrices
from storage.blobs import BlobStore
from storage.format import ArrayLayout, MatrixManifest
from storage.keys import matrix_id
from workers.solves.source import StoredTiles


def spd(
    rows: int, *, condition: float = 100.0, seed: int = 0, dtype: str = "float32"
) -> np.ndarray:
    """Exactly symmetric; before rounding, eigenvalues geometric from 1 to `condition`."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((rows, rows)))
    k = (q * np.geomspace(1.0, condition, rows)) @ q.T
    k = k.astype(dtype)
    return np.triu(k) + np.triu(k, 1).T


def kernel_like(
    train: int, test: int, *, features: int = 6, seed: int = 0, dtype: str = "float32"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A Laplace kernel of random points: K (train, train), cross (test, train), and labels."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((train + test, features))
    distance = np.sqrt(np.maximum(((x[:, None] - x[None]) ** 2).sum(-1), 0))
    k = np.exp(-distance / features).astype(dtype)
    k = np.triu(k) + np.triu(k, 1).T
    labels = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)
    return k[:train, :train], k[train:, :train], labels[:train], labels[train:]


def sealed(
    blobs: BlobStore,
    values: np.ndarray,
    *,
    symmetric: bool = True,
    tile_rows: int = 64,
    block_rows: int = 32,
    name: str = "ntk",
    seal: bool = True,
    provenance: dict[str, Any] | None = None,
) -> str:
    """Store `values` as a matrix with one array, sealed unless told; its id.

    The id depends on the tile size too, so that one store can hold a matrix in several cuts.
    """
    key = hashlib.sha256(values.tobytes() + repr((symmetric, tile_rows, name)).encode())
    manifest = MatrixManifest(
        id=matrix_id(key.hexdigest()),
        kind="gram",
        arrays=(
            ArrayLayout(name, values.shape, (tile_rows, tile_rows), str(values.dtype), symmetric),  # type: ignore[arg-type]
        ),
        block_rows=block_rows,
        provenance=provenance or {},
    )
    matrices.create(blobs, manifest)
    digest = matrices.write_array(blobs, manifest, name, values)
    if seal:
        matrices.seal(blobs, manifest, {name: digest}, {})
    return manifest.id


def stored_tiles(blobs: BlobStore, values: np.ndarray, **cut: Any) -> StoredTiles:
    """`values` sealed in the store (`sealed` says how it may be cut), as solvers read them."""
    return StoredTiles(
        blobs.url, matrices.load_manifest(blobs, sealed(blobs, values, **cut)), "ntk"
    )


def ridge_solution(k: np.ndarray, rhs: np.ndarray, ridge: float) -> np.ndarray:
    """(K + ridge·I)⁻¹ rhs by dense float64 linear algebra."""
    return np.linalg.solve(k.astype(np.float64) + ridge * np.eye(len(k)), rhs)
