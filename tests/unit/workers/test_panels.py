"""The panel cache: bounded, and never reads twice what it still holds."""

from __future__ import annotations

from workers.panels import PanelCache, PreparedPanel


def panel(value: int) -> PreparedPanel:
    return PreparedPanel(rows=value, blocks=(), nbytes=400)


def test_least_recently_used_panels_leave_first_and_the_limit_holds() -> None:
    cache = PanelCache(limit_bytes=1200)
    for n in range(3):
        cache.get(("ds", n, n + 1, "float32", "kernel"), lambda n=n: panel(n))
    assert cache.get(("ds", 0, 1, "float32", "kernel"), lambda: panel(99)).rows == 0
    cache.get(("ds", 3, 4, "float32", "kernel"), lambda: panel(3))  # pushes out panel 1
    assert cache.held_bytes == 1200
    assert cache.get(("ds", 0, 1, "float32", "kernel"), lambda: panel(99)).rows == 0
    assert cache.get(("ds", 1, 2, "float32", "kernel"), lambda: panel(99)).rows == 99
    assert cache.reads == 5


def test_the_two_panels_a_tile_needs_are_held_even_above_the_limit() -> None:
    cache = PanelCache(limit_bytes=0)
    cache.get(("ds", 0, 1, "float32", "kernel"), lambda: panel(0))
    cache.get(("ds", 1, 2, "float32", "kernel"), lambda: panel(1))
    cache.get(("ds", 0, 1, "float32", "kernel"), lambda: panel(9))
    assert cache.reads == 2
