"""The panel cache: bounded, and never reads twice what it still holds."""

from __future__ import annotations

import numpy as np

from workers.panels import PanelCache


def panel(value: int) -> np.ndarray:
    return np.full((10, 10), value, np.float32)  # 400 bytes


def test_least_recently_used_panels_leave_first_and_the_limit_holds() -> None:
    cache = PanelCache(limit_bytes=1200)
    for n in range(3):
        cache.get(("ds", n, n + 1, "float32"), lambda n=n: panel(n))
    assert cache.get(("ds", 0, 1, "float32"), lambda: panel(99))[0, 0] == 0
    cache.get(("ds", 3, 4, "float32"), lambda: panel(3))  # pushes out panel 1
    assert cache.held_bytes == 1200
    assert cache.get(("ds", 0, 1, "float32"), lambda: panel(99))[0, 0] == 0
    assert cache.get(("ds", 1, 2, "float32"), lambda: panel(99))[0, 0] == 99
    assert cache.reads == 5


def test_the_two_panels_a_tile_needs_are_held_even_above_the_limit() -> None:
    cache = PanelCache(limit_bytes=0)
    cache.get(("ds", 0, 1, "float32"), lambda: panel(0))
    cache.get(("ds", 1, 2, "float32"), lambda: panel(1))
    cache.get(("ds", 0, 1, "float32"), lambda: panel(9))
    assert cache.reads == 2
