"""Reports of jobs as HTML: complete, escaped, and without anything from outside."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from service.client.pictures import Picture
from service.report.collect import ArrayReport, Report
from service.report.markup import Markup, joined, table, tag
from service.report.page import page
from support.pages import Page

EVIL = "\"'><script>alert(1)</script><img src=http://evil.example/x onerror=y>&amp;</pre>"
MATRIX = "mx-" + "1" * 32

JOB: dict[str, Any] = {
    "id": "job-" + "2" * 32,
    "type": "gram",
    "state": "succeeded",
    "owner": EVIL,
    "task": {"type": "gram", "kernel": {"preset": "fc", "activation": EVIL}, "x1": "ds-1"},
    "estimate": {"tiles": 3, "seconds": 1.5, "bytes_written": 12345, "basis": EVIL},
    "progress": None,
    "matrix": MATRIX,
    "error": None,
    "created_at": "2026-11-22T10:00:00Z",
    "started_at": "2026-11-22T10:00:01Z",
    "finished_at": "2026-11-22T10:00:03.5Z",
}
ABOUT = {"cell": "8", "cell-columns": "8", "scale": "0.25,1.5"}
STATISTICS = {
    "minimum": 0.125,
    "maximum": 1.75,
    "nonfinite": 0,
    "histogram": {"of": EVIL, "edges": [0.0, 1.0, 2.0], "counts": [5, 7]},
    "diagonal": {"mean": 1.0, "trace": 256.0},
}
REPORT = Report(
    url="http://127.0.0.1:1/" + EVIL,
    version=EVIL,
    moment=datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC),
    job=JOB,
    datasets=({"id": "ds-1", "name": EVIL, "shape": [5, 3], "dtype": EVIL, "targets": None},),
    summary={"wall_seconds": 2.25, "stored_bytes": 12300, "tiles": 3, "digest": EVIL, "x": [1]},
    matrix={
        "id": MATRIX,
        "digest": "9c0e",
        "stored_bytes": 12300,
        "arrays": [{"name": "ntk"}],
        "provenance": {"software": EVIL},
    },
    arrays=(
        ArrayReport(
            {"name": "ntk", "shape": [16, 16], "dtype": "float32", "symmetric": True},
            Picture(b"\x89PNG", ABOUT),
            STATISTICS,
            (EVIL,),
        ),
    ),
    tiles={
        "tiles_done": 2,
        "tiles_total": 3,
        "tile_rows": 16,
        "tile_seconds": 0.5,
        "workers": [{"worker": EVIL, "tiles": 2, "seconds": 0.5}],
        "failures": [{"tile": [0, 1], "at": "2026", "kind": "tile-failed", "message": EVIL}],
    },
    missing=(EVIL,),
)


def test_no_foreign_string_becomes_an_element() -> None:
    found = Page(page(REPORT))
    assert found.open == []
    assert found.handlers == []
    assert found.fetched == []
    assert found.text.count(EVIL) >= 10
    (image,) = found.named("img")
    assert image["src"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    policy = next(m["content"] for m in found.named("meta") if "http-equiv" in m)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_estimate_stands_beside_what_became_of_it() -> None:
    text = Page(page(REPORT)).text
    for row in ("tiles33", "seconds1.52.25", "bytes written12 34512 300"):
        assert row in text
    for fact in ("0.125", "1.75", "256", "2 of 3", "2026-11-26 12:00:00 UTC", "zarr.open"):
        assert fact in text
    assert "Each pixel is the mean of 8 x 8 entries; dark is 0.25, bright is 1.5." in text
    assert len(Page(page(REPORT)).named("svg")) == 1  # the histogram
    solved = Page(page(replace(REPORT, summary={"seconds": 1.0}))).text
    assert "seconds1.52.5" in solved  # from its start to its end
    assert "bytes written12 34512 300" in solved  # of the matrix


def test_entries_are_called_entries() -> None:
    about = ABOUT | {"cell": "1", "cell-columns": "1"}
    array = replace(REPORT.arrays[0], picture=Picture(b"", about))
    assert "Each pixel is one entry;" in Page(page(replace(REPORT, arrays=(array,)))).text


def test_a_job_that_failed_or_has_no_matrix() -> None:
    error = {"message": f"it broke {EVIL}", "advice": "mend it"}
    job = JOB | {"state": "failed", "error": error, "estimate": None, "matrix": None}
    bare = replace(
        REPORT, job=job, datasets=(), summary=None, matrix=None, arrays=(), tiles=None, missing=()
    )
    found = Page(page(bare))
    assert (found.open, found.handlers, found.fetched) == ([], [], [])
    assert f"it broke {EVIL}" in found.text
    assert "mend it" in found.text


def test_markup_escapes_what_was_not_made_by_it() -> None:
    assert tag("p", "<b>", tag("b", "&")) == "<p>&lt;b&gt;<b>&amp;</b></p>"
    assert tag("img", src='"x"', alt="'") == '<img src="&quot;x&quot;" alt="&#x27;">'
    assert joined("<", Markup("<br>")) == "&lt;<br>"
    assert isinstance(joined("a"), Markup)
    assert "<td>&lt;</td>" in table([("a", "<")], head=("<", ">"))


@pytest.mark.parametrize("low", ["", "nan,nan"])
def test_a_picture_without_finite_numbers(low: str) -> None:
    array = replace(REPORT.arrays[0], picture=Picture(b"", ABOUT | {"scale": low}), statistics=None)
    assert Page(page(replace(REPORT, arrays=(array,)))).open == []
