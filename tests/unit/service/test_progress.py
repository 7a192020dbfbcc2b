"""Progress reaches the catalog at a bounded pace and is never lost at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.events import EventBus
from service.jobs.progress import Pace, Reporter
from storage.catalog import Catalog, open_catalog


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("service.jobs.progress.time", clock)
    return clock


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    with open_catalog(f"sqlite:///{tmp_path}/catalog.sqlite") as opened:
        opened.create_job(
            id="job-" + "1" * 32, task={"type": "gram"}, request_digest="r", body_digest="b"
        )
        yield opened


def reporter(catalog: Catalog, **options: Any) -> Reporter:
    given = {"throttle_seconds": 1.0, "max_events": 1000, **options}
    return Reporter(catalog, EventBus(), "job-" + "1" * 32, **given)


def shown(catalog: Catalog) -> list[Any]:
    return [e.data["n"] for e in catalog.events_after("job-" + "1" * 32, 0)]


def test_news_in_between_are_merged_and_the_last_is_kept(catalog: Catalog, clock: Clock) -> None:
    report = reporter(catalog)
    for n in range(10):
        report.report({"n": n})
        clock.now += 0.3
    assert shown(catalog) == [0, 4, 8]
    report.flush()
    report.flush()
    assert shown(catalog) == [0, 4, 8, 9]
    assert catalog.get_job("job-" + "1" * 32).progress == {"n": 9}


def test_forced_news_do_not_wait(catalog: Catalog, clock: Clock) -> None:
    report = reporter(catalog)
    report.report({"n": 0})
    report.report({"n": 1}, force=True)
    assert shown(catalog) == [0, 1]


def test_a_long_job_is_announced_ever_more_rarely(catalog: Catalog, clock: Clock) -> None:
    report = reporter(catalog, max_events=10)
    for n in range(2000):
        report.report({"n": n})
        clock.now += 1.0
    count = len(shown(catalog))
    # 10 events at a pause of 1 s, 10 at 2 s, 10 at 4 s, ...: 2000 s hold about 76 of them.
    assert 60 < count < 90


def test_numbers_that_are_not_finite_become_null(catalog: Catalog, clock: Clock) -> None:
    reporter(catalog).report({"n": float("nan")})
    assert shown(catalog) == [None]


def test_pace_follows_the_last_half_minute(clock: Clock) -> None:
    pace = Pace()
    assert pace.per_second() is None
    assert pace.seconds_left(10) is None
    for second in range(1, 101):
        clock.now += 1.0
        # One a second at first, ten a second later.
        pace.add(second if second <= 50 else 50 + 10 * (second - 50))
    assert pace.per_second() == pytest.approx(10.0)
    assert pace.seconds_left(100) == pytest.approx(10.0)
