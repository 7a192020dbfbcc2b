"""What there is to plot of a job: the residuals of a solve, the eigenvalues of a spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.pictures.line_chart import Axis, Curve, line_chart

PLOTTED_TASKS = ("solve", "spectrum")

_MOST_POINTS = 500


def residuals(
    progress: Mapping[str, Any] | None,
    summary: Mapping[str, Any] | None,
    *,
    standalone: bool = True,
) -> str:
    """The course of a solve, by its result (`workers.solves.history`) or, while there is none, by
    its progress. Raises NothingToDrawError."""
    points = _of_summary(summary) if summary is not None else _of_progress(progress or {})
    names = {
        "recursive": ("in the iteration", "line"),
        "certified": ("computed anew (certified)", "dots"),
        "tolerance": ("tolerance", "dashed"),
    }
    curves = [
        Curve(label, points[name], style)  # type: ignore[arg-type]
        for name, (label, style) in names.items()
        if points.get(name)
    ]
    title = "Largest relative residual of the right-hand sides"
    axes = Axis("iteration"), Axis("residual", "log")
    return line_chart(title, *axes, curves, standalone=standalone)


def eigenvalues(
    values: NDArray[np.floating], noise_floor: float | None, *, standalone: bool = True
) -> str:
    """Eigenvalues (m,), descending, against their number, both logarithmic. Those that are not
    positive have no place, and the title says how many. Raises NothingToDrawError."""
    positive = values[values > 0]
    chosen = np.unique(
        np.rint(np.geomspace(1, max(len(positive), 1), _MOST_POINTS)).astype(np.int64)
    )
    points = [(float(k), float(positive[k - 1])) for k in chosen if k <= len(positive)]
    hidden = len(values) - len(positive)
    title = f"Eigenvalues ({len(values)}" + (f", {hidden} of them not positive)" if hidden else ")")
    curves = [Curve("eigenvalues", points)]
    if noise_floor is not None and noise_floor > 0 and points:
        ends = (points[0][0], points[-1][0])
        curves.append(Curve("rounding noise", [(x, noise_floor) for x in ends], "dashed"))
    axes = Axis("number", "log"), Axis("eigenvalue", "log")
    return line_chart(title, *axes, curves, standalone=standalone)


def _of_summary(summary: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for point in (summary.get("residual_plot") or {}).get("data", {}).get("values", []):
        found.setdefault(str(point["curve"]), []).append(
            (float(point["iteration"]), float(point["residual"]))
        )
    return found


def _of_progress(progress: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    history = _pairs(progress.get("history") or [])
    found = {"recursive": history}
    tolerance = progress.get("tolerance")
    if history and tolerance is not None:
        found["tolerance"] = [(x, float(tolerance)) for x in (history[0][0], history[-1][0])]
    return found


def _pairs(history: Iterable[Sequence[Any]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in history if y is not None]
