"""Feng & Kolter 2020, figure 1: accuracy of the NTK and of the finite-depth DEQ-NTK with depth.

The NTK freezes: with depth it becomes constant, and its accuracy falls to chance. Input injection
prevents that: the DEQ-NTK settles at the accuracy of its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from service.papers.data import Images, load_images
from service.papers.experiment import Experiment
from service.papers.figure import Curve, Panel
from service.papers.lab import Lab
from service.papers.report import Comparison, Report, Table

Floats = NDArray[np.float64]

BIAS_VARIANCE = 0.1  # of the DEQ: "the actual sigma_b^2"
RIDGE = 1e-3  # times trace/m; the paper's constant is not known
CLASSES = 10
NORMAL_975 = 1.959963984540054
INPUTS = ({"op": "normalize"}, {"op": "rescale", "factor": "sqrt_features"})


@dataclass(frozen=True)
class Size:
    pool: int  # images that draws are taken from
    train: int
    test: int
    draws: int
    depths: tuple[int, ...]
    weight_variances: tuple[float, ...]


@dataclass(frozen=True)
class Accuracy:
    """Mean over the draws and half the width of its 95 % confidence interval, percent."""

    network: str  # "NTK", "DEQ-NTK"
    weight_variance: float
    depth: int | None  # None: the limit
    mean: float
    half_width: float


def ntk_kernel(weight_variance: float, depth: int) -> dict[str, Any]:
    """The network of `depth` nonlinearities with sigma_w^2 + sigma_b^2 = 1, no injection."""
    dense = {
        "op": "dense",
        "w_std": (2 * weight_variance) ** 0.5,
        "b_std": (1 - weight_variance) ** 0.5,
    }
    layer = [{"op": "activation", "fn": "relu"}, dense]
    return {"layers": [*INPUTS, {"op": "dense"}, *layer * depth]}


def deq_kernel(weight_variance: float, depth: int | None) -> dict[str, Any]:
    """`depth` iterations of the equilibrium network with the same total variance; None: all."""
    variances = {
        "w_var": weight_variance,
        "u_var": 1 - weight_variance - BIAS_VARIANCE,
        "b_var": BIAS_VARIANCE,
    }
    if depth is None:
        return {"preset": "deq", **variances}
    return {"preset": "fcnn_ij", "depth": depth, **variances}


def measure(lab: Lab, size: Size) -> Report:
    images = load_images(lab.data or "mnist")
    rng = np.random.default_rng(0)
    x = np.concatenate([images.x_train, images.x_test])
    classes = np.concatenate([images.y_train, images.y_test])
    chosen = rng.permutation(len(x))[: size.pool]
    classes = classes[chosen]
    name = lab.upload(x[chosen], classes, name=f"{images.identity}-pool")
    draws = [rng.permutation(len(chosen))[: size.train + size.test] for _ in range(size.draws)]

    def accuracy(network: str, variance: float, depth: int | None, kernel: Any) -> Accuracy:
        label = f"{network}, sigma_w^2 = {variance:g}, depth {depth or 'infinite'}"
        matrix = lab.gram(label, kernel, name, outputs=["ntk"], dtype="float64")
        percents = draw_accuracies(lab.values(matrix), classes, draws, size.train)
        half = NORMAL_975 * float(np.std(percents, ddof=1)) / len(percents) ** 0.5
        return Accuracy(network, variance, depth, float(np.mean(percents)), half)

    found = []
    for variance in size.weight_variances:
        for depth in size.depths:
            found.append(accuracy("NTK", variance, depth, ntk_kernel(variance, depth)))
            found.append(accuracy("DEQ-NTK", variance, depth, deq_kernel(variance, depth)))
        found.append(accuracy("DEQ-NTK", variance, None, deq_kernel(variance, None)))
    return Report(
        name=EXPERIMENT.name,
        title=f"NTK and DEQ-NTK with depth, {size.train} training images",
        source="Feng & Kolter 2020, On the Neural Tangent Kernel of Equilibrium Models, "
        "section 5, figure 1.",
        comparisons=_comparisons(found, size),
        table=Table(
            ("network", "sigma_w2", "depth", "accuracy_percent", "half_width_95"),
            tuple((a.network, a.weight_variance, a.depth, a.mean, a.half_width) for a in found),
        ),
        differences=_differences(images, len(chosen), size),
        panels=_panels(found, size),
        settings={
            "images": images.title,
            "pool": len(chosen),
            "training": size.train,
            "test": size.test,
            "draws": size.draws,
            "ridge": RIDGE,
            "kernels": {
                f"{v:g}": {"NTK": "dense layers", "DEQ-NTK": deq_kernel(v, None)}
                for v in size.weight_variances
            },
        },
    )


def draw_accuracies(
    ntk: Floats, classes: NDArray[np.int64], draws: list[NDArray[np.int64]], train: int
) -> Floats:
    """Percent of test images classified by kernel regression, per draw.

    `ntk` (n, n) and `classes` (n,) are those of the pool; each draw (train + test,) names rows of
    it, training rows first. Targets are 0.9 and -0.1.
    """
    targets = np.where(classes[:, None] == np.arange(CLASSES), 0.9, -0.1)
    percents = []
    for rows in draws:
        known, new = rows[:train], rows[train:]
        gram = ntk[np.ix_(known, known)]
        gram[np.diag_indices(train)] += RIDGE * np.trace(gram) / train
        weights = linalg.cho_solve(linalg.cho_factor(gram, lower=True), targets[known])
        predicted = np.argmax(ntk[np.ix_(new, known)] @ weights, axis=1)
        percents.append(100 * float(np.mean(predicted == classes[new])))
    return np.array(percents)


def _comparisons(found: list[Accuracy], size: Size) -> tuple[Comparison, ...]:
    first, deepest = min(size.depths), max(size.depths)

    def at(network: str, variance: float, depth: int | None) -> float:
        return next(
            a.mean
            for a in found
            if (a.network, a.weight_variance, a.depth) == (network, variance, depth)
        )

    rows = []
    for variance in size.weight_variances:
        rows.append(
            Comparison(
                f"NTK, sigma_w^2 = {variance:g}",
                "drops as depth increases",
                f"{at('NTK', variance, first):.1f} % at depth {first}, "
                f"{at('NTK', variance, deepest):.1f} % at depth {deepest}",
            )
        )
        rows.append(
            Comparison(
                f"DEQ-NTK, sigma_w^2 = {variance:g}",
                "stabilises",
                f"{at('DEQ-NTK', variance, deepest):.1f} % at depth {deepest}, "
                f"{at('DEQ-NTK', variance, None):.1f} % in the limit",
            )
        )
    return tuple(rows)


def _differences(images: Images, pool: int, size: Size) -> tuple[str, ...]:
    sentences = [
        "The published accuracies are in the paper's picture only; its statements are compared.",
        "The titles of the paper's panels, which hold sigma_w and sigma_b, are lost; here "
        "sigma_w^2 + sigma_b^2 = 1 for the NTK, and the DEQ has sigma_b^2 = 0.1 and "
        "sigma_u^2 = 0.9 - sigma_w^2, as its caption describes.",
        f"The constant of the ridge is not published; here it is {RIDGE:g} trace/m.",
        f"Draws are taken from {pool} images, so that every kernel is computed once; they overlap.",
    ]
    if images.identity != "cifar10":
        sentences.append(
            f"The images are {images.title}; the paper uses CIFAR-10 (--data FOLDER with its "
            "binary version)."
        )
    if size.draws != 20:
        sentences.append(f"{size.draws} random draws instead of 20.")
    return tuple(sentences)


def _panels(found: list[Accuracy], size: Size) -> tuple[Panel, ...]:
    panels = []
    for variance in size.weight_variances:
        curves = []
        for network in ("NTK", "DEQ-NTK"):
            own = [
                a
                for a in found
                if a.network == network and a.weight_variance == variance and a.depth is not None
            ]
            mean = np.array([a.mean for a in own])
            half = np.array([a.half_width for a in own])
            depths = np.array([float(a.depth or 0) for a in own])
            curves.append(Curve(network, depths, mean, low=mean - half, high=mean + half))
        limit = next(a for a in found if a.depth is None and a.weight_variance == variance)
        depths = np.array([float(d) for d in size.depths])
        curves.append(
            Curve("DEQ-NTK, limit", depths, np.full(len(depths), limit.mean), style="dashed")
        )
        panels.append(
            Panel(f"sigma_w^2 = {variance:g}", "depth", "accuracy, percent", tuple(curves), "log")
        )
    return tuple(panels)


EXPERIMENT: Experiment[Size] = Experiment(
    name="deq-depth",
    summary="Feng & Kolter 2020, figure 1: accuracy of NTK and DEQ-NTK against depth",
    small=Size(
        pool=1500,
        train=1000,
        test=100,
        draws=5,
        depths=(1, 3, 10, 30, 100),
        weight_variances=(0.25, 0.6),
    ),
    full=Size(
        pool=5000,
        train=1000,
        test=100,
        draws=20,
        depths=(1, 2, 5, 10, 20, 50, 100, 200),
        weight_variances=(0.25, 0.6, 0.8),
    ),
    measure=measure,
    takes_data=True,
)
