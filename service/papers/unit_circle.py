"""Jacot et al. 2018, sections 6.1 and 6.2: the kernel on the unit circle, and what it predicts.

Left panel of the paper: the NTK of a network of 4 affine layers between x_0 = (1, 0) and points at
the angle gamma, for random networks of two widths and in the limit. Right panel: the distribution
of trained networks, 10th, 50th and 90th percentiles, from 4 training points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.papers.experiment import Experiment
from service.papers.figure import Curve, Panel
from service.papers.lab import Lab
from service.papers.random_networks import empirical_ntk
from service.papers.report import Comparison, Report, Table

Floats = NDArray[np.float64]

AFFINE_LAYERS = 4
BETA = 0.1
# Jacot et al. count affine layers: L = 4 is three hidden ones. Weights have deviation 1.
KERNEL = {"preset": "fc", "depth": AFFINE_LAYERS - 1, "w_std": 1.0, "b_std": BETA}
TRAINING_ANGLES = (-2.2, -0.9, 0.6, 1.9)
PERCENTILE_90 = 1.2815515655446004  # of the standard normal distribution


@dataclass(frozen=True)
class Size:
    points: int  # on the circle
    widths: tuple[int, int]  # of the random networks
    networks: int  # of each width


@dataclass(frozen=True)
class Prediction:
    """Distribution of f(x) after training forever: mean and deviation, (n,) each."""

    mean: Floats
    deviation: Floats


def measure(lab: Lab, size: Size) -> Report:
    angles = np.linspace(-np.pi, np.pi, size.points)
    training = np.array(TRAINING_ANGLES)
    x = _circle(np.concatenate([[0.0], training, angles]))
    name = lab.upload(x, name="unit-circle")
    matrix = lab.gram("NNGP and NTK", KERNEL, name, outputs=["nngp", "ntk"], dtype="float64")
    ntk, nngp = lab.values(matrix, "ntk"), lab.values(matrix, "nngp")
    limit = ntk[0, 5:]
    known, new = np.arange(1, 5), np.arange(5, len(x))
    predicted = trained_distribution(ntk, nngp, known, new, _target(training))

    networks = {width: _networks(x[np.r_[0, new]], width, size) for width in size.widths}
    columns: dict[str, Floats] = {"gamma": angles, "ntk": limit, "nngp": nngp[0, 5:]}
    for width, values in networks.items():
        columns[f"width_{width}_mean"] = values.mean(axis=0)
        columns[f"width_{width}_deviation"] = values.std(axis=0, ddof=1)
    columns["trained_median"] = predicted.mean
    columns["trained_deviation"] = predicted.deviation
    return Report(
        name=EXPERIMENT.name,
        title="NTK on the unit circle, 4 affine layers",
        source="Jacot, Gabriel, Hongler 2018, Neural Tangent Kernel, sections 6.1 and 6.2 "
        "(figures 1 and 2).",
        comparisons=_comparisons(limit, networks),
        table=Table(
            tuple(columns),
            tuple(tuple(float(v) for v in row) for row in np.stack([*columns.values()], axis=1)),
        ),
        differences=(
            "The paper's numbers of this experiment are in its pictures only; its statements are "
            "compared.",
            "Random networks are taken at initialisation; the paper also trains them for 200 "
            "steps.",
            "The paper does not say which 4 points it trains on: here at the angles "
            f"{', '.join(str(a) for a in TRAINING_ANGLES)}.",
            "The distribution after training is that of the limit, computed from the kernels; "
            "the paper samples networks and approximates the kernels by a network of width 10000.",
        ),
        panels=_panels(angles, limit, networks, training, predicted),
        settings={
            "kernel": KERNEL,
            "points": size.points,
            "widths": list(size.widths),
            "networks": size.networks,
            "training_angles": list(TRAINING_ANGLES),
            "target": "x1 x2",
        },
    )


def trained_distribution(
    ntk: Floats,
    nngp: Floats,
    known: NDArray[np.int64],
    new: NDArray[np.int64],
    targets: Floats,
) -> Prediction:
    """What networks with these kernels (n, n) predict for rows `new` once trained on rows `known`.

    f = f_0 + A (y - f_0), A = ntk[new, known] ntk[known, known]^-1, f_0 Gaussian with covariance
    `nngp` (Jacot et al. 2018, section 5; Lee et al. 2019, eq. 16).
    """
    a = np.linalg.solve(ntk[np.ix_(known, known)], ntk[np.ix_(known, new)]).T
    cross = a @ nngp[np.ix_(known, new)]
    variance = (
        np.diagonal(nngp)[new]
        - 2 * np.diagonal(cross)
        + np.einsum("ij,jk,ik->i", a, nngp[np.ix_(known, known)], a)
    )
    return Prediction(a @ targets, np.sqrt(np.maximum(variance, 0)))


def _comparisons(limit: Floats, networks: dict[int, Floats]) -> tuple[Comparison, ...]:
    narrow, wide = sorted(networks)
    spread = {w: float(np.mean(v.std(axis=0, ddof=1) / limit)) for w, v in networks.items()}
    shift = {w: float(np.mean(np.abs(v.mean(axis=0) / limit - 1))) for w, v in networks.items()}
    return (
        Comparison(
            "deviation of one network's NTK, relative, mean over the circle",
            f"less for the wider network (n = 10000 than for n = {500})",
            f"{spread[wide]:.1%} for n = {wide}, {spread[narrow]:.1%} for n = {narrow}",
        ),
        Comparison(
            "mean of the networks' NTKs against the limit, relative, mean over the circle",
            "very close for both widths",
            f"{shift[wide]:.1%} off for n = {wide}, {shift[narrow]:.1%} for n = {narrow}",
        ),
    )


def _panels(
    angles: Floats,
    limit: Floats,
    networks: dict[int, Floats],
    training: Floats,
    predicted: Prediction,
) -> tuple[Panel, ...]:
    kernels = [
        Curve(
            f"n = {width}, mean and deviation of {len(values)} networks",
            angles,
            values.mean(axis=0),
            low=values.mean(axis=0) - values.std(axis=0, ddof=1),
            high=values.mean(axis=0) + values.std(axis=0, ddof=1),
        )
        for width, values in networks.items()
    ]
    kernels.append(Curve("limit", angles, limit, style="dashed"))
    spread = PERCENTILE_90 * predicted.deviation
    fits = (
        Curve(
            "median, 10th to 90th percentile",
            angles,
            predicted.mean,
            low=predicted.mean - spread,
            high=predicted.mean + spread,
        ),
        Curve("x1 x2", angles, _target(angles), style="dashed"),
        Curve("training points", training, _target(training), style="points"),
    )
    return (
        Panel("NTK with (1, 0)", "angle", "NTK", tuple(kernels)),
        Panel("networks after training", "angle", "f", fits),
    )


def _networks(x: Floats, width: int, size: Size) -> Floats:
    """Kernels of `x[0]` with the other rows, (networks, len(x) - 1)."""
    draws: list[Any] = [
        empirical_ntk(x, affine_layers=AFFINE_LAYERS, width=width, b_std=BETA, seed=seed)[1:]
        for seed in range(size.networks)
    ]
    return np.stack(draws)


def _circle(angles: Floats) -> Floats:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _target(angles: Floats) -> Floats:
    """f* = x1 x2 on the circle."""
    return np.asarray(np.cos(angles) * np.sin(angles))


EXPERIMENT = Experiment(
    name="unit-circle",
    summary="Jacot et al. 2018, figures 1 and 2: NTK and trained networks on the unit circle",
    small=Size(points=101, widths=(500, 2000), networks=10),
    full=Size(points=201, widths=(500, 10_000), networks=10),
    measure=measure,
    takes_data=False,
)
