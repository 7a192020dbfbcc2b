"""Pictures of experiments as data, and as SVG by matplotlib (the optional extra `paper`)."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from storage.errors import GramianError

Floats = NDArray[np.float64]

_PANEL_INCHES = (4.2, 3.4)
_PANELS_PER_ROW = 3


class DrawingUnavailableError(GramianError):
    """matplotlib, which draws the pictures, is not installed."""

    kind = "drawing-unavailable"


@dataclass(frozen=True)
class Curve:
    """`y` (n,) against `x` (n,); `low` and `high` (n,) fill a band. Values that are not finite
    are left out."""

    label: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    style: Literal["line", "dashed", "points"] = "line"


@dataclass(frozen=True)
class Picture:
    """Colours in [0, 1], (P, Q, 3); each pixel is drawn as a square."""

    pixels: Floats


@dataclass(frozen=True)
class Panel:
    """One pair of axes, or a picture in their place."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    picture: Picture | None = None


def require_drawing() -> None:
    """Raise DrawingUnavailableError unless pictures can be drawn: before any work is done."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise DrawingUnavailableError(
            "Pictures are drawn by matplotlib, which is not installed.",
            advice="Install it with: pip install 'gramian[paper]'",
        ) from error


def svg(title: str, panels: tuple[Panel, ...]) -> bytes:
    """The panels side by side as an SVG document; equal input gives equal bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(len(panels), _PANELS_PER_ROW)
    rows = math.ceil(len(panels) / columns)
    # Without a salt of its own, matplotlib gives the elements of each drawing random names.
    with matplotlib.rc_context({"svg.hashsalt": "gramian", "font.size": 9}):
        drawing = Figure(
            figsize=(_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows + 0.4),
            layout="constrained",
        )
        drawing.suptitle(title)
        grid = drawing.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel)
        file = io.BytesIO()
        drawing.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw(axes: Any, panel: Panel) -> None:
    if panel.picture is not None:
        axes.imshow(np.clip(panel.picture.pixels, 0, 1), interpolation="nearest")
        axes.set_title(panel.title)
        axes.set_axis_off()
        return
    for number, curve in enumerate(panel.curves):
        color = f"C{number % 10}"
        line, marker = {"line": ("-", ""), "dashed": ("--", ""), "points": ("", "o")}[curve.style]
        axes.plot(
            curve.x, curve.y, linestyle=line, marker=marker, markersize=3, color=color,
            linewidth=1.3, label=curve.label,
        )  # fmt: skip
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)
    axes.set(
        title=panel.title,
        xlabel=panel.x_label,
        ylabel=panel.y_label,
        xscale=panel.x_scale,
        yscale=panel.y_scale,
    )
    axes.grid(visible=True, alpha=0.3)
    if len(panel.curves) > 1:
        axes.legend(fontsize=7)
