"""Plots as SVG: well-formed, escaped, the same every time, and true to their numbers."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.pictures.line_chart import Axis, Curve, NothingToDrawError, line_chart
from service.pictures.plots import eigenvalues, residuals

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</text><script>alert('1')</script> & \"x\" \x00\x0b"


def parsed(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    return root


def points(line: ElementTree.Element) -> np.ndarray:
    return np.array([[float(n) for n in p.split(",")] for p in line.attrib["points"].split()])


def test_every_string_is_escaped() -> None:
    chart = line_chart(EVIL, Axis(EVIL), Axis(EVIL), [Curve(EVIL, [(0, 1), (1, 2)])] * 2)
    root = parsed(chart)
    names = {element.tag for element in root.iter()}
    shapes = {"svg", "title", "desc", "style", "text", "line", "polyline", "rect"}
    assert names == {f"{SVG}{n}" for n in shapes}
    shown = [element.text for element in root.iter(f"{SVG}text")]
    assert shown.count(EVIL.replace("\x00\x0b", "\ufffd\ufffd")) == 5
    assert not [name for e in root.iter() for name in e.attrib if name.startswith("on")]


def test_the_picture_is_the_same_every_time_and_needs_nothing() -> None:
    curve = Curve("a", [(1.0, 1e-3), (2.0, 1e-6)])
    one = line_chart("t", Axis("x"), Axis("y", "log"), [curve])
    assert one == line_chart("t", Axis("x"), Axis("y", "log"), [curve])
    assert "prefers-color-scheme:dark" in one
    assert "<style" not in line_chart("t", Axis("x"), Axis("y"), [curve], standalone=False)
    assert one.count("http") == 1  # the name space


def test_logarithmic_axes_are_straight_for_powers() -> None:
    curve = Curve("power", [(k, float(k) ** -2) for k in range(1, 200)])
    (line,) = parsed(
        line_chart("t", Axis("x", "log"), Axis("y", "log"), [curve])
    ).iter(f"{SVG}polyline")  # fmt: skip
    x, y = points(line).T
    slope = np.polyfit(x, y, 1)
    assert np.abs(np.polyval(slope, x) - y).max() < 0.2  # tenths of pixels
    assert slope[0] > 0  # downwards on the screen


numbers = st.floats(allow_nan=True, allow_infinity=True)
scales = st.sampled_from(["linear", "log"])


@given(st.lists(st.tuples(numbers, numbers), max_size=6), scales, scales)
def test_any_numbers_are_drawn_inside_or_not_at_all(
    given_points: list[tuple[float, float]], x_scale: str, y_scale: str
) -> None:
    x, y = Axis("x", x_scale), Axis("y", y_scale)  # type: ignore[arg-type]
    try:
        root = parsed(line_chart("t", x, y, [Curve("c", given_points)]))
    except NothingToDrawError:
        assert not [
            p
            for p in given_points
            if all(1e-299 < v < 1e299 for v in p)
        ]  # fmt: skip
        return
    (line,) = root.iter(f"{SVG}polyline")
    for a, b in points(line):
        assert 63.9 <= a <= 624.1
        assert 39.9 <= b <= 312.1
    assert all("nan" not in value for e in root.iter() for value in e.attrib.values())


def test_residuals_of_a_running_and_of_an_ended_solve() -> None:
    history = [[k + 1, 10.0 ** (-k / 3)] for k in range(10)]
    running = parsed(residuals({"history": history, "tolerance": 1e-3}, None))
    curve, tolerance = running.iter(f"{SVG}polyline")
    assert len(points(curve)) == 10
    assert "stroke-dasharray" in tolerance.attrib
    values = [{"curve": "recursive", "iteration": k, "residual": r} for k, r in history]
    values.append({"curve": "certified", "iteration": 10, "residual": 1.1e-3})
    ended = parsed(residuals(None, {"residual_plot": {"data": {"values": values}}}))
    assert len(list(ended.iter(f"{SVG}circle"))) == 1
    for progress, summary in ((None, None), ({"phase": "factor"}, None), (None, {})):
        with pytest.raises(NothingToDrawError):
            residuals(progress, summary)


def test_a_spectrum_shows_what_is_positive_and_tells_the_rest() -> None:
    values = np.concatenate([np.geomspace(100, 1e-9, 5000), [0.0, -1e-12]])
    root = parsed(eigenvalues(values, 1e-7))
    assert root.findtext(f"{SVG}title") == "Eigenvalues (5002, 2 of them not positive)"
    curve, noise = (points(line) for line in root.iter(f"{SVG}polyline"))
    assert 300 < len(curve) <= 500
    assert math.isclose(noise[0, 1], noise[1, 1])
    with pytest.raises(NothingToDrawError):
        eigenvalues(np.array([-1.0, 0.0]), None)
