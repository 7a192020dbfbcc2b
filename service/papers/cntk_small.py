"""Exact convolutional NTKs on few images: CNTK with both readouts, and Myrtle networks.

Arora et al. 2019b (arXiv:1904.11955) computed CNTKs of 3, 4, 6, 11 and 21 layers on CIFAR-10; their
depth counts the readout. Arora et al. 2019c (arXiv:1910.01663): a 14-layer CNTK is better than
ResNet-34 on at most 640 training images (Golikov et al. 2022, section 6.1.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.papers.accuracy import (
    RidgeAccuracy,
    accuracy_curves,
    accuracy_panel,
    compared_ridge,
    ridge_accuracies,
)
from service.papers.data import Images, load_images
from service.papers.experiment import Experiment
from service.papers.figure import Curve, Panel
from service.papers.image_sets import Split, in_colour, upload_pictures
from service.papers.lab import Lab
from service.papers.report import Comparison, Report, Table

COMPARED_RIDGE = 1e-4
READOUTS = {"flatten": "flatten", "gap": "global average pool"}
PUBLISHED_SMALL = 640  # training images, at most
PUBLISHED_CDEQ = "37.49 % (2000 training images)"


@dataclass(frozen=True)
class Size:
    """`depths`: layers by the paper's count, readout included; by readout."""

    train: int  # images
    test: int
    flatten_depths: tuple[int, ...]
    gap_depths: tuple[int, ...]
    myrtle: tuple[str, ...]  # presets
    ridges: tuple[float, ...]  # times trace(K)/m


@dataclass(frozen=True)
class Network:
    """One kernel of the table. `depth`: layers as the paper counts them; None: a Myrtle network."""

    name: str
    readout: str
    depth: int | None
    kernel: Mapping[str, Any]


def measure(lab: Lab, size: Size) -> Report:
    images = load_images(lab.data or "mnist")
    split = upload_pictures(lab, images, size.train, size.test)
    found: list[tuple[Network, list[RidgeAccuracy]]] = [
        (
            network,
            ridge_accuracies(
                lab, network.name, network.kernel, split.train, split.test, size.ridges
            ),
        )
        for network in networks(size)
    ]
    ridge = compared_ridge(COMPARED_RIDGE, size.ridges)
    every = [accuracy for _, accuracies in found for accuracy in accuracies]
    compared = {
        network.name: next(a.percent for a in accuracies if a.ridge == ridge)
        for network, accuracies in found
    }
    return Report(
        name=EXPERIMENT.name,
        title=f"Convolutional NTKs on {split.train_images} training images",
        source="Arora, Du, Hu, Li, Salakhutdinov, Wang 2019, On Exact Computation with an"
        " Infinitely Wide Neural Net, table 1; Arora et al. 2019, Harnessing the Power of"
        " Infinitely Wide Deep Nets on Small-data Tasks, section 5; Golikov et al. 2022, Neural"
        " Tangent Kernel: A Survey, section 6.1.1.",
        comparisons=_comparisons(images, split, found, compared, ridge),
        table=Table(
            ("kernel", "readout", "depth", "ridge", "accuracy_percent", "method"),
            tuple(
                (network.name, network.readout, network.depth, a.ridge, a.percent, a.method)
                for network, accuracies in found
                for a in accuracies
            ),
        ),
        differences=_differences(images, split, ridge),
        panels=(
            _depth_panel(found, compared),
            accuracy_panel(accuracy_curves(every, [network.name for network, _ in found])),
        ),
        settings={
            "images": images.title,
            "training": split.train_images,
            "test": split.test_images,
            "kernels": {network.name: dict(network.kernel) for network, _ in found},
            "ridges": list(size.ridges),
        },
    )


def networks(size: Size) -> list[Network]:
    """The cheapest first. A depth of the papers is one more than convolutions: the readout."""
    depths = {"flatten": size.flatten_depths, "gap": size.gap_depths}
    found = [
        Network(
            f"CNTK, {depth} layers, {READOUTS[readout]}",
            READOUTS[readout],
            depth,
            {"preset": "cntk", "depth": depth - 1, "readout": readout, "normalize": "unit"},
        )
        for readout in ("flatten", "gap")
        for depth in depths[readout]
    ]
    myrtle = [
        Network(name, "average pools", None, {"preset": name, "normalize": "unit"})
        for name in size.myrtle
    ]
    flat = len(size.flatten_depths)
    return [*found[:flat], *myrtle, *found[flat:]]


