"""Test accuracies of ridge regression with one kernel, for several ridges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.papers.figure import Curve, Panel
from service.papers.lab import Lab


@dataclass(frozen=True)
class RidgeAccuracy:
    """`ridge`: times trace(K)/m. `percent`: of the test images. `method`: of the solve."""

    kernel: str
    ridge: float
    percent: float
    method: str


def ridge_accuracies(
    lab: Lab,
    name: str,
    kernel: Mapping[str, Any],
    train: str,
    test: str,
    ridges: tuple[float, ...],
) -> list[RidgeAccuracy]:
    """Those of the NTK called `name`, in the order of `ridges`. `train`, `test`: data sets."""
    gram = lab.gram(f"{name}: training images", kernel, train, outputs=["ntk"])
    cross = lab.gram(f"{name}: test images", kernel, test, train, outputs=["ntk"])
    found = []
    for ridge in ridges:
        summary = lab.solve(
            f"{name}: regression, ridge {ridge:g}",
            gram,
            cross=cross,
            ridge=ridge,
            ridge_relative=True,
        )
        percent = 100 * float(summary["accuracy"])
        found.append(RidgeAccuracy(name, ridge, percent, str(summary["method"])))
    return found


def compared_ridge(wanted: float, ridges: tuple[float, ...]) -> float:
    """The ridge whose accuracy stands next to the published one: chosen before looking."""
    return wanted if wanted in ridges else ridges[0]


def accuracy_curves(found: Sequence[RidgeAccuracy], names: Iterable[str]) -> tuple[Curve, ...]:
    """Percent over ridge, one curve per kernel of `names`."""
    curves = []
    for name in names:
        own = [a for a in found if a.kernel == name]
        curves.append(
            Curve(name, np.array([a.ridge for a in own]), np.array([a.percent for a in own]))
        )
    return tuple(curves)


def accuracy_panel(curves: tuple[Curve, ...]) -> Panel:
    return Panel("test accuracy", "ridge/(trace/m)", "percent", curves, x_scale="log")
