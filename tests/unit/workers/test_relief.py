"""What a worker forgets when its memory runs short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from workers.panels import PreparedPanel
from workers.relief import FORGET_FRACTION, TRIM_FRACTION, relieve, used_fraction
from workers.worker_state import WorkerState

KEY = ("ds", 0, 4, "float32", "a")


@pytest.fixture
def state() -> WorkerState:
    state = WorkerState()
    for name in ("a", "b", "a"):  # `a` is used again
        state.kernel(name, object)
    state.panels.get(KEY, lambda: PreparedPanel(4, (), 0))
    return state


@pytest.mark.parametrize(
    ("fractions", "kernels", "panels"),
    [
        ((TRIM_FRACTION - 0.01,), ["b", "a"], 1),
        ((TRIM_FRACTION, FORGET_FRACTION - 0.01), ["a"], 1),
        ((0.9, FORGET_FRACTION), [], 0),
    ],
)
def test_the_last_kernel_is_forgotten_last(
    state: WorkerState, fractions: tuple[float, ...], kernels: list[str], panels: int
) -> None:
    found: Iterator[float] = iter(fractions)
    relieve(state, lambda: next(found))
    assert list(state.kernels) == kernels
    reads = state.panels.reads
    state.panels.get(KEY, lambda: PreparedPanel(4, (), 0))
    assert 1 - (state.panels.reads - reads) == panels


def test_kernels_are_made_once(state: WorkerState) -> None:
    def never() -> Any:
        raise AssertionError

    assert state.kernel("a", never) is state.kernel("a", never)


def test_outside_of_a_worker_nothing_is_measured() -> None:
    assert used_fraction() == 0.0
