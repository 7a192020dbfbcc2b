"""All roots of a smooth function of a variance on a logarithmic range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Floats = NDArray[np.float64]


LOWEST_VARIANCE, HIGHEST_VARIANCE = 1e-8, 1e4


@dataclass(frozen=True)
class Search:
    """Where roots are looked for.

    `lowest`, `highest`: variances. `points`: of the logarithmic scan. `noise`: absolute values
    of the (dimensionless) residual that do not tell its sign. Roots closer to each other than
    (highest/lowest)^(1/points) may count as none only if the residual between them stays within
    the noise: folds between scan points are looked into.
    """

    lowest: float = LOWEST_VARIANCE
    highest: float = HIGHEST_VARIANCE
    points: int = 1200
    noise: float = 1e-12


def all_roots(residual: Callable[[Floats], Floats], search: Search) -> tuple[float, ...]:
    """Variances in [lowest, highest] where `residual` ((n,) -> (n,)) changes its sign, rising."""
    logs = np.linspace(math.log(search.lowest), math.log(search.highest), search.points)
    values = residual(np.exp(logs))
    known = np.isfinite(values) & (np.abs(values) > search.noise)
    logs, values = logs[known], values[known]

    def scalar(log: float) -> float:
        return float(residual(np.array([math.exp(log)]))[0])

    logs, values = _with_folds(logs, values, scalar)
    roots = []
    for left in np.flatnonzero(np.sign(values[:-1]) != np.sign(values[1:])):
        root = optimize.brentq(scalar, logs[left], logs[left + 1], xtol=1e-15, rtol=1e-15)
        roots.append(math.exp(root))
    return tuple(roots)


def _with_folds(
    logs: Floats, values: Floats, scalar: Callable[[float], float]
) -> tuple[Floats, Floats]:
    """The scan with the bottoms of the dips between its points, where they cross zero."""
    size = np.abs(values)
    same = np.sign(values)
    dips = 1 + np.flatnonzero(
        (same[:-2] == same[1:-1])
        & (same[1:-1] == same[2:])
        & (size[1:-1] <= size[:-2])
        & (size[1:-1] <= size[2:])
    )
    extra_logs, extra_values = [], []
    for dip in dips:
        sign = same[dip]
        found = optimize.minimize_scalar(
            lambda log, sign=sign: sign * scalar(log),
            bounds=(logs[dip - 1], logs[dip + 1]),
            method="bounded",
            options={"xatol": 1e-10},
        )
        if found.fun < 0:
            extra_logs.append(found.x)
            extra_values.append(sign * found.fun)
    if not extra_logs:
        return logs, values
    merged = np.concatenate([logs, extra_logs])
    order = np.argsort(merged)
    return merged[order], np.concatenate([values, extra_values])[order]
