"""Keeping one child process alive: restart with growing pauses until told to stop.

Dask workers leave, with exit code 0, when their scheduler goes away, and never come back by
themselves; whoever runs them has to start them again.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Pauses between restarts: doubled after each short life, reset after a long one."""

    first_seconds: float = 0.5
    longest_seconds: float = 15.0
    # A child that lived this long was well; its end is news, not part of a series.
    steady_seconds: float = 30.0

    def pause(self, short_lives: int) -> float:
        """Seconds to wait after `short_lives` short lives in a row (0: the last one was long)."""
        exponent = min(max(short_lives - 1, 0), 32)
        return float(min(self.first_seconds * 2.0**exponent, self.longest_seconds))


class Supervisor:
    """Runs `command` again and again until `stop()`; `stop()` may come from a signal handler."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        report: Callable[[str], None],
        backoff: Backoff | None = None,
        stop_seconds: float = 10.0,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._report = report
        self._backoff = backoff or Backoff()
        self._stop_seconds = stop_seconds
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Returns only after `stop()`, with no child left running."""
        short_lives = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            child = subprocess.Popen(self._command, env=self._environment)
            code = self._wait(child)
            if code is None:
                self._end(child)
                return
            lived_seconds = time.monotonic() - started
            short_lives = 0 if lived_seconds >= self._backoff.steady_seconds else short_lives + 1
            pause = self._backoff.pause(short_lives)
            self._report(
                f"the workers left (exit code {code}, after {lived_seconds:.0f} s); "
                f"starting them again in {pause:.1f} s"
            )
            self._stopping.wait(pause)

    def _wait(self, child: subprocess.Popen[bytes]) -> int | None:
        """The child's exit code, or None when `stop()` came first."""
        while not self._stopping.is_set():
            try:
                return child.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
        return None

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        child.terminate()
        try:
            child.wait(timeout=self._stop_seconds)
        except subprocess.TimeoutExpired:
            self._report(f"the workers did not end within {self._stop_seconds:g} s; killing them")
            child.kill()
            child.wait()
