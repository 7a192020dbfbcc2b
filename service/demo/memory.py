"""Peak memory of a family of processes, read from /proc."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def family_bytes(root_pid: int) -> int:
    """Resident bytes of a process and all its descendants now (0 where there is no /proc).

    Pages that processes share (libraries, mapped files) count once for each of them, so the sum
    is never less than what the family really uses.
    """
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for folder in _PROC.glob("[0-9]*"):
        try:
            # The name in parentheses may hold spaces; the fields after it do not.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we were looking
        parents[int(folder.name)] = int(fields[1])
        resident[int(folder.name)] = int(fields[21]) * _PAGE_BYTES
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    total, waiting = 0, [root_pid]
    while waiting:
        pid = waiting.pop()
        total += resident.get(pid, 0)
        waiting.extend(children.get(pid, []))
    return total


class MemoryWatch:
    """Samples `family_bytes` in a thread while the `with` block runs and keeps the largest."""

    def __init__(self, root_pid: int, *, interval_seconds: float = 0.2) -> None:
        self._root_pid = root_pid
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-watch", daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, family_bytes(self._root_pid))
            if self._stop.wait(self._interval_seconds):
                return
