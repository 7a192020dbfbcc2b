"""The course of a solve as data to plot: residuals against iterations, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.solves.solution import SolveStats

RESULT_POINTS = 1000  # of each curve in a result


def thinned(values: Sequence[float], most: int) -> list[list[float]]:
    """At most `most` points [iteration (from 1), value], evenly spread, the last one among them."""
    count = len(values)
    if count <= most:
        chosen = list(range(count))
    else:
        chosen = sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})
    return [[k + 1, values[k]] for k in chosen]


def residual_plot(stats: SolveStats, tolerance: float) -> dict[str, Any]:
    """A Vega-Lite picture of the residual: its recursion, its certificates and the tolerance.

    The numbers are in `data.values`: iteration, residual, and which curve. Zeros, which have no
    logarithm, are left out.
    """
    points = [("recursive", x, y) for x, y in thinned(stats.residual_history, RESULT_POINTS)]
    certified = stats.certified_history[-RESULT_POINTS:]
    points += [("certified", x, y) for x, y in certified]
    last = max((x for _, x, _ in points), default=0)
    points += [("tolerance", x, tolerance) for x in (0, last)]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "description": "Largest relative residual of the right-hand sides",
        "data": {
            "values": [
                {"curve": curve, "iteration": x, "residual": y} for curve, x, y in points if y > 0
            ]
        },
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "iteration", "type": "quantitative"},
            "y": {"field": "residual", "type": "quantitative", "scale": {"type": "log"}},
            "color": {"field": "curve", "type": "nominal"},
        },
    }
