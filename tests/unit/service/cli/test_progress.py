"""What the live bar says for the events a job sends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from service.cli.progress import JobBar, bytes_text, numbers_text, seconds_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (18_874_440, "18.9 MB"), (2.5e12, "2.5 TB")],
)
def test_bytes(count: float, text: str):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00"), (185, "3:05"), (7385, "2:03:05")]
)
def test_seconds(seconds: float, text: str):
    assert seconds_text(seconds) == text


def test_gram_and_solve_numbers():
    gram = {
        "phase": "computing",
        "fraction": 0.5,
        "tiles_done": 18,
        "tiles_total": 36,
        "bytes_written": 18_874_440,
        "tiles_per_second": 19.04,
        "seconds_left": 0.95,
    }
    assert numbers_text(gram) == "18/36 tiles · 19 tiles/s · 18.9 MB · 1 s left"
    solve = {"applications": 23, "residual": 3.14e-4, "seconds_left": None}
    assert numbers_text(solve) == "23 applications of K · residual 3.1e-04"


def test_the_bar_follows_the_events_and_ignores_unknown_ones():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with JobBar(console, "gram") as bar:
        bar.update("state", {"state": "running"})
        bar.update(
            "progress", {"phase": "computing", "fraction": 0.25, "tiles_done": 1, "tiles_total": 4}
        )
        bar.update("something-new", {"x": 1})
        assert bar.state == "running"
        bar.update("state", {"state": "succeeded"})
    assert bar.state == "succeeded"
    assert "gram (computing)" in out.getvalue()
    assert "100 %" in out.getvalue()
