"""Curves over two axes as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.pictures import svg
from service.pictures.svg import element

Scale = Literal["linear", "log"]
Point = tuple[float, float]

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 48
_MOST_TICKS = 7
_LARGEST = 1e300  # and its inverse: differences and powers of such numbers are still numbers
# Legible on white and on black (contrast at least 3 to 1 with both), and told apart by most eyes.
_COLORS = ("#2f81d6", "#d1591b", "#2a9d66", "#a15fc4")


@dataclass(frozen=True)
class Curve:
    """Points from left to right. Those without a place on the axes are left out."""

    label: str
    points: Sequence[Point]
    style: Literal["line", "dashed", "dots"] = "line"


@dataclass(frozen=True)
class Axis:
    label: str
    scale: Scale = "linear"


class NothingToDrawError(ValueError):
    """No curve has a point with a place on the axes."""


def line_chart(
    title: str, x: Axis, y: Axis, curves: Sequence[Curve], *, standalone: bool = True
) -> str:
    """An SVG document. Raises NothingToDrawError."""
    kept = [(curve, [p for p in curve.points if _has_place(p, x, y)]) for curve in curves]
    everything = [point for _, points in kept for point in points]
    if not everything:
        raise NothingToDrawError(f"{title}: there is no point to draw")
    across = _Ruler.over([p[0] for p in everything], x.scale, _LEFT, _WIDTH - _RIGHT)
    up = _Ruler.over([p[1] for p in everything], y.scale, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        element("text", svg.text(title), x=_LEFT, y=20, fill="currentColor", font_weight="600"),
        *_grid(across, up),
        element(
            "text",
            svg.text(x.label),
            x=(_LEFT + _WIDTH - _RIGHT) / 2,
            y=_HEIGHT - 10,
            fill="currentColor",
            text_anchor="middle",
        ),
        element(
            "text",
            svg.text(y.label),
            transform=f"translate(14 {(_TOP + _HEIGHT - _BOTTOM) // 2}) rotate(-90)",
            fill="currentColor",
            text_anchor="middle",
        ),
    ]
    for number, (curve, points) in enumerate(kept):
        color = _COLORS[number % len(_COLORS)]
        parts.append(_drawn(curve, [(across.at(a), up.at(b)) for a, b in points], color))
    if len(curves) > 1:
        parts += _legend(curves)
    description = "; ".join(f"{curve.label}: {len(points)} points" for curve, points in kept)
    return svg.drawing(_WIDTH, _HEIGHT, title, description, *parts, standalone=standalone)


@dataclass(frozen=True)
class _Ruler:
    """Numbers to pixels along one axis, and where its ticks are."""

    low: float
    high: float
    scale: Scale
    first: float
    last: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: list[float], scale: Scale, first: float, last: float) -> _Ruler:
        low, high = min(values), max(values)
        if scale == "log":
            least = math.floor(math.log10(low))
            most = max(math.ceil(math.log10(high)), least + 1)
            step = math.ceil((most - least) / _MOST_TICKS)
            ticks = tuple(10.0**power for power in range(least, most + 1, step))
            return cls(10.0**least, 10.0**most, scale, first, last, ticks)
        largest = max(abs(low), abs(high))
        # What differs in its last digits only is one number, and needs a scale around it.
        varied = high - low > 1e-9 * max(largest, 1 / _LARGEST)
        edge = _nice((high - low) / (_MOST_TICKS - 1) if varied else max(largest, 1e-9))
        least = math.floor(low / edge)
        most = max(math.ceil(high / edge), least + 1)
        ticks = tuple(k * edge for k in range(least, most + 1))
        return cls(ticks[0], ticks[-1], scale, first, last, ticks)

    def at(self, value: float) -> float:
        if self.scale == "log":
            low, high = math.log(self.low), math.log(self.high)
            part = (math.log(value) - low) / (high - low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.first + part * (self.last - self.first)


def _has_place(point: Point, x: Axis, y: Axis) -> bool:
    return all(
        1 / _LARGEST < value < _LARGEST if axis.scale == "log" else abs(value) < _LARGEST
        for value, axis in zip(point, (x, y), strict=True)
    )


def _nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def _grid(across: _Ruler, up: _Ruler) -> list[str]:
    parts = []
    for value in up.ticks:
        y = up.at(value)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, 0.15))
        parts.append(_tick(_label(value, up.scale), x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for value in across.ticks:
        x = across.at(value)
        parts.append(_line(x, _TOP, x, _HEIGHT - _BOTTOM, 0.15))
        label = _label(value, across.scale)
        parts.append(_tick(label, x=x, y=_HEIGHT - _BOTTOM + 16, text_anchor="middle"))
    parts.append(_line(_LEFT, _TOP, _LEFT, _HEIGHT - _BOTTOM, 0.6))
    parts.append(_line(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, 0.6))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float) -> str:
    return element(
        "line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_opacity=str(opacity)
    )


def _tick(label: str, **place: str | float) -> str:
    return element("text", svg.text(label), fill="currentColor", font_size="11", **place)


def _label(value: float, scale: Scale) -> str:
    if scale == "log":
        power = round(math.log10(value))
        return f"{10**power}" if 0 <= power <= 3 else f"1e{power}"
    return f"{value:.6g}"


def _drawn(curve: Curve, points: list[Point], color: str) -> str:
    if curve.style == "dots":
        return element(
            "g",
            *(element("circle", cx=x, cy=y, r="2.5") for x, y in points),
            fill=color,
        )
    path = " ".join(f"{svg.number(x)},{svg.number(y)}" for x, y in points)
    dashes = {"stroke_dasharray": "6 4"} if curve.style == "dashed" else {}
    return element("polyline", points=path, fill="none", stroke=color, stroke_width="1.8", **dashes)


def _legend(curves: Sequence[Curve]) -> list[str]:
    parts = []
    for number, curve in enumerate(curves):
        y = _TOP + 14 + 16 * number
        x = _WIDTH - _RIGHT - 8
        parts.append(
            element("text", svg.text(curve.label), x=x - 18, y=y, fill="currentColor",
                    text_anchor="end")
        )  # fmt: skip
        color = _COLORS[number % len(_COLORS)]
        parts.append(element("rect", x=x - 12, y=y - 9, width="12", height="9", fill=color))
    return parts
