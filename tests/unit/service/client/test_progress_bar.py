"""What the live bar says for the events a job sends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from service.client.progress import JobBar, bytes_text, numbers_text, seconds_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (18_874_440, "18.9 MB"), (2.5e12, "2.5 TB")],
)
def test_bytes(count: float, text: str):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "< 1 s"), (7.6, "8 s"), (59.6, "1:00"), (185, "3:05"), (7385, "2:03:05")],
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


def _shown(*events: tuple[str, dict[str, object]]) -> tuple[str, str]:
    """(state, last frame) of a bar after these events."""
    out = io.StringIO()
    with JobBar(Console(file=out, width=120), "gram") as bar:
        for kind, data in events:
            bar.update(kind, data)
    return bar.state, out.getvalue()


def test_the_bar_follows_the_events_and_ignores_unknown_ones():
    computing = {"phase": "computing", "fraction": 0.25, "tiles_done": 1, "tiles_total": 4}
    events = [("state", {"state": "running"}), ("progress", computing), ("something-new", {"x": 1})]
    state, frame = _shown(*events)
    assert state == "running"
    assert "gram (computing)" in frame
    assert "25 %" in frame
    assert "1/4 tiles" in frame
    done = ("progress", {"phase": "done", "fraction": 1.0})
    state, frame = _shown(*events, done, ("state", {"state": "succeeded"}))
    assert state == "succeeded"
    assert "1/4 tiles" in frame
    assert "100 %" in frame
    assert "computing" not in frame
