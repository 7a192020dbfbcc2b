"""Wire models of what pictures are made from."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from service.schemas.common import Wire


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
