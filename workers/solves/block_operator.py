"""K V on Dask workers: one message to each worker per application, no task per tile.

Each worker keeps its share of the tiles (placement "memory") or reads it from the store at each
application ("stream"). Partial results come back once per share and are summed here in float64,
in the order of the shares. What a worker holds hangs on its WorkerState under the id of the
solve; it is released by `close`, and by the worker itself when nobody has asked for a while.

A task pinned to a lost worker would wait for ever, so loss is detected here: by the scheduler's
list of workers and by a time limit. The lost shares move to living workers and only they are
multiplied again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client, Future, KilledWorker
from numpy.typing import NDArray

from workers.errors import ClusterUnavailableError, WorkerMemoryError
from workers.futures import ResultLostError, fetch, wait_for_one
from workers.solves.errors import SolveInterrupted
from workers.solves.holder import Action, Gather, Hold, Multiply, ShareCall, release, serve_shares
from workers.solves.memory import GATHER_BYTES
from workers.solves.operator import Placement, Traffic, put_columns, throughput_of
from workers.solves.products import Gathered, Partial
from workers.solves.shares import Share, assign, cut
from workers.solves.solution import Float64
from workers.solves.source import TileSource, tile_bytes
from workers.solves.throughput import Throughput, read_bandwidth

POLL_SECONDS = 0.25
FETCH_SECONDS = 10.0  # a result that takes longer to arrive is taken to be lost with its worker
SCATTER_ABOVE_BYTES = 4 << 20  # larger vectors are sent apart from the task graph


@dataclass(frozen=True)
class OperatorSettings:
    """Limits of the machine, not of the mathematics.

    silence_seconds, silence_bytes_per_second: a worker that has not answered after the first plus
        its bytes over the second is given up for lost (it may be stopped, or swapping).
    wait_for_workers_seconds: how long to wait for a worker when none is left.
    max_repeats: losses within one application before the work itself is taken to be the cause.
    idle_release_seconds: a worker frees tiles that nobody has asked for during this time.
    """

    silence_seconds: float = 120.0
    silence_bytes_per_second: float = 20e6
    wait_for_workers_seconds: float = 120.0
    max_repeats: int = 4
    idle_release_seconds: float = 900.0


@dataclass(frozen=True)
class _Request:
    """What is asked of all shares at once: one portion of each."""

    action: Action
    message: NDArray[Any]
    portion: int
    portions: int


class BlockOperator:
    """The matrix of `source`, multiplied by the workers of `client`.

    Used from one thread. `close` must be called (or use it as a context manager).
    """

    def __init__(
        self,
        client: Client,
        source: TileSource,
        *,
        placement: Placement,
        should_stop: Callable[[], bool] = lambda: False,
        settings: OperatorSettings | None = None,
    ) -> None:
        self.placement: Placement = placement
        self.traffic = Traffic()
        self._client = client
        self._source = source
        self._should_stop = should_stop
        self._settings = settings or OperatorSettings()
        self._solve_id = secrets.token_hex(8)
        self._suspects: set[str] = set()
        self._shares = cut(source.layout.stored_chunks, len(self._living()))
        self._owners: dict[int, str] = {}
        self._crowded = True  # whether the owners must be looked at before the next application

    def __enter__(self) -> BlockOperator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self._source.layout.shape
        return n, m

    @property
    def tile_rows(self) -> int:
        return self._source.layout.chunk_shape[1]

    @property
    def epsilon(self) -> float:
        return float(np.finfo(self._source.layout.dtype).eps)

    @property
    def owners(self) -> dict[int, str]:
        """Address of the worker that has each share."""
        return dict(self._owners)

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        """K V as in `Operator`.

        Raises ClusterUnavailableError when no worker comes (back) in time and WorkerMemoryError
        when workers keep dying under this application.
        """
        narrow = self._source.layout.dtype == "float32" and not precise
        message: NDArray[Any] = vectors.astype(np.float32) if narrow else vectors
        started = time.monotonic()
        parts: dict[int, Partial] = self._ask_all(Multiply(precise), message)
        total = self._sum(parts, vectors.shape[1], precise)
        self.traffic.seconds += time.monotonic() - started
        return total

    def columns(self, indices: NDArray[np.int64]) -> NDArray[np.floating]:
        """K[:, indices] as in `Operator`; raises what `apply` raises."""
        layout = self._source.layout
        result = np.empty((layout.shape[0], indices.size), dtype=layout.dtype)
        portions = max(1, -(-result.nbytes // (len(self._shares) * GATHER_BYTES)))
        for portion in range(portions):
            parts: dict[int, Gathered] = self._ask_all(Gather(), indices, portion, portions)
            put_columns(result, parts.values())
            self.traffic.bytes_read += sum(part.bytes_read for part in parts.values())
        self.traffic.bytes_moved += result.nbytes
        return result

    def _ask_all(
        self, action: Action, message: NDArray[Any], portion: int = 0, portions: int = 1
    ) -> dict[int, Any]:
        """What every share answers, by share index; again where workers are lost."""
        parts: dict[int, Any] = {}
        repeats = 0
        while len(parts) < len(self._shares):
            if self._crowded:
                self._reassign()
            todo = [share for share in self._shares if share.index not in parts]
            lost = self._round(_Request(action, message, portion, portions), todo, parts)
            if not lost:
                continue
            self.traffic.lost_workers += len(lost)
            self._crowded = True
            repeats += 1
            if repeats > self._settings.max_repeats:
                raise WorkerMemoryError(
                    f"Workers were lost {repeats} times during one application of the matrix.",
                    advice="Give workers more memory, or use placement 'stream'.",
                    lost=sorted(lost),
                )
        return parts

    def close(self) -> None:
        """Free the tiles on all workers. Workers that are gone have nothing to free."""
        if self._client.status == "running":
            self._client.run(release, self._solve_id, on_error="ignore")

    def throughput(self) -> Throughput:
        """Of all applications so far. The workers measure their memory now, all at once."""
        measured: dict[str, Any] = {}
        if self._client.status == "running":
            measured = self._client.run(read_bandwidth, on_error="ignore")
        return throughput_of(self.traffic, [float(value) for value in measured.values()])

    def _sum(self, parts: dict[int, Partial], columns: int, precise: bool) -> Float64:
        total = np.zeros((self.shape[0], columns))
        for index in sorted(parts):
            part = parts[index]
            total[part.row_start : part.row_start + len(part.values)] += part.values
            self.traffic.bytes_read += part.bytes_read
            self.traffic.bytes_multiplied += part.bytes_multiplied
            self.traffic.bytes_moved += part.values.nbytes
        self.traffic.applications += 1
        self.traffic.precise_applications += precise
        return total

    def _round(self, request: _Request, todo: list[Share], parts: dict[int, Any]) -> set[str]:
        """Send one message to each owner, collect what comes; the workers found lost."""
        by_worker: dict[str, list[Share]] = {}
        for share in todo:
            by_worker.setdefault(self._owners[share.index], []).append(share)
        futures: dict[Future[Any], str] = {}
        try:
            for worker, shares in by_worker.items():
                futures[self._send(worker, shares, request)] = worker
            return self._collect(futures, by_worker, parts)
        finally:
            unfinished = [future for future in futures if not future.done()]
            if unfinished and self._client.status == "running":
                self._client.cancel(unfinished)

    def _send(self, worker: str, shares: list[Share], request: _Request) -> Future[Any]:
        calls = [ShareCall(share, request.portion, request.portions) for share in shares]
        hold = None
        if self.placement != "stream":
            # A worker that took over another's share keeps only as many as it was projected to.
            first = min(index for index, owner in self._owners.items() if owner == worker)
            hold = Hold(first)
        message = request.message
        argument: Any = message
        if message.nbytes > SCATTER_ABOVE_BYTES:
            argument = self._client.scatter(message, workers=[worker], hash=False)
        self.traffic.bytes_moved += message.nbytes
        return self._client.submit(
            serve_shares,
            self._source,
            self._solve_id,
            calls,
            argument,
            action=request.action,
            hold=hold,
            idle_seconds=self._settings.idle_release_seconds,
            key=f"apply-{self._solve_id}-{secrets.token_hex(6)}",
            workers=[worker],
            pure=False,
            retries=0,
        )

    def _collect(
        self,
        futures: dict[Future[Any], str],
        by_worker: dict[str, list[Share]],
        parts: dict[int, Any],
    ) -> set[str]:
        started = time.monotonic()
        waiting = dict(futures)
        lost: set[str] = set()
        while waiting:
            for future in [future for future in waiting if future.done()]:
                worker = waiting.pop(future)
                if not self._take(future, parts):
                    lost.add(worker)
            if not waiting:
                break
            if self._should_stop():
                raise SolveInterrupted
            try:
                wait_for_one(self._client, waiting, seconds=POLL_SECONDS)
            except TimeoutError:
                silent = self._silent(waiting, by_worker, time.monotonic() - started)
                self._suspects |= silent
                gone = silent | (set(waiting.values()) - self._known())
                waiting = {f: w for f, w in waiting.items() if w not in gone}
                lost |= gone
            except CancelledError:
                continue  # its future is done now, and `_take` says what that means
        return lost

    def _take(self, future: Future[Any], parts: dict[int, Any]) -> bool:
        """Take the results of a finished message; False if its worker was lost."""
        try:
            results: dict[int, Any] = fetch(future, timeout_seconds=FETCH_SECONDS)
        except (ResultLostError, KilledWorker):
            return False
        parts.update(results)
        return True

    def _silent(
        self, waiting: dict[Future[Any], str], by_worker: dict[str, list[Share]], elapsed: float
    ) -> set[str]:
        settings, size = self._settings, tile_bytes(self._source.layout)
        return {
            worker
            for worker in waiting.values()
            if elapsed
            > settings.silence_seconds
            + sum(s.tiles for s in by_worker[worker]) * size / settings.silence_bytes_per_second
        }

    def _living(self) -> list[str]:
        """Addresses of the workers that may be given work, waiting for one if there is none."""
        deadline = time.monotonic() + self._settings.wait_for_workers_seconds
        while True:
            known = self._known()
            if known <= self._suspects:  # nobody else is left: they may only have been slow
                self._suspects.clear()
            if known:
                return sorted(known - self._suspects)
            if self._should_stop():
                raise SolveInterrupted
            if time.monotonic() > deadline:
                raise ClusterUnavailableError(
                    "No Dask worker is left to multiply with.",
                    advice="Start workers and submit again; the checkpoint is kept.",
                )
            time.sleep(POLL_SECONDS)

    def _known(self) -> set[str]:
        """Addresses that the scheduler has now; none while it cannot be reached."""
        if self._client.status != "running":
            return set()
        return set(self._client.scheduler_info(n_workers=-1)["workers"])

    def _reassign(self) -> None:
        living = self._living()
        self._owners = assign(self._shares, self._owners, living)
        # Look again before the next application while a worker has more than one share.
        self._crowded = len(set(self._owners.values())) < len(self._shares)
