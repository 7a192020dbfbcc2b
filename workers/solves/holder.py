"""The worker's side of a distributed operator: hold tiles, multiply a share, let go."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from distributed import Worker, get_worker
from numpy.typing import NDArray

from workers.solves.errors import SolveInterrupted
from workers.solves.products import HeldTiles, gather_columns, multiply_tiles
from workers.solves.shares import Share
from workers.solves.source import TileSource, tiles_between

_ATTRIBUTE = "gramian_solves"  # of the Dask Worker object: lives and dies with it
_RELEASED = "gramian_released_solves"
REMEMBERED_RELEASES = 1000  # solve ids; a cancelled task starts at most moments after its release


@dataclass(frozen=True)
class ShareCall:
    """Work on one of `portions` equal parts of a share."""

    share: Share
    portion: int = 0
    portions: int = 1

    @property
    def span(self) -> tuple[int, int]:
        """Numbers of the first tile of the portion and of the first one after it."""
        tiles, first = self.share.tiles, self.share.start
        start = first + tiles * self.portion // self.portions
        return start, first + tiles * (self.portion + 1) // self.portions


@dataclass(frozen=True)
class Hold:
    """Keep the tiles of this share for the next time."""

    share_index: int


@dataclass(frozen=True)
class Multiply:
    """What to do with a share: multiply it by vectors, in float64 products if `precise`."""

    precise: bool


@dataclass(frozen=True)
class Gather:
    """What to do with a share: give its entries of some columns."""


Action = Multiply | Gather


@dataclass
class HeldSolve:
    """What one worker keeps for one solve."""

    shares: dict[int, HeldTiles] = field(default_factory=dict)
    last_used: float = field(default_factory=time.monotonic)
    busy: bool = False
    watched: bool = False


def serve_shares(
    source: TileSource,
    solve_id: str,
    calls: list[ShareCall],
    message: NDArray[Any],
    *,
    action: Action,
    hold: Hold | None,
    idle_seconds: float,
) -> dict[int, Any]:
    """What the action gives for some shares, by share index. Runs in a Dask worker.

    `message` holds the vectors to multiply (Multiply: a Partial) or the indices of the columns
    (Gather: a Gathered).
    """
    check_stop = cancellation_check()
    check_stop()
    solve = _enter(solve_id, hold, idle_seconds)
    results: dict[int, Any] = {}
    try:
        for call in calls:
            held = None
            if hold is not None and call.share.index == hold.share_index:
                held = solve.shares.setdefault(hold.share_index, HeldTiles())
            tiles = tiles_between(source.layout, *call.span)
            if isinstance(action, Multiply):
                results[call.share.index] = multiply_tiles(
                    source,
                    tiles,
                    message,
                    precise=action.precise,
                    held=held,
                    check_stop=check_stop,
                )
            else:
                results[call.share.index] = gather_columns(
                    source, tiles, message, held=held, check_stop=check_stop
                )
    finally:
        solve.busy = False
        solve.last_used = time.monotonic()
    return results


def release(solve_id: str, dask_worker: Worker) -> None:
    """Drop all that a worker holds for a solve. Called by Client.run, which fills in the worker.

    A task of the solve that was cancelled while it was starting finds out here that it came late.
    """
    _released(dask_worker).append(solve_id)  # before the removal: see `_enter`
    held_solves(dask_worker).pop(solve_id, None)


def held_solves(worker: Worker) -> dict[str, HeldSolve]:
    """What a worker holds, by solve id."""
    held: dict[str, HeldSolve] = vars(worker).setdefault(_ATTRIBUTE, {})
    return held


def _released(worker: Worker) -> deque[str]:
    known: deque[str] = vars(worker).setdefault(_RELEASED, deque(maxlen=REMEMBERED_RELEASES))
    return known


def cancellation_check() -> Callable[[], None]:
    """A function that raises SolveInterrupted once the running Dask task has been cancelled."""
    try:
        worker = get_worker()
    except ValueError:  # not in a worker: nothing can cancel
        return lambda: None
    key = worker.get_current_task()

    def check() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise SolveInterrupted

    return check


def _enter(solve_id: str, hold: Hold | None, idle_seconds: float) -> HeldSolve:
    try:
        worker = get_worker()
    except ValueError:  # not in a worker: nothing outlives the call
        return HeldSolve()
    solves = held_solves(worker)
    solve = solves.setdefault(solve_id, HeldSolve())
    if solve_id in _released(worker):  # whichever came first, nothing stays held
        solves.pop(solve_id, None)
        raise SolveInterrupted
    solve.busy = True
    # A share that moved to another worker is not this one's to keep.
    for index in set(solve.shares) - ({hold.share_index} if hold is not None else set()):
        del solve.shares[index]
    _watch(worker, solve_id, solve, idle_seconds)
    return solve


def _watch(worker: Worker, solve_id: str, solve: HeldSolve, idle_seconds: float) -> None:
    """Free the solve when its coordinator has been silent: it may have been killed."""
    if solve.watched:
        return
    solve.watched = True
    solves = held_solves(worker)

    def look() -> None:
        if solves.get(solve_id) is not solve:
            return
        left = solve.last_used + idle_seconds - time.monotonic()
        if left <= 0 and not solve.busy:
            del solves[solve_id]
        else:
            worker.loop.call_later(max(left, idle_seconds / 10), look)

    worker.loop.add_callback(look)
