"""Wire models of stored matrices."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from service.schemas.common import EXAMPLE_DATASET, EXAMPLE_MATRIX, MatrixId, Wire


class ArrayOut(Wire):
    """One array of a matrix. Symmetric arrays read as the whole square."""

    name: str
    shape: list[int]
    chunk_shape: list[int]
    dtype: str
    symmetric: bool


class MatrixOut(Wire):
    """A stored matrix. `digest` covers every value and does not depend on the tile size."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "id": EXAMPLE_MATRIX,
                    "kind": "gram",
                    "state": "sealed",
                    "arrays": [
                        {
                            "name": "ntk",
                            "shape": [4000, 4000],
                            "chunk_shape": [512, 512],
                            "dtype": "float32",
                            "symmetric": True,
                        }
                    ],
                    "digest": "9c0e" + "0" * 60,
                    "stored_bytes": 37_748_880,
                    "provenance": {"request": {"task": "gram", "x1": EXAMPLE_DATASET}},
                    "created_at": "2026-11-22T10:00:01Z",
                    "sealed_at": "2026-11-22T10:00:03Z",
                    "links": {
                        "self": f"/v1/matrices/{EXAMPLE_MATRIX}",
                        "slice": f"/v1/matrices/{EXAMPLE_MATRIX}/slice",
                        "zarr": f"/v1/matrices/{EXAMPLE_MATRIX}/zarr",
                    },
                }
            ]
        },
    )

    id: MatrixId
    kind: str
    state: Literal["building", "sealed"]
    arrays: list[ArrayOut]
    digest: str | None
    stored_bytes: int | None
    provenance: dict[str, Any] = Field(
        description="What was computed from what, by which library versions."
    )
    created_at: datetime
    sealed_at: datetime | None
    links: dict[str, str]


class SliceOut(Wire):
    """A slice as JSON. Numbers that are not finite come as null."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "array": "ntk",
                    "rows": [0, 2],
                    "cols": [0, 2],
                    "dtype": "float32",
                    "values": [[0.74, 0.31], [0.31, 0.75]],
                }
            ]
        },
    )

    array: str
    rows: tuple[int, int] = Field(description="First row, and the one after the last.")
    cols: tuple[int, int] | None
    dtype: str
    values: list[Any]
