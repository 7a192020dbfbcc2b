"""Many clients at once: 500 that poll and follow jobs and 50 that submit, while a worker computes.

    python tests/benchmarks/service_load.py [--requests 20000] [--label "after ..."] [--share]

The clients run in this process, the service (with the Dask scheduler) in another, its one worker in
a third. The worker leaves one core, which service and clients share; with `--share` nothing is
pinned, and all three are on all cores.

What is measured is the time from sending `GET /v1/jobs/{id}` to having its answer, as a client sees
it: it has in it what the event loop of the clients was late, which is given beside it. Half of the
followers stay with one long job, the others follow one small job after the other to its end. Events
must be numbered without gaps, from the first to the last one. The soak is bounded by a number of
requests: the resident memory of the service is read on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from measure import host, table, write_results

from service.client import Client
from service.demo.embedded import embedded_service

KERNEL = {"preset": "fc", "depth": 2}
POLLERS, FOLLOWERS, SUBMITTERS = 250, 250, 50
POLL_SECONDS = 2.0  # what `Retry-After` says
DATASETS, ROWS = 64, 256
BACKGROUND_ROWS = 40_000
# More work than the clients have time for, in tiles of some tenths of a second.
LONG = {"preset": "fc", "depth": 1000}
LONG_TILE_ROWS = 512
LAG_SECONDS = 0.02


@dataclass
class Seen:
    """What the clients saw."""

    wanted: int
    status_seconds: list[float] = field(default_factory=list)
    submit_seconds: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    events: int = 0
    gaps: int = 0
    streams: int = 0
    jobs: int = 0
    rss: list[tuple[int, int]] = field(default_factory=list)  # (status requests, bytes)
    lag_seconds: list[float] = field(default_factory=list)  # of the clients' own event loop
    first_seen: dict[tuple[str, int], float] = field(default_factory=dict)  # of each event
    behind_seconds: list[float] = field(default_factory=list)  # others' sight of it after that

    @property
    def enough(self) -> bool:
        return len(self.status_seconds) >= self.wanted


class Load:
    """The clients. `jobs`: those that somebody may poll or follow; the first is the long one."""

    def __init__(
        self, session: aiohttp.ClientSession, datasets: list[str], long: str, seen: Seen
    ) -> None:
        self.session = session
        self.seen = seen
        self.jobs = [long]
        pairs = list(itertools.permutations(datasets, 2))
        random.Random(0).shuffle(pairs)
        self.pairs = iter(pairs)

    async def status(self, job: str) -> dict[str, Any]:
        while True:
            started = time.perf_counter()
            try:
                async with self.session.get(f"/v1/jobs/{job}") as answer:
                    document: dict[str, Any] = await answer.json(content_type=None)
            except aiohttp.ServerDisconnectedError:
                # An idle connection that the server closed as it was taken from the pool.
                self.seen.answers["connected anew"] += 1
                continue
            self.seen.status_seconds.append(time.perf_counter() - started)
            self.seen.answers[f"status {answer.status}"] += 1
            return document

    async def poll(self) -> None:
        """Asks for one of the newest jobs, as often as the service says."""
        await asyncio.sleep(random.uniform(0, POLL_SECONDS))
        while not self.seen.enough:
            await self.status(random.choice(self.jobs[-100:]))
            await asyncio.sleep(POLL_SECONDS)

    async def follow(self, number: int) -> None:
        """Follows the long job, or one of the newest after the other, each to its end."""
        await asyncio.sleep(random.uniform(0, POLL_SECONDS))
        while not self.seen.enough:
            job = self.jobs[0] if number % 2 else random.choice(self.jobs[-20:])
            last, ended = 0, False
            while not (ended or self.seen.enough):
                try:
                    last, ended = await self.stream(job, last)
                except aiohttp.ServerDisconnectedError:
                    self.seen.answers["connected anew"] += 1
            self.seen.streams += ended
            await asyncio.sleep(0.1)

    async def stream(self, job: str, last: int) -> tuple[int, bool]:
        """The number of the last event, and whether the stream came to its end."""
        headers = {"Last-Event-ID": str(last)}
        opened = time.perf_counter()
        async with self.session.get(f"/v1/jobs/{job}/events", headers=headers) as answer:
            self.seen.answers[f"events {answer.status}"] += 1
            async for line in answer.content:
                if line.startswith(b"id:"):
                    number = int(line[3:])
                    self.seen.gaps += number != last + 1
                    self.seen.events += 1
                    self.note(job, number, opened)
                    last = number
                if self.seen.enough:
                    return last, False
        return last, True

    def note(self, job: str, number: int, opened: float) -> None:
        """How long after the first follower this one has an event that is new."""
        now = time.perf_counter()
        first = self.seen.first_seen.setdefault((job, number), now)
        if first > opened:
            self.seen.behind_seconds.append(now - first)

    async def submit(self) -> None:
        """Asks for a small matrix that is not there yet, waits for it, and asks for the next."""
        await asyncio.sleep(random.uniform(0, 5))
        while not self.seen.enough:
            left, right = next(self.pairs)
            task = {"type": "gram", "kernel": KERNEL, "x1": left, "x2": right}
            started = time.perf_counter()
            try:
                async with self.session.post("/v1/jobs", json={"task": task}) as answer:
                    document = await answer.json(content_type=None)
            except aiohttp.ServerDisconnectedError:
                self.seen.answers["connected anew"] += 1
                continue
            self.seen.submit_seconds.append(time.perf_counter() - started)
            self.seen.answers[f"submit {answer.status}"] += 1
            if answer.status == 202:
                self.jobs.append(document["id"])
                while document["state"] in ("queued", "running") and not self.seen.enough:
                    await asyncio.sleep(POLL_SECONDS)
                    document = await self.status(document["id"])
                self.seen.jobs += document["state"] == "succeeded"
            await asyncio.sleep(3.0)

    async def watch_lag(self) -> None:
        """How late this process comes to what it wanted to do at a certain moment."""
        while not self.seen.enough:
            wanted = time.perf_counter() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.seen.lag_seconds.append(time.perf_counter() - wanted)

    async def watch_memory(self, process: psutil.Process) -> None:
        while not self.seen.enough:
            self.seen.rss.append((len(self.seen.status_seconds), process.memory_info().rss))
            await asyncio.sleep(2.0)


async def run(url: str, datasets: list[str], long: str, pid: int, requests: int) -> Seen:
    seen = Seen(requests)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        load = Load(session, datasets, long, seen)
        await asyncio.gather(
            load.watch_memory(psutil.Process(pid)),
            load.watch_lag(),
            *(load.poll() for _ in range(POLLERS)),
            *(load.follow(number) for number in range(FOLLOWERS)),
            *(load.submit() for _ in range(SUBMITTERS)),
        )
    return seen


def quantiles(seconds: list[float]) -> Mapping[str, float]:
    values = np.sort(np.array(seconds)) * 1000
    found = {f"p{q}_ms": float(np.percentile(values, q)) for q in (50, 90, 99)}
    return {"count": len(seconds), **found, "max_ms": float(values[-1])}


def tiles_done(client: Client, job: str) -> int:
    return int((client.job(job).progress or {}).get("tiles_done", 0))


def workers_of(service: psutil.Process) -> list[psutil.Process]:
    return service.children(recursive=True)


def pin(process: psutil.Process, cores: set[int]) -> None:
    """Keep every thread of a process on `cores`; those it starts later inherit that."""
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores)


def share_out(service: psutil.Process) -> str:
    """Keep the worker off one core; says so."""
    cores = sorted(os.sched_getaffinity(0))
    left = {cores[-1]}
    pin(service, left)
    os.sched_setaffinity(0, left)
    for worker in workers_of(service):
        pin(worker, set(cores[:-1]) or left)
    return "service and clients share a core that the worker leaves them"


def cpu_seconds(service: psutil.Process) -> dict[str, float]:
    """CPU time so far, of each of the three."""
    return {
        "service": _spent(service),
        "worker": sum(_spent(worker) for worker in workers_of(service)),
        "clients": time.process_time(),
    }


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(requests: int, *, share: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        data = Path(name) / "data"
        options = ["--workers", "1", "--log-level", "warning", "--set", "max_running_jobs=8"]
        with embedded_service(data, options=options) as service, Client(service.url) as client:
            datasets = [
                client.upload(rng.standard_normal((ROWS, 16)).astype(np.float32)).id
                for _ in range(DATASETS)
            ]
            many = rng.standard_normal((BACKGROUND_ROWS, 64)).astype(np.float32)
            background = client.gram(client.upload(many).id, kernel=LONG, tile_rows=LONG_TILE_ROWS)
            while not tiles_done(client, background.id):  # its kernel is compiled
                time.sleep(0.5)
            process = psutil.Process(service.process.pid)
            set_up = "all three share all cores" if share else share_out(process)
            before, started = cpu_seconds(process), time.perf_counter()
            seen = asyncio.run(
                run(service.url, datasets, background.id, service.process.pid, requests)
            )
            wall = time.perf_counter() - started
            spent = {who: now - before[who] for who, now in cpu_seconds(process).items()}
            tiles = tiles_done(client, background.id)
            client.cancel(background.id)
    half = [bytes_ for at, bytes_ in seen.rss if at >= requests // 2]
    return {
        "set_up": set_up,
        "clients": {"polling": POLLERS, "following": FOLLOWERS, "submitting": SUBMITTERS},
        "wall_seconds": wall,
        "cpu_seconds": spent,
        "status": quantiles(seen.status_seconds),
        "submit": quantiles(seen.submit_seconds),
        "event after its first follower": quantiles(seen.behind_seconds),
        "lag of the clients' event loop": quantiles(seen.lag_seconds),
        "answers": dict(seen.answers),
        "events": seen.events,
        "streams_followed_to_the_end": seen.streams,
        "gaps_in_event_numbers": seen.gaps,
        "jobs_succeeded": seen.jobs,
        "background_tiles": tiles,
        "rss_mib": {
            "first": seen.rss[0][1] / 2**20,
            "half_way": half[0] / 2**20,
            "last": seen.rss[-1][1] / 2**20,
            "most": max(bytes_ for _, bytes_ in seen.rss) / 2**20,
        },
    }


TIMES = ("status", "submit", "event after its first follower", "lag of the clients' event loop")


def page(found: dict[str, Any], about: dict[str, Any], label: str) -> str:
    rows = [
        [
            what,
            *(f"{found[what][key]:.1f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms")),
            str(found[what]["count"]),
        ]
        for what in TIMES
    ]
    clients = ", ".join(f"{count} {what}" for what, count in found["clients"].items())
    spent = ", ".join(f"{who} {cpu:.0f}" for who, cpu in found["cpu_seconds"].items())
    memory = ", ".join(f"{name} {mib:.0f}" for name, mib in found["rss_mib"].items())
    return "\n".join(
        [
            "# Load",
            "",
            f"`python tests/benchmarks/service_load.py`{', ' + label if label else ''}."
            f" {about['cpu']}, {about['cores']} cores, Python {about['python']},"
            f" {about['date']}, load before {about['load_before']:.2f}; {found['set_up']}. The"
            " worker computes all the time.",
            "",
            table(["", "p50 ms", "p90 ms", "p99 ms", "most ms", "count"], rows),
            "",
            f"Clients: {clients}; {found['wall_seconds']:.0f} s. CPU seconds: {spent}. Events:"
            f" {found['events']}, gaps in"
            f" their numbers: {found['gaps_in_event_numbers']}, streams followed to their end:"
            f" {found['streams_followed_to_the_end']}. Jobs succeeded: {found['jobs_succeeded']},"
            f" beside {found['background_tiles']} tiles of a long job. Resident memory of the"
            f" service in MiB: {memory}. Answers: `{json.dumps(found['answers'])}`.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--label", default="")
    parser.add_argument("--share", action="store_true", help="Pin nothing to a core.")
    parser.add_argument("--dry", action="store_true", help="Print, and write no result file.")
    given = parser.parse_args()
    about = host()
    found = measure(given.requests, share=given.share)
    text = page(found, about, given.label)
    print(text)
    if not given.dry:
        document = {"host": about, "label": given.label, **found}
        for path in write_results("service-load", document, text):
            print(path)


if __name__ == "__main__":
    main()
