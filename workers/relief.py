"""Giving memory back before Dask pauses a worker.

Compiled programs stay in a worker for the next tile, and what compiling them took stays with
glibc: seven sizes of a ResNet-50 came to 1.2 GiB. At 80 % of its limit Dask pauses a worker, and
nothing that happens to a paused worker would free that memory: its jobs waited for ever.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

from distributed import get_worker

from workers.worker_state import WorkerState

TRIM_FRACTION = 0.6
"""Of the memory limit, from where on other kernels than the last one are forgotten."""

FORGET_FRACTION = 0.72
"""From where on everything is forgotten: compiling again is slower than not, and faster than never.
Dask pauses at 0.8 (`distributed.worker.memory.pause`)."""


def used_fraction() -> float:
    """Resident memory of this worker process over its limit; 0 outside of a worker, or without."""
    try:
        worker = get_worker()
    except ValueError:
        return 0.0
    limit = worker.memory_manager.memory_limit
    return worker.monitor.get_process_memory() / limit if limit else 0.0


def relieve(state: WorkerState, used: Callable[[], float] = used_fraction) -> None:
    """Called after each batch of tiles. Nothing that is forgotten is needed for correctness."""
    if used() < TRIM_FRACTION:
        return
    while len(state.kernels) > 1:
        del state.kernels[next(iter(state.kernels))]  # the one used longest ago
    _give_back()
    if used() < FORGET_FRACTION:
        return
    state.kernels.clear()
    state.panels.clear()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    _give_back()


def _give_back() -> None:
    """Free what nothing refers to, and hand glibc's free memory to the system (0.1 s)."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
