"""What an experiment leaves behind: tables next to the published numbers, and a picture.

NAME.md is for people, NAME.json holds everything, NAME.csv the main table, NAME.svg the picture.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import json_safe
from service.papers.figure import Panel, svg

Value = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Named columns; numbers in full, None where there is nothing to say."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row does not have {len(self.columns)} values")

    def records(self) -> list[dict[str, Value]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Comparison:
    """One published number or statement, and what came out here."""

    quantity: str
    published: str
    here: str


@dataclass(frozen=True)
class Report:
    """The result of one experiment.

    `differences`: in which ways this is not the published experiment, one sentence each.
    `settings`: kernels, sizes and seeds, JSON-serialisable, enough to repeat it.
    """

    name: str
    title: str
    source: str
    comparisons: tuple[Comparison, ...]
    table: Table
    differences: tuple[str, ...]
    panels: tuple[Panel, ...]
    settings: Mapping[str, Any]


def write(report: Report, folder: Path) -> dict[str, Path]:
    """Write the four files into `folder`; their paths by suffix. Each replaces an older one as
    a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "svg": svg(report.title, report.panels),
        "csv": _csv(report.table).encode(),
        "json": (json.dumps(document(report), indent=2, allow_nan=False) + "\n").encode(),
        "md": markdown(report).encode(),
    }
    paths = {}
    for suffix, content in contents.items():
        path = folder / f"{report.name}.{suffix}"
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)  # noqa: PTH105 - atomic, as its name says
        finally:
            temporary.unlink(missing_ok=True)
        paths[suffix] = path
    return paths


def markdown(report: Report) -> str:
    """The report as a page."""
    comparison = Table(
        ("quantity", "published", "here"),
        tuple((c.quantity, c.published, c.here) for c in report.comparisons),
    )
    lines = [f"# {report.title}", "", report.source, "", *_rows(comparison), ""]
    lines += ["What differs from the published experiment:", ""]
    lines += [f"- {sentence}" for sentence in report.differences]
    lines += ["", f"![{report.title}]({report.name}.svg)", "", *_rows(report.table), ""]
    settings = json.dumps(json_safe(dict(report.settings)), indent=2)
    lines += ["Settings:", "", "```json", settings, "```", ""]
    return "\n".join(lines)


def shown(value: Value) -> str:
    """A value as tables print it: four significant digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(table: Table) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [
        line(table.columns),
        line(("---",) * len(table.columns)),
        *(line(tuple(shown(value) for value in row)) for row in table.rows),
    ]


def _csv(table: Table) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return file.getvalue()


def document(report: Report) -> Any:
    return json_safe(
        {
            "experiment": report.name,
            "title": report.title,
            "source": report.source,
            "comparisons": [vars(comparison) for comparison in report.comparisons],
            "table": report.table.records(),
            "differences": list(report.differences),
            "settings": dict(report.settings),
        }
    )
