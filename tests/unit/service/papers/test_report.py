"""The four files of a report, and pictures."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from service.papers.figure import Curve, Panel, svg
from service.papers.report import Comparison, Report, Table, markdown, write

PANELS = (
    Panel(
        "left",
        "depth",
        "error",
        (
            Curve("a", np.array([1.0, 10.0]), np.array([1.0, 0.1])),
            Curve("b", np.array([1.0, 10.0]), np.array([0.5, np.nan]), style="points"),
        ),
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        "right",
        "x",
        "y",
        (Curve("c", np.arange(3.0), np.arange(3.0), np.zeros(3), np.ones(3), style="dashed"),),
    ),
)


def report(**changes: object) -> Report:
    given = {
        "name": "example",
        "title": "An example",
        "source": "Somebody 2020, figure 1.",
        "comparisons": (Comparison("accuracy", "98.6 %", "95.1 % | less"),),
        "table": Table(("depth", "error", "note"), ((1, 0.123456789012345, "a"), (2, None, "b"))),
        "differences": ("The data are smaller.",),
        "panels": PANELS,
        "settings": {"kernel": {"preset": "fc"}, "bad": float("nan")},
    }
    return Report(**{**given, **changes})  # type: ignore[arg-type]


def test_every_file_holds_the_same_numbers(tmp_path: Path) -> None:
    paths = write(report(), tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "example.csv",
        "example.json",
        "example.md",
        "example.svg",
    ]
    with paths["csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"depth": "1", "error": "0.123456789012345", "note": "a"},
        {"depth": "2", "error": "", "note": "b"},
    ]
    document = json.loads(paths["json"].read_text())
    assert document["table"][0] == {"depth": 1, "error": 0.123456789012345, "note": "a"}
    assert document["table"][1]["error"] is None
    assert document["comparisons"] == [
        {"quantity": "accuracy", "published": "98.6 %", "here": "95.1 % | less"}
    ]
    assert document["settings"] == {"kernel": {"preset": "fc"}, "bad": None}
    page = paths["md"].read_text()
    assert "| accuracy | 98.6 % | 95.1 % \\| less |" in page
    assert "| 1 | 0.1235 | a |" in page
    assert "| 2 |  | b |" in page
    assert "- The data are smaller." in page
    assert "(example.svg)" in page


def test_writing_again_replaces(tmp_path: Path) -> None:
    write(report(), tmp_path)
    write(report(title="Another"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    assert "# Another" in (tmp_path / "example.md").read_text()


def test_rows_have_as_many_values_as_there_are_columns() -> None:
    with pytest.raises(ValueError, match="2 values"):
        Table(("a", "b"), ((1,),))


def test_pictures_are_svg_and_reproducible() -> None:
    first = svg("A title", PANELS)
    assert first == svg("A title", PANELS)
    root = ET.fromstring(first)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    # More panels than fit a row go to the next one.
    assert len(svg("many", PANELS[1:] * 5)) > len(first)


def test_markdown_of_numbers_that_are_missing() -> None:
    page = markdown(report(table=Table(("v",), ((float("nan"),), (7,)))))
    assert "|  |\n| 7 |" in page