def _comparisons(
    images: Images,
    split: Split,
    found: list[tuple[Network, list[RidgeAccuracy]]],
    compared: Mapping[str, float],
    ridge: float,
) -> tuple[Comparison, ...]:
    on = (
        f"{images.title}: {split.train_images} training, {split.test_images} test images, ridge"
        f" {ridge:g} trace/m"
    )

    def best(readout: str) -> str:
        names = [network.name for network, _ in found if network.readout == readout]
        if not names:
            return "not computed"
        name = max(names, key=compared.__getitem__)
        return f"{compared[name]:.2f} % ({name}; {on})"

    return (
        Comparison(
            "best CNTK, all 50000 training images of CIFAR-10",
            "about 78 % (Arora et al. 2019b as Li et al. 2019, arXiv:1911.00809, quote it)",
            best(READOUTS["gap"]),
        ),
        Comparison(
            f"14-layer CNTK against ResNet-34, 10 to {PUBLISHED_SMALL} training images of CIFAR-10",
            "better by 1 % to 3 % (Arora et al. 2019c)",
            "no network is trained here; accuracies of each depth are in the table",
        ),
        Comparison(
            "CDEQ-NTK, which sums over equal pixels as a flatten readout does",
            PUBLISHED_CDEQ + ", Feng & Kolter 2020",
            best(READOUTS["flatten"]),
        ),
        Comparison("Myrtle networks on few images", "-", best("average pools")),
    )


def _depth_panel(
    found: list[tuple[Network, list[RidgeAccuracy]]], compared: Mapping[str, float]
) -> Panel:
    curves = []
    for readout in READOUTS.values():
        own = [n for n, _ in found if n.readout == readout]
        depths = np.array([float(n.depth or 0) for n in own])
        curves.append(Curve(readout, depths, np.array([compared[n.name] for n in own])))
    span = np.array([curve.x for curve in curves if len(curve.x)][-1][[0, -1]])
    for network, _ in found:
        if network.depth is None:
            level = np.full(2, compared[network.name])
            curves.append(Curve(network.name, span, level, style="dashed"))
    return Panel("test accuracy by depth", "layers", "percent", tuple(curves))


def _differences(images: Images, split: Split, ridge: float) -> tuple[str, ...]:
    sentences = [
        "The published numbers are of other numbers of images, so none can be equal: they are the"
        " context, not the comparison.",
        "Arora et al. regress without regularisation, and fix the first and the last layer where"
        f" there is a global average pool; here all layers are trained, with a ridge of {ridge:g}"
        " trace/m, chosen before the others in the table were computed.",
        "Images are scaled to unit norm as a whole, targets are 0.9 and -0.1, and the first images"
        " of the set are taken; the papers draw theirs at random.",
    ]
    if not in_colour(images):
        sentences.append(
            f"The images are {images.title}, not CIFAR-10: accuracies on them say nothing about the"
            " published ones. CIFAR-10: --data FOLDER."
        )
    if split.train_images > PUBLISHED_SMALL:
        sentences.append(f"More than the {PUBLISHED_SMALL} images of Arora et al. 2019c.")
    return tuple(sentences)


EXPERIMENT = Experiment(
    name="cntk-small",
    summary="Arora et al. 2019: exact convolutional NTKs and Myrtle networks on few images",
    small=Size(
        train=100,
        test=100,
        flatten_depths=(3, 4, 6, 11, 21),
        gap_depths=(3, 6),
        myrtle=("myrtle5",),
        ridges=(COMPARED_RIDGE, 1e-2),
    ),
    full=Size(
        train=PUBLISHED_SMALL,
        test=1000,
        flatten_depths=(3, 4, 6, 11, 14, 21),
        gap_depths=(3, 4, 6, 11, 14),
        myrtle=("myrtle5", "myrtle10"),
        ridges=(COMPARED_RIDGE, 1e-2),
    ),
    measure=measure,
    takes_data=True,
)
