"""Wire models of data sets."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from service.schemas.common import EXAMPLE_DATASET, DatasetId, Wire


class TargetsOut(Wire):
    """The targets stored with a data set: integer labels (m,) or real values (m, k)."""

    shape: list[int]
    dtype: str


class DatasetOut(Wire):
    """One stored data set. Its id is a function of its content."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "id": EXAMPLE_DATASET,
                    "name": "mnist-train",
                    "shape": [4000, 784],
                    "dtype": "float32",
                    "targets": {"shape": [4000], "dtype": "int64"},
                    "stored_bytes": 12_576_064,
                    "digest": "0f5e27a1c9d84b6e93a2b7c1d0e4f682" + "0" * 32,
                    "created_at": "2026-11-22T10:00:00Z",
                    "links": {"self": f"/v1/datasets/{EXAMPLE_DATASET}"},
                }
            ]
        },
    )

    id: DatasetId
    name: str | None
    shape: list[int] = Field(description="Samples first: (m, d), (m, T, C) or (m, P, Q, C).")
    dtype: str
    targets: TargetsOut | None
    stored_bytes: int
    digest: str = Field(description="SHA-256 of the canonical content.")
    created_at: datetime
    links: dict[str, str]
