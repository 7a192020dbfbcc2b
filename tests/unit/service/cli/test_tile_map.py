"""The map of tiles in a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from service.cli.tile_map import job_tiles, tile_map
from service.client import ApiError, Client, ServiceUnreachableError
from service.client.progress import JobBar

HALF = {
    "tiles_per_cell": 2,
    "total": [[3, 4, 4], [0, 3, 4], [0, 0, 1]],
    "done": [[3, 4, 1], [0, 3, 0], [0, 0, 0]],
    "failures": [{"tile": [3, 5]}],
}


def _plain(picture: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=40)
    console.print(picture)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_done_partly_missing_and_the_lower_triangle():
    # Columns of the first line: done above nothing; done, done; partly done above failed.
    assert _plain(tile_map(HALF)) == ["▀█▀", "  ·"]
    styles = {str(span.style) for span in tile_map(HALF).spans}
    assert "yellow on red" in styles


def test_it_asks_once_a_second_and_never_again_without_a_map(monkeypatch: pytest.MonkeyPatch):
    clock, asked = [10.0], []
    monkeypatch.setattr("service.cli.tile_map.time.monotonic", lambda: clock[0])
    answers: list[Any] = [HALF, ServiceUnreachableError("away"), ApiError(422, {})]

    def tiles(self: Client, job_id: str, *, cells: int) -> Any:
        asked.append(job_id)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Client, "tiles", tiles)
    with Client() as client:
        draw = job_tiles(client, "job-1")
        first = draw()
        assert draw() is first
        clock[0] += 1.0
        assert draw() is first  # the service is away: the last picture stays
        clock[0] += 1.0
        assert draw() is None
        clock[0] += 100.0
        assert draw() is None
    assert len(asked) == 3


def test_the_bar_shows_the_map_above_itself():
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    with JobBar(console, "job-1", lambda: tile_map(HALF)) as bar:
        bar.update("progress", {"fraction": 0.5, "tiles_done": 10, "tiles_total": 19})
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.index("▀█▀") < shown.index("10/19 tiles")
