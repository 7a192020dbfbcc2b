"""Wire models of what pictures are made from."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from service.schemas.common import EXAMPLE_JOB, EXAMPLE_MATRIX, JobId, MatrixId, Wire
from service.schemas.jobs import StateName


class PreviewOut(Wire):
    """Means over the cells of a window. Numbers that are not finite, and holes, come as null."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "array": "ntk",
                    "shape": [4000, 4000],
                    "dtype": "float32",
                    "rows": [0, 4000],
                    "cols": [0, 4000],
                    "cell": 2048,
                    "cell_columns": 2048,
                    "level": 2048,
                    "exact": False,
                    "low": 0.31,
                    "high": 0.75,
                    "holes": 0,
                    "values": [[0.74, 0.31], [0.31, 0.75]],
                }
            ]
        },
    )

    array: str
    shape: list[int]
    dtype: str
    rows: tuple[int, int] = Field(
        description="First row shown, and the one after the last: what was asked for, grown to"
        " whole cells. Arrays of more than two dimensions appear as rows by everything else."
    )
    cols: tuple[int, int]
    cell: int = Field(description="Rows per cell; 1: the entries themselves.")
    cell_columns: int = Field(
        description="Columns per cell; another number than rows only for results that are tables"
        " and for windows more than eight times longer than wide."
    )
    level: int = Field(description="Edge of the stored cells that these were made from.")
    exact: bool
    low: float | None = Field(description="Lowest finite number among `values`.")
    high: float | None
    holes: int = Field(description="Cells of which nothing is stored yet.")
    values: list[list[float | None]]


class TileTotals(Wire):
    count: int
    seconds: float = Field(description="Summed over the tiles, as their workers measured them.")


class Histogram(Wire):
    """`counts[k]` of `of` lie between `edges[k]` and `edges[k + 1]`; what is not finite is left
    out."""

    of: str = Field(description="What was counted: entries, or means of cells of entries.")
    cell: int = Field(description="Entries along the edge of such a cell; 1: entries.")
    edges: list[float]
    counts: list[int]


class Diagonal(Wire):
    """Of the finite entries on the diagonal; null without any. `values`: their means over
    consecutive groups of `rows_per_value`, null where a group has no finite entry."""

    minimum: float | None
    maximum: float | None
    mean: float | None
    trace: float | None = Field(description="Sum of the diagonal; null if it is not finite.")
    rows_per_value: int
    values: list[float | None]


class StatisticsOut(Wire):
    """What the numbers of a stored array are like."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "array": "ntk",
                    "shape": [4000, 4000],
                    "symmetric": True,
                    "minimum": 0.01,
                    "maximum": 1.93,
                    "nonfinite": 0,
                    "range_of": "records of all tiles",
                    "tiles": {"count": 36, "seconds": 6.9},
                    "histogram": {
                        "of": "means of 8 x 8 entries",
                        "cell": 8,
                        "edges": [0.02, 0.96, 1.9],
                        "counts": [200000, 50000],
                    },
                    "diagonal": {
                        "minimum": 0.7,
                        "maximum": 1.93,
                        "mean": 1.0,
                        "trace": 4000.0,
                        "rows_per_value": 2000,
                        "values": [1.0, 1.0],
                    },
                }
            ]
        },
    )

    array: str
    shape: list[int]
    symmetric: bool
    minimum: float | None = Field(description="Exact, over the finite entries; null without any.")
    maximum: float | None
    nonfinite: int | None = Field(
        description="Entries that are NaN or infinite, of a symmetric array those stored; null"
        " where nobody has counted them (matrices made elsewhere)."
    )
    range_of: str = Field(description="What `minimum` and `maximum` were taken from.")
    tiles: TileTotals | None = Field(description="Null for results that were not made in tiles.")
    histogram: Histogram
    diagonal: Diagonal | None = Field(description="Null for arrays that are not square.")


class WorkerShare(Wire):
    """What one worker did of a job's tiles, since the job was last taken up."""

    worker: str = Field(description="Its address.")
    tiles: int
    seconds: float


