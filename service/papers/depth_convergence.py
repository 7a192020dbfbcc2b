"""Hayou et al. 2019, figure 1: how fast the NTK reaches its limit with depth.

Three panels: edge of chaos, ordered phase, residual networks of several weight deviations. The
paper's rates are O(1/L) at the edge of chaos and for residual networks (with a logarithm for smooth
activations), exponential in the ordered phase. For ReLU its proof drops a term: the exact rate at
the edge of chaos is T^L/L = limit + (3/8) ln(L)/L + O(1/L), relative to the diagonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.papers.data import Images, load_images
from service.papers.experiment import Experiment
from service.papers.figure import Curve, Panel
from service.papers.lab import Lab
from service.papers.report import Comparison, Report, Table, Value

SMOOTH = "elu"
SMOOTH_BIAS, PUBLISHED_EDGE = 0.2, 1.227  # (b_std, w_std) of the paper for ELU
EDGE, ORDERED, RESIDUAL = "edge of chaos", "ordered phase", "residual, ReLU"
ORDERED_DEVIATIONS = {"relu": (1.2, 0.5), SMOOTH: (1.0, 0.5)}  # (w_std, b_std)


@dataclass(frozen=True)
class Size:
    rows: int  # images
    depths: tuple[int, ...]  # at the edge of chaos, and of residual networks
    ordered_depths: tuple[int, ...]
    residual_deviations: tuple[float, ...]


@dataclass(frozen=True)
class Series:
    """One curve. `table`: rows of the analysis `depth_convergence`; `fit`: what it fitted."""

    panel: str
    label: str
    table: list[dict[str, float]]
    fit: dict[str, Any]

    def column(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        values = [row[name] for row in self.table]
        return np.array([math.nan if v is None else v for v in values], dtype=np.float64)

    def power(self, first: int, last: int) -> float:
        """d ln distance/d ln depth between two rows."""
        depth, distance = self.column("depth"), self.column("ntk_distinct")
        return float(np.log(distance[last] / distance[first]) / np.log(depth[last] / depth[first]))


def measure(lab: Lab, size: Size) -> Report:
    images = load_images(lab.data or "mnist")
    x = images.x_train[: size.rows].astype(np.float64)
    x *= x.shape[1] ** 0.5 / np.linalg.norm(x, axis=1, keepdims=True)
    name = lab.upload(x, name=f"{images.identity}-rows")
    edge = lab.analysis(
        f"edge of chaos of {SMOOTH}", "edge_of_chaos", activation=SMOOTH, b_std=SMOOTH_BIAS
    )
    critical = next(p for p in edge.summary["points"] if p["stability"] != "unstable")

    def series(panel: str, label: str, depths: tuple[int, ...], **network: Any) -> Series:
        answer = lab.analysis(
            f"{panel}: {label}",
            "depth_convergence",
            samples=name,
            rows=len(x),
            depths=list(depths),
            **network,
        )
        return Series(panel, label, answer.summary["table"], answer.summary["fit"] or {})

    found = [
        series(EDGE, "relu", size.depths, activation="relu", w_std=math.sqrt(2)),
        series(
            EDGE,
            SMOOTH,
            size.depths,
            activation=SMOOTH,
            w_std=critical["w_std"],
            b_std=SMOOTH_BIAS,
        ),
    ]
    for activation, (w_std, b_std) in ORDERED_DEVIATIONS.items():
        found.append(
            series(
                ORDERED,
                activation,
                size.ordered_depths,
                activation=activation,
                w_std=w_std,
                b_std=b_std,
            )
        )
    for w_std in size.residual_deviations:
        found.append(
            series(
                RESIDUAL,
                f"w_std = {w_std:g}",
                size.depths,
                activation="relu",
                w_std=w_std,
                architecture="residual",
            )
        )
    return Report(
        name=EXPERIMENT.name,
        title="Convergence of the NTK with depth",
        source="Hayou, Doucet, Rousseau 2019, Mean-field Behaviour of Neural Tangent Kernel for "
        "Deep Neural Networks, section 5.1, figure 1.",
        comparisons=(
            Comparison(
                f"w_std of {SMOOTH} at the edge of chaos, b_std = {SMOOTH_BIAS:g}",
                f"{PUBLISHED_EDGE:g}",
                f"{critical['w_std']:.5f}",
            ),
            *(_comparison(one) for one in found),
        ),
        table=_table(found),
        differences=_differences(images, len(x)),
        panels=_panels(found),
        settings={
            "images": images.title,
            "rows": len(x),
            "inputs": "rows of norm sqrt(d)",
            "smooth activation": {"fn": SMOOTH, "b_std": SMOOTH_BIAS, "w_std": critical["w_std"]},
            "ordered phase (w_std, b_std)": ORDERED_DEVIATIONS,
            "depths": list(size.depths),
            "ordered depths": list(size.ordered_depths),
        },
    )


def _comparison(one: Series) -> Comparison:
    fit = one.fit
    if one.panel == ORDERED:
        return Comparison(
            f"{one.panel}, {one.label}: rate",
            "exponential",
            f"exp({fit['decay']:.5f} L), ln chi = {fit['expected_decay']:.5f}",
        )
    if one.panel == EDGE and one.label == SMOOTH:
        published = "ln(L)/L for the paper's class S"
    elif one.panel == EDGE:
        published = "1/L"
    else:
        published = "1/L, whatever w_std"
    middle = len(one.table) // 2
    here = (
        f"L^{one.power(0, middle):.3f} up to depth {one.table[middle]['depth']:g}, "
        f"L^{one.power(-2, -1):.3f} at the deepest"
    )
    if fit.get("expected_log_slope") is not None:
        here += (
            f"; ln(L)/L with factor {fit['log_slope']:.3f}, "
            f"exact theory {fit['expected_log_slope']:.3f}"
        )
    return Comparison(f"{one.panel}, {one.label}: rate", published, here)


def _table(found: list[Series]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for one in found:
        columns = [one.column(name) for name in ("depth", "ntk_distinct", "expected")]
        for depth, distance, expected in zip(*columns, strict=True):
            rows.append((one.panel, one.label, int(depth), _value(distance), _value(expected)))
    return Table(
        ("panel", "network", "affine_layers", "distance", "at_rate_of_theory"), tuple(rows)
    )


def _value(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _differences(images: Images, rows: int) -> tuple[str, ...]:
    return (
        "The paper's distances are in its picture only; its statements about rates are compared.",
        "The paper does not say on which inputs its distances are taken; here the largest over "
        f"pairs of different images among {rows} of {images.title}, scaled to norm sqrt(d).",
        "The paper says that ELU's logarithm cannot be seen over the depths of its picture. Exact "
        "theory agrees: its factor is -33 against a constant of 150, so the distance passes 0 at "
        "depths of some thousand, and only far beyond 30000 layers is ln(L)/L its rate.",
        "The paper gives no deviations for its ordered phase; those used are in the settings.",
        "The paper's O(1/L) for ReLU is not what happens: its proof drops a term, and the distance "
        "has a factor ln L. Over the depths of its picture the two look alike.",
        "Residual kernels are divided by their exact growth L (1 + w_std^2/2)^(L-1); the paper's "
        "normalisers are misprinted.",
    )


def _panels(found: list[Series]) -> tuple[Panel, ...]:
    panels = []
    for title in (EDGE, ORDERED, RESIDUAL):
        curves = []
        for one in (s for s in found if s.panel == title):
            depth = one.column("depth")
            curves.append(Curve(one.label, depth, one.column("ntk_distinct")))
            curves.append(
                Curve(f"{one.label}, theory", depth, one.column("expected"), style="dashed")
            )
        panels.append(
            Panel(
                title,
                "affine layers L",
                "distance of the NTK to its limit",
                tuple(curves),
                x_scale="linear" if title == ORDERED else "log",
                y_scale="log",
            )
        )
    return tuple(panels)


EXPERIMENT = Experiment(
    name="depth-convergence",
    summary="Hayou et al. 2019, figure 1: convergence of the NTK with depth",
    small=Size(
        rows=6,
        depths=(10, 20, 50, 100, 200, 500, 1000),
        ordered_depths=(5, 10, 15, 20, 25, 30, 35, 40),
        residual_deviations=(0.5, 1.0, math.sqrt(2), 2.0),
    ),
    full=Size(
        rows=12,
        depths=(10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000),
        ordered_depths=(5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60),
        residual_deviations=(0.5, 1.0, math.sqrt(2), 2.0),
    ),
    measure=measure,
    takes_data=True,
)
