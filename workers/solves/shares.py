"""Which worker multiplies which tiles. Pure: no Dask here.

Shares are cut once, one per worker at the start, as ranges of the canonical tile order. When a
worker is lost its shares move whole to others, so the partial sums, and with them every bit of
the answer, do not depend on who died.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Tiles number `start` to `stop` (exclusive)."""

    index: int
    start: int
    stop: int

    @property
    def tiles(self) -> int:
        return self.stop - self.start


def cut(n_tiles: int, n_shares: int) -> list[Share]:
    """At most `n_shares` non-empty ranges whose sizes differ by at most one tile."""
    count = max(1, min(n_shares, n_tiles))
    bounds = [n_tiles * k // count for k in range(count + 1)]
    return [Share(k, bounds[k], bounds[k + 1]) for k in range(count)]


def assign(
    shares: Iterable[Share], owners: Mapping[int, str], living: Iterable[str]
) -> dict[int, str]:
    """Owner of every share: unchanged where it lives, else the living worker with fewest shares.

    A worker with two shares or more hands one to a worker with none (a restarted one). `living`
    must not be empty.
    """
    load: dict[str, list[int]] = {worker: [] for worker in living}
    orphans = []
    for share in shares:
        owner = owners.get(share.index)
        if owner in load:
            load[owner].append(share.index)
        else:
            orphans.append(share.index)
    for index in orphans:
        load[min(load, key=lambda worker: len(load[worker]))].append(index)
    while True:
        idle = min(load, key=lambda worker: len(load[worker]))
        busy = max(load, key=lambda worker: len(load[worker]))
        if load[idle] or len(load[busy]) < 2:
            break
        load[idle].append(load[busy].pop())
    return {index: worker for worker, indices in load.items() for index in indices}
