"""Rows for catalog tests: ids that follow the grammar, small tasks, made-up tiles."""

from __future__ import annotations

import hashlib
from typing import Any

from storage.catalog import Catalog, JobRecord, TileRecord
from storage.keys import dataset_id, matrix_id, new_job_id


def hex_digest(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def ds(name: object) -> str:
    return dataset_id(hex_digest(name))


def mx(name: object) -> str:
    return matrix_id(hex_digest(name))


def add_dataset(catalog: Catalog, name: str = "x1") -> str:
    return catalog.add_dataset({"id": ds(name), "shape": [4, 2]}, name).id


def create_job(catalog: Catalog, request: object = "request", **given: Any) -> JobRecord:
    """A new job; AssertionError if another one answered."""
    job, created = submit(catalog, request, **given)
    assert created
    return job


def submit(catalog: Catalog, request: object = "request", **given: Any) -> tuple[JobRecord, bool]:
    arguments: dict[str, Any] = {
        "id": new_job_id(),
        "task": {"type": "gram"},
        "request_digest": hex_digest(request),
        "body_digest": hex_digest(given.pop("body", request)),
        "idempotency_key": None,
        "estimate": {"tiles": 3},
        "matrix_id": None,
    }
    return catalog.create_job(**(arguments | given))


def tile(i: int, j: int, array: str = "ntk", **given: Any) -> TileRecord:
    values: dict[str, Any] = {
        "digest": hashlib.sha256(f"{array}/{i}/{j}".encode()).digest(),
        "seconds": 0.25,
        "minimum": float(i),
        "maximum": float(j) + 0.5,
        "nonfinite": 0,
        "stored_bytes": 1000,
    }
    return TileRecord(array=array, i=i, j=j, **(values | given))
