"""The worker supervisor brings its child back, ever more slowly, and leaves none behind."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from service.cli.supervisor import Backoff, Supervisor

SHORT = Backoff(first_seconds=0.01, longest_seconds=0.04, steady_seconds=60.0)


def _start(supervisor: Supervisor) -> threading.Thread:
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    return thread


def _wait_for(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_pauses_double_up_to_the_longest_and_start_over_after_a_long_life():
    backoff = Backoff(first_seconds=0.5, longest_seconds=15.0)
    assert [backoff.pause(n) for n in (0, 1, 2, 3, 6, 7, 10**6)] == [0.5, 0.5, 1, 2, 15, 15, 15]


def test_a_child_that_ends_is_started_again_until_stop(tmp_path: Path):
    lives = tmp_path / "lives"
    script = f"open({str(lives)!r}, 'a').write('x')"
    reports: list[str] = []
    supervisor = Supervisor(
        [sys.executable, "-c", script], os.environ, report=reports.append, backoff=SHORT
    )
    thread = _start(supervisor)
    _wait_for(lambda: lives.exists() and len(lives.read_text()) >= 3)
    supervisor.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert "exit code 0" in reports[0]


@pytest.mark.parametrize("deaf", [False, True], ids=["willing", "ignores SIGTERM"])
def test_stop_leaves_no_child(tmp_path: Path, deaf: bool):
    pid_file = tmp_path / "pid"
    script = (
        "import os, signal, sys, time\n"
        + ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else "")
        + f"open({str(pid_file)!r}, 'w').write(str(os.getpid()) + '.')\n"
        "time.sleep(60)\n"
    )
    reports: list[str] = []
    supervisor = Supervisor(
        [sys.executable, "-c", script], os.environ, report=reports.append, stop_seconds=0.3
    )
    thread = _start(supervisor)
    _wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
    supervisor.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert not Path(f"/proc/{pid_file.read_text()[:-1]}").exists()
    assert any("killing" in report for report in reports) == deaf