class FailureOut(Wire):
    """One attempt at a tile that failed. `fatal`: trying again cannot help."""

    tile: tuple[int, int]
    kind: str
    message: str
    advice: str
    fatal: bool
    at: datetime


class TilesOut(Wire):
    """How far the tiles of a job are, in cells of `tiles_per_cell` x `tiles_per_cell` tiles."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "job": EXAMPLE_JOB,
                    "matrix": EXAMPLE_MATRIX,
                    "array": "ntk",
                    "state": "running",
                    "grid": [2, 2],
                    "symmetric": True,
                    "tile_rows": 512,
                    "tiles_total": 3,
                    "tiles_done": 2,
                    "tile_seconds": 0.4,
                    "tiles_per_cell": 1,
                    "total": [[1, 1], [0, 1]],
                    "done": [[1, 0], [0, 1]],
                    "seconds": [[0.2, 0.0], [0.0, 0.2]],
                    "workers": [{"worker": "tcp://127.0.0.1:41234", "tiles": 2, "seconds": 0.4}],
                    "failures": [
                        {
                            "tile": [0, 1],
                            "kind": "tile-failed",
                            "message": "OSError: Input/output error at get:131",
                            "advice": "Read the worker's log.",
                            "fatal": False,
                            "at": "2026-11-22T10:00:02Z",
                        }
                    ],
                }
            ]
        },
    )

    job: JobId
    matrix: MatrixId
    array: str = Field(description="The array whose tiles were counted; all have the same.")
    state: StateName
    grid: tuple[int, int] = Field(description="Tiles along rows and columns.")
    symmetric: bool = Field(description="Only tiles on and above the diagonal are computed.")
    tile_rows: int
    tiles_total: int
    tiles_done: int
    tile_seconds: float
    tiles_per_cell: int
    total: list[list[int]] = Field(description="Tiles that each cell stands for.")
    done: list[list[int]]
    seconds: list[list[float]] = Field(description="Of the tiles that are done, summed.")
    workers: list[WorkerShare] = Field(description="At most 32, those with most tiles.")
    failures: list[FailureOut] = Field(description="The newest first, at most 50.")


class WorkerOut(Wire):
    """One worker process. `queued`: tasks it holds and has not begun."""

    address: str
    name: str
    threads: int
    state: str
    memory_bytes: int
    memory_limit_bytes: int = Field(description="0: none.")
    cpu_percent: float = Field(description="Of one core.")
    executing: int
    queued: int


class StoreOut(Wire):
    free_bytes: int | None = Field(description="Null where the store cannot tell.")
    used_bytes: int = Field(description="Of data sets and matrices, complete or not.")


class ClusterOut(Wire):
    """The machine room at a glance."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "scheduler": True,
                    "workers": [
                        {
                            "address": "tcp://127.0.0.1:41234",
                            "name": "0",
                            "threads": 1,
                            "state": "running",
                            "memory_bytes": 310_000_000,
                            "memory_limit_bytes": 2_147_483_648,
                            "cpu_percent": 97.0,
                            "executing": 1,
                            "queued": 2,
                        }
                    ],
                    "threads": 1,
                    "memory_bytes": 310_000_000,
                    "memory_limit_bytes": 2_147_483_648,
                    "tasks": 3,
                    "jobs": {
                        "queued": 0,
                        "running": 1,
                        "succeeded": 4,
                        "failed": 0,
                        "cancelled": 0,
                    },
                    "tiles_per_second": 19.0,
                    "store": {"free_bytes": 12_000_000_000, "used_bytes": 800_000_000},
                }
            ]
        },
    )

    scheduler: bool = Field(description="Whether there is a connection to one.")
    workers: list[WorkerOut]
    threads: int
    memory_bytes: int
    memory_limit_bytes: int
    tasks: int
    jobs: dict[StateName, int]
    tiles_per_second: float = Field(description="Of all running jobs, over the last half minute.")
    store: StoreOut
