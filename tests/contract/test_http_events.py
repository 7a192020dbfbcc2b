"""The event stream of a job: numbers, resuming, heartbeats, its end, and restarts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.client import Event
from storage.catalog import Target
from support.server import LiveServer, free_port, live_server, offline_settings

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def train(upload: Callable[..., str]) -> str:
    return upload(RNG.standard_normal((20, 3)))


@pytest.fixture
def job(server: LiveServer, train: str, request: pytest.FixtureRequest) -> str:
    """A queued job with three progress events."""
    depth = 1 + abs(hash(request.node.name)) % 500
    with server.client() as client:
        job_id = client.gram(train, kernel={"preset": "fc", "depth": depth}).id
    for n in range(3):
        progress(server, job_id, n)
    return job_id


def progress(server: LiveServer, job_id: str, n: int) -> None:
    server.services.catalog.append_event(job_id, "progress", {"n": n})
    server.services.events.publish(job_id)


def read(response: httpx2.Response, count: int) -> list[str]:
    """The first `count` messages of a stream, comments included."""
    messages: list[str] = []
    lines: list[str] = []
    for line in response.iter_lines():
        if line:
            lines.append(line)
            continue
        messages.append("\n".join(lines))
        lines = []
        if len(messages) == count:
            break
    return messages


def test_events_are_numbered_and_resume_after_the_last_one_seen(
    http: httpx2.Client, job: str
) -> None:
    url = f"/v1/jobs/{job}/events"
    with http.stream("GET", url) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        messages = read(response, 5)
    assert messages[0].startswith("retry: ")
    assert messages[1] == 'event: state\ndata: {"state":"queued"}\nid: 1'
    assert messages[2:] == [f'event: progress\ndata: {{"n":{n}}}\nid: {n + 2}' for n in range(3)]
    with http.stream("GET", url, headers={"Last-Event-ID": "3"}) as response:
        assert read(response, 2)[1].endswith("id: 4")


def test_an_idle_stream_shows_that_it_lives(http: httpx2.Client, job: str) -> None:
    with http.stream("GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "4"}) as response:
        assert read(response, 3)[1:] == [": still there"] * 2


def test_news_arrive_at_once_not_at_the_next_heartbeat(
    tmp_path: Path, train: str, server: LiveServer
) -> None:
    settings = offline_settings(tmp_path, heartbeat_seconds=60.0)
    with live_server(settings) as slow, slow.client() as client:
        data = client.upload(RNG.standard_normal((20, 3))).id
        job_id = client.gram(data, kernel="fc").id
        watch = client.watch(job_id)
        assert next(watch) == Event(1, "state", {"state": "queued"})
        sender = threading.Timer(0.3, progress, (slow, job_id, 7))
        sender.start()
        started = time.monotonic()
        assert next(watch) == Event(2, "progress", {"n": 7})
        assert time.monotonic() - started < 10
        client.cancel(job_id)
        assert [e.type for e in watch] == ["cancelling", "state"]


def test_the_stream_ends_with_the_job_and_then_has_nothing_more(
    server: LiveServer, http: httpx2.Client, job: str
) -> None:
    with server.client() as client:
        client.cancel(job)
        events = list(client.watch(job))
        assert [e.id for e in events] == list(range(1, len(events) + 1))
        assert events[-1].data == {"state": "cancelled"}
        assert list(client.watch(job, after=2)) == events[2:]
        assert list(client.watch(job, after=events[-1].id)) == []
    last = {"Last-Event-ID": str(events[-1].id)}
    assert http.get(f"/v1/jobs/{job}/events", headers=last).status_code == 204


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 40])
def test_last_event_ids_that_cannot_be(http: httpx2.Client, job: str, value: str) -> None:
    response = http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": value})
    assert (response.status_code, response.json()["kind"]) == (422, "invalid-request")


def test_many_watchers_of_many_jobs_each_see_everything(server: LiveServer, train: str) -> None:
    with server.client() as client:
        jobs = [client.gram(train, kernel={"preset": "fc", "depth": 600 + n}).id for n in range(3)]
        seen: dict[tuple[int, str], list[Event]] = {}

        def watch(number: int, job_id: str) -> None:
            seen[number, job_id] = list(client.watch(job_id))

        threads = [threading.Thread(target=watch, args=(k, job)) for k in range(4) for job in jobs]
        for thread in threads:
            thread.start()
        for n in range(20):
            for job_id in jobs:
                progress(server, job_id, n)
        for job_id in jobs:
            client.cancel(job_id)
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert len(seen) == 12
    for (_, job_id), events in seen.items():
        assert [e.id for e in events] == list(range(1, 24)), job_id
        assert [e.data["n"] for e in events if e.type == "progress"] == list(range(20))


def test_open_streams_do_not_hold_up_the_shutdown_and_watchers_survive_a_restart(
    tmp_path: Path,
) -> None:
    settings = offline_settings(tmp_path, port=free_port(), heartbeat_seconds=60.0)
    seen: list[Event] = []
    started = threading.Event()
    with live_server(settings) as first:
        client = first.client(reconnect_seconds=30.0)
        job_id = client.gram(RNG.standard_normal((20, 3)), kernel="fc").id

        def watch() -> None:
            for event in client.watch(job_id):
                seen.append(event)
                started.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert started.wait(10)
        closing = time.monotonic()
    assert time.monotonic() - closing < 10
    with live_server(settings) as second:
        assert second.services.catalog.get_job(job_id).target is Target.RUN
        progress(second, job_id, 1)
        with second.client() as other:
            other.cancel(job_id)
        watcher.join(30)
        assert not watcher.is_alive()
    client.close()
    assert [e.id for e in seen] == [1, 2, 3, 4]
    assert [e.type for e in seen] == ["state", "progress", "cancelling", "state"]
