"""What a running service has stored, and ways to put something there without computing it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np

from storage import matrices
from storage.format import MatrixManifest
from storage.keys import matrix_id
from support.matrices import panel_manifest, sealed_gram, write_all
from support.server import LiveServer


def snapshot(server: LiveServer) -> dict[str, Any]:
    """Files with their sizes, and every row that a client can see."""
    services = server.services
    folders = (services.settings.store_dir, services.settings.scratch_dir)
    return {
        "files": sorted(
            (str(path), path.stat().st_size)
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file()
        ),
        "datasets": [r.id for r in services.catalog.list_datasets(500)[0]],
        "jobs": [(r.id, r.state, r.target) for r in services.catalog.list_jobs(500)[0]],
        "matrices": [(r.id, r.state) for r in services.catalog.list_matrices(500)[0]],
    }


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def put_sealed_gram(
    server: LiveServer, shape: tuple[int, int] = (40, 40), **options: Any
) -> tuple[MatrixManifest, dict[str, np.ndarray]]:
    """A sealed matrix of random numbers in store and catalog, and these numbers."""
    services = server.services
    manifest, arrays = sealed_gram(services.blobs, shape, **options)
    register(server, manifest)
    digest = matrices.sealed_digest(services.blobs, manifest.id)
    services.catalog.seal_matrix(manifest.id, digest, manifest.stored_bytes)
    return manifest, arrays


def put_sealed_solution(
    server: LiveServer, request: dict[str, Any], shape: tuple[int, int], *, name: str = "dual"
) -> str:
    """The id of a sealed solution with random coefficients, in store and catalog."""
    services = server.services
    bare = panel_manifest({name: shape})
    key = hashlib.sha256(repr((request, shape, name)).encode()).hexdigest()
    manifest = replace(bare, id=matrix_id(key), kind="solution", provenance={"request": request})
    values = np.random.default_rng(0).standard_normal(shape)
    digests = write_all(services.blobs, manifest, {name: values})
    matrices.seal(services.blobs, manifest, digests, {"result": {"classes": [*range(shape[1])]}})
    register(server, manifest)
    digest = matrices.sealed_digest(services.blobs, manifest.id)
    services.catalog.seal_matrix(manifest.id, digest, manifest.stored_bytes)
    return manifest.id


def register(server: LiveServer, manifest: MatrixManifest) -> None:
    """Note a matrix in the catalog as one that is being built."""
    document = json.loads(json.dumps(manifest.to_json()))
    server.services.catalog.add_matrix(manifest.id, manifest.kind, document)
