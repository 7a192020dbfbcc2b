"""The picture of a convergence: the table's numbers in the Vega-Lite form."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from workers.mean_field.convergence import depth_convergence
from workers.mean_field.plot import convergence_plot

ROWS = np.random.default_rng(0).normal(size=(4, 6))


def test_critical_convergence_on_logarithmic_axes() -> None:
    depths = [30, 100, 300, 1000, 3000]
    table = depth_convergence("relu", ROWS, depths, w_std=math.sqrt(2))
    plot = json.loads(json.dumps(convergence_plot(table), allow_nan=False))
    assert plot["$schema"].endswith("vega-lite/v5.json")
    measured, theory = plot["layer"]
    points = {
        (p["series"], p["depth"]): p["distance"]
        for p in measured["data"]["values"] + theory["data"]["values"]
    }
    for depth, distance in zip(depths, table.ntk_distinct, strict=True):
        assert points["NTK, x != x'", depth] == distance
    # T^L(x, x) = L q exactly: distances of 0 or of rounding have no place on these axes.
    assert all(value > 0 for value in points.values())
    assert measured["encoding"]["x"]["scale"]["type"] == "log"
    assert [points["theory", depth] for depth in depths] == table.expected.tolist()
    # From depth 100 on the rate of theory is what one sees; 1/L would be 67 % too large at 100.
    np.testing.assert_allclose(table.expected[1:], table.ntk_distinct[1:], rtol=0.05)
    assert table.expected[-1] == table.ntk_distinct[-1]


def test_exponential_convergence_on_a_linear_axis_of_depth() -> None:
    table = depth_convergence("erf", ROWS, [10, 20, 30, 40, 60, 80, 400], w_std=1.0, b_std=0.2)
    plot = convergence_plot(table)
    assert plot["layer"][0]["encoding"]["x"]["scale"]["type"] == "linear"
    # Depth 400 is rounding: the rate goes through depth 80.
    assert table.expected[-2] == table.ntk_distinct[-2]
    decay = table.limit.decay
    assert decay is not None
    np.testing.assert_allclose(np.diff(np.log(table.expected[:2])), 10 * decay, rtol=1e-9)
    assert table.expected[-1] / table.expected[-2] == pytest.approx(math.exp(320 * decay))


def test_without_a_rate_there_is_no_line_of_theory() -> None:
    table = depth_convergence("relu", ROWS, [5, 6], w_std=math.sqrt(2))
    assert table.fit is None
    plot = convergence_plot(table)
    assert plot["layer"][1]["data"]["values"] == []
    assert {row["expected"] != row["expected"] for row in table.rows()} == {True}
