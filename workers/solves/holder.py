"""The worker's side of a distributed operator: hold tiles, multiply a share, let go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from distributed import Worker, get_worker
from numpy.typing import NDArray

from workers.solves.errors import SolveInterrupted
from workers.solves.products import HeldTiles, Partial, multiply_tiles
from workers.solves.shares import Share
from workers.solves.source import TileSource, tiles_between

_ATTRIBUTE = "gramian_solves"  # of the Dask Worker object: lives and dies with it


@dataclass(frozen=True)
class ShareCall:
    """Multiply this share; `hold` its tiles for the next time."""

    share: Share
    hold: bool


@dataclass
class HeldSolve:
    """What one worker keeps for one solve."""

    shares: dict[int, HeldTiles] = field(default_factory=dict)
    last_used: float = field(default_factory=time.monotonic)
    busy: bool = False
    watched: bool = False


def multiply_share(
    source: TileSource,
    solve_id: str,
    calls: list[ShareCall],
    vectors: NDArray[Any],
    *,
    precise: bool,
    idle_seconds: float,
) -> dict[int, Partial]:
    """The partial products of some shares, by share index. Runs in a Dask worker."""
    check_stop = cancellation_check()
    check_stop()
    solve = _enter(solve_id, calls, idle_seconds)
    results = {}
    try:
        for call in calls:
            held = solve.shares.setdefault(call.share.index, HeldTiles()) if call.hold else None
            results[call.share.index] = multiply_tiles(
                source,
                tiles_between(source.layout, call.share.start, call.share.stop),
                vectors,
                precise=precise,
                held=held,
                check_stop=check_stop,
            )
    finally:
        solve.busy = False
        solve.last_used = time.monotonic()
    return results


def release(solve_id: str, dask_worker: Worker) -> None:
    """Drop all that a worker holds for a solve. Called by Client.run, which fills in the worker."""
    held_solves(dask_worker).pop(solve_id, None)


def held_solves(worker: Worker) -> dict[str, HeldSolve]:
    """What a worker holds, by solve id."""
    held: dict[str, HeldSolve] = vars(worker).setdefault(_ATTRIBUTE, {})
    return held


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


def _enter(solve_id: str, calls: list[ShareCall], idle_seconds: float) -> HeldSolve:
    try:
        worker = get_worker()
    except ValueError:  # not in a worker: nothing outlives the call
        return HeldSolve()
    solves = held_solves(worker)
    solve = solves.setdefault(solve_id, HeldSolve())
    solve.busy = True
    # A share that moved to another worker is not this one's to keep.
    kept = {call.share.index for call in calls if call.hold}
    for index in set(solve.shares) - kept:
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
