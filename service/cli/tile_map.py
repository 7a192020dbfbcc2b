"""The tiles of a Gram matrix as a small picture of characters: which are done, which failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.style import Style
from rich.text import Text

from service.client.errors import ApiError, ServiceUnreachableError

if TYPE_CHECKING:
    from service.client import Client

_CELLS = 32  # along each side: two rows of them are one line of text
_REFRESH_SECONDS = 1.0
# Not a job of tiles, or a service that has no such route.
_NO_MAP_STATUSES = frozenset({404, 422})
_DONE, _PARTLY, _MISSING, _FAILED = "green", "yellow", "grey30", "red"


def job_tiles(client: Client, job_id: str) -> Callable[[], Text | None]:
    """What draws the map of a job as it is now: asks at most once a second, None if there is none.

    While the service is away the last picture stays; following the job is what reconnects.
    """
    state: dict[str, Any] = {"drawn": None, "next": 0.0}

    def draw() -> Text | None:
        now = time.monotonic()
        if now >= state["next"]:
            state["next"] = now + _REFRESH_SECONDS
            try:
                with suppress(ServiceUnreachableError):
                    state["drawn"] = tile_map(client.tiles(job_id, cells=_CELLS))
            except ApiError as error:
                if error.status in _NO_MAP_STATUSES:
                    state["next"], state["drawn"] = float("inf"), None
        drawn: Text | None = state["drawn"]
        return drawn

    return draw


def tile_map(tiles: dict[str, Any]) -> Text:
    """Two rows of cells a line, in half blocks. `tiles`: the answer of GET /v1/jobs/{id}/tiles.

    Without colours the blocks still tell done (block) from missing (blank).
    """
    per_cell = tiles["tiles_per_cell"]
    failed = {
        (failure["tile"][0] // per_cell, failure["tile"][1] // per_cell)
        for failure in tiles["failures"]
    }
    rows = [
        [
            _colour(total, done, (i, j) in failed)
            for j, (total, done) in enumerate(zip(*row, strict=True))
        ]
        for i, row in enumerate(zip(tiles["total"], tiles["done"], strict=True))
    ]
    if len(rows) % 2:
        rows.append([None] * len(rows[0]))
    drawn = Text()
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        for top, bottom in zip(upper, lower, strict=True):
            drawn.append(*_cells(top, bottom))
        drawn.append("\n")
    drawn.rstrip()
    return drawn


def _colour(total: int, done: int, failed: bool) -> str | None:
    """None where the matrix has no tile of its own: below the diagonal of a symmetric one."""
    if total == 0:
        return None
    if done == total:
        return _DONE
    if failed:
        return _FAILED
    return _PARTLY if done else _MISSING


def _cells(top: str | None, bottom: str | None) -> tuple[str, Style | str]:
    full = (_DONE, _PARTLY)
    if top is None or bottom is None:
        colour = top or bottom
        if colour is None:
            return " ", ""
        block = "▀" if bottom is None else "▄"
        return (block if colour in full else "·", colour)
    if top == bottom:
        return ("█" if top in full else "·", top)
    if top in full:
        return "▀", Style(color=top, bgcolor=bottom)
    if bottom in full:
        return "▄", Style(color=bottom, bgcolor=top)
    return "·", _FAILED  # one failed, one missing
