"""Slides on Tirer et al. 2020: interpolation by the NTKs of residual networks is smoother.

The slides show, for 5 and 15 layers, the NTKs of an MLP and of residual networks with several alpha
on the unit circle, and what they interpolate through 6 and 10 samples. They say that smaller alpha
is smoother, also in the measure mu: the norm of the Gaussian kernel's interpolant over that of the
network's, in the Gaussian kernel's space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from service.papers.experiment import Experiment
from service.papers.figure import Curve, Panel
from service.papers.lab import Lab
from service.papers.report import Comparison, Report, Table

Floats = NDArray[np.float64]

MLP = "MLP"
LENGTH_SCALE, K_MAX = 0.5, 10
SEED = 0


@dataclass(frozen=True)
class Size:
    points: int  # on the circle, for the curves
    layers: tuple[int, ...]
    samples: tuple[int, ...]
    draws: int  # random sets of samples of each number
    alphas: tuple[float, ...]


@dataclass(frozen=True)
class Fit:
    """One network through one set of samples. `values` (points,): its interpolant."""

    layers: int
    network: str
    samples: int
    draw: int
    mu: float
    values: Floats


def kernel(network: str, layers: int) -> dict[str, Any]:
    """`network`: MLP or `alpha = A`, as the slides compare them (all deviations 1)."""
    if network == MLP:
        return {"preset": "tirer_mlp", "hidden_layers": layers}
    return {"preset": "tirer_resnet", "blocks": layers, "alpha": float(network.split("=")[1])}


def measure(lab: Lab, size: Size) -> Report:
    curve = np.linspace(-np.pi, np.pi, size.points)
    sets = {
        (count, draw): _samples(count, draw) for count in size.samples for draw in range(size.draws)
    }
    angles = np.concatenate([[0.0], *(a for a, _ in sets.values()), curve])
    name = lab.upload(np.stack([np.cos(angles), np.sin(angles)], axis=1), name="circle")
    networks = [MLP, *(f"alpha = {alpha:g}" for alpha in size.alphas)]
    profiles: dict[tuple[int, str], Floats] = {}
    fits: list[Fit] = []
    for layers in size.layers:
        for network in networks:
            spec = kernel(network, layers)
            label = f"{network}, {layers} layers"
            matrix = lab.gram(f"{label}: NTK", spec, name, outputs=["ntk"], dtype="float64")
            ntk = lab.values(matrix)
            profiles[layers, network] = ntk[0, -size.points :] / ntk[0, 0]
            start = 1
            for (count, draw), (points, values) in sets.items():
                answer = lab.analysis(
                    f"{label}: smoothness through {count} samples, draw {draw + 1}",
                    "smoothness",
                    kernel=spec,
                    angles=points.tolist(),
                    values=values.tolist(),
                    length_scale=LENGTH_SCALE,
                    k_max=K_MAX,
                )
                known = np.arange(start, start + count)
                weights = linalg.solve(ntk[np.ix_(known, known)], values, assume_a="pos")
                fitted = ntk[-size.points :, known] @ weights
                mu = float(answer.summary["mu"])
                fits.append(Fit(layers, network, count, draw, mu, fitted))
                start += count
    return Report(
        name=EXPERIMENT.name,
        title="Smoothness of interpolation by MLPs and residual networks",
        source="Slides on Tirer, Bruna, Giryes 2020, Kernel-Based Smoothness Analysis of Residual "
        "Networks: experiments II and the measure mu.",
        comparisons=_comparisons(fits, size),
        table=Table(
            ("layers", "samples", "draw", "network", "mu"),
            tuple((f.layers, f.samples, f.draw + 1, f.network, f.mu) for f in fits),
        ),
        differences=(
            "The slides' values of mu are in pictures that are lost; their statements are "
            "compared.",
            "The slides do not say which samples they interpolate; here angles and values are "
            f"drawn at random (seed {SEED}), {size.draws} times; the geometric mean of mu is "
            "compared, and the pictures show the first draw.",
            "Interpolants of these kernels have kinks, so their norm in the Gaussian kernel's "
            f"space is infinite; it is cut at frequency {K_MAX} (the slides state no limit), on "
            "which mu depends strongly: only values of one cut compare.",
            f"The bandwidth of the Gaussian kernel, {LENGTH_SCALE:g}, is not in the slides either.",
        ),
        panels=_panels(curve, profiles, fits, sets, size),
        settings={
            "kernels": {
                f"{network}, {layers} layers": kernel(network, layers)
                for layers in size.layers
                for network in networks
            },
            "length_scale": LENGTH_SCALE,
            "k_max": K_MAX,
            "seed": SEED,
            "samples": {
                f"{count}, draw {draw + 1}": {"angles": a.tolist(), "values": v.tolist()}
                for (count, draw), (a, v) in sets.items()
            },
        },
    )


def _samples(count: int, draw: int) -> tuple[Floats, Floats]:
    """Angles, one in each of `count` equal arcs so that none coincide, and values in [-1, 1]."""
    rng = np.random.default_rng([SEED, count, draw])
    angles = (np.arange(count) + rng.uniform(0.2, 0.8, count)) * 2 * np.pi / count - np.pi
    return angles, rng.uniform(-1, 1, count)


def _comparisons(fits: list[Fit], size: Size) -> tuple[Comparison, ...]:
    rows = []
    for layers in size.layers:
        for count in size.samples:
            means = {
                network: float(np.exp(np.mean([np.log(f.mu) for f in group])))
                for network, group in _by_network(fits, layers, count).items()
            }
            ordered = sorted(means, key=means.__getitem__)
            rows.append(
                Comparison(
                    f"from least to most smooth, {layers} layers, {count} samples",
                    "MLP, then residual networks by falling alpha",
                    ", ".join(f"{network} ({means[network]:.2g})" for network in ordered),
                )
            )
    return tuple(rows)


def _by_network(fits: list[Fit], layers: int, count: int) -> dict[str, list[Fit]]:
    groups: dict[str, list[Fit]] = {}
    for fit in fits:
        if (fit.layers, fit.samples) == (layers, count):
            groups.setdefault(fit.network, []).append(fit)
    return groups


def _panels(
    curve: Floats,
    profiles: dict[tuple[int, str], Floats],
    fits: list[Fit],
    sets: dict[tuple[int, int], tuple[Floats, Floats]],
    size: Size,
) -> tuple[Panel, ...]:
    panels = []
    for layers in size.layers:
        kernels = tuple(
            Curve(network, curve, values)
            for (depth, network), values in profiles.items()
            if depth == layers
        )
        panels.append(Panel(f"NTK/peak, {layers} layers", "angle", "NTK", kernels))
        for count in size.samples:
            angles, values = sets[count, 0]
            own = [f for f in fits if (f.layers, f.samples, f.draw) == (layers, count, 0)]
            curves = [Curve(f"{f.network}, mu = {f.mu:.2g}", curve, f.values) for f in own]
            curves.append(Curve("samples", angles, values, style="points"))
            panels.append(Panel(f"{count} samples, {layers} layers", "angle", "f", tuple(curves)))
    return tuple(panels)


EXPERIMENT = Experiment(
    name="smoothness",
    summary="Slides on Tirer et al. 2020: smoothness of interpolation by residual networks",
    small=Size(points=201, layers=(5, 15), samples=(6, 10), draws=5, alphas=(1.0, 0.5, 0.1)),
    full=Size(points=801, layers=(5, 15), samples=(6, 10), draws=20, alphas=(1.0, 0.5, 0.1)),
    measure=measure,
    takes_data=False,
)
