"""What a Dask worker process keeps between tile tasks: prepared panels and compiled kernels.

The state hangs on the Worker object, so it lives and dies with the worker and needs no plugin to
be registered (a registered plugin would be forgotten with a restarted scheduler). Outside a
worker, for instance in tests and in library use, every call gets a fresh state.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from distributed import get_worker

from workers.logs import FORMAT_VARIABLE, configure
from workers.panels import PanelCache

_ATTRIBUTE = "gramian_state"


class WorkerState:
    """Per-process caches; nothing here is needed for correctness."""

    def __init__(self) -> None:
        self.panels = PanelCache(limit_bytes=0)
        self.kernels: dict[str, Any] = {}  # by digest, the one used last at the end

    def kernel(self, key: str, compiled: Callable[[], Any]) -> Any:
        """The kernel under `key`, made with `compiled()` when it is not held."""
        found = self.kernels.pop(key, None)
        self.kernels[key] = compiled() if found is None else found
        return self.kernels[key]


def worker_state() -> WorkerState:
    """The state of the worker that runs the calling task, created on first use."""
    try:
        worker = get_worker()
    except ValueError:
        return WorkerState()
    state: WorkerState | None = getattr(worker, _ATTRIBUTE, None)
    if state is None:
        # The first task in this process: Dask has set up its logging, which is replaced if asked.
        if os.environ.get(FORMAT_VARIABLE) == "json":
            configure("json")
        state = WorkerState()
        setattr(worker, _ATTRIBUTE, state)
    return state


def own_address() -> str:
    """Address of the worker that runs the calling task; empty outside of one."""
    try:
        return str(get_worker().address)
    except ValueError:
        return ""
