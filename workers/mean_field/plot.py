"""The convergence of a kernel with depth as a picture: a Vega-Lite document.

Vega-Lite is JSON that notebooks (`altair.Chart.from_dict`), editors and web pages draw, so an
analysis can return a picture without drawing anything itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.mean_field.convergence import DepthConvergence

Floats = NDArray[np.float64]

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def convergence_plot(result: DepthConvergence) -> dict[str, Any]:
    """Largest distances to the limit against depth (solid), and theory's rate (dashed).

    Both axes are logarithmic where the rate is ln(L)/L, else only that of distances. Values that
    are 0 or not finite are left out.
    """
    critical = result.limit.normaliser != "1"
    depths = result.depths.astype(np.float64)
    measured = {
        "NTK, x != x'": result.ntk_distinct,
        "NTK, x = x'": result.ntk_equal,
        "NNGP, x != x'": result.nngp_distinct,
    }
    return {
        "$schema": SCHEMA,
        "title": f"{result.architecture}: distance to the limit",
        "width": 420,
        "height": 300,
        "layer": [
            {
                "data": {"values": _points(depths, measured)},
                "mark": {"type": "line", "point": True},
                "encoding": _encoding(critical),
            },
            {
                "data": {"values": _points(depths, {"theory": result.expected})},
                "mark": {"type": "line", "strokeDash": [5, 4]},
                "encoding": _encoding(critical),
            },
        ],
    }


def _encoding(critical: bool) -> dict[str, Any]:
    return {
        "x": {
            "field": "depth",
            "type": "quantitative",
            "title": "depth L (affine layers)",
            "scale": {"type": "log" if critical else "linear", "nice": False},
        },
        "y": {
            "field": "distance",
            "type": "quantitative",
            "title": "largest distance to the limit",
            "scale": {"type": "log"},
            "axis": {"format": ".0e"},
        },
        "color": {"field": "series", "type": "nominal", "title": None},
    }


def _points(depths: Floats, series: dict[str, Floats]) -> list[dict[str, Any]]:
    return [
        {"series": name, "depth": int(depth), "distance": float(value)}
        for name, values in series.items()
        for depth, value in zip(depths, values, strict=True)
        if np.isfinite(value) and value > 0
    ]
