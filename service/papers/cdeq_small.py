"""Feng & Kolter 2020, table 2: the NTK of a convolutional equilibrium network on few images.

Published: 37.49 % test accuracy on CIFAR-10 from 2000 training images, with (sigma_w^2, sigma_u^2)
= (0.65, 0.35), pixels of unit norm, 3 x 3 filters and targets 0.9 and -0.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.papers.accuracy import (
    accuracy_curves,
    accuracy_panel,
    compared_ridge,
    ridge_accuracies,
)
from service.papers.data import Images, load_images
from service.papers.experiment import Experiment
from service.papers.lab import Lab
from service.papers.report import Comparison, Report, Table

PUBLISHED = 37.49  # percent
PUBLISHED_IMAGES = 2000
SETTING = "0.65-0.35"
COMPARED_RIDGE = 1e-6
CHANNELS = {"cifar10": 3}
"""Planes of colour of the sets that have them; others are grey."""


@dataclass(frozen=True)
class Size:
    train: int  # images
    test: int
    depth: int  # layers of the finite network beside it
    ridges: tuple[float, ...]  # times trace(K)/m


def measure(lab: Lab, size: Size) -> Report:
    images = load_images(lab.data or "mnist")
    x, y = pictures(images, images.x_train[: size.train]), images.y_train[: size.train]
    x_test, y_test = pictures(images, images.x_test[: size.test]), images.y_test[: size.test]
    train = lab.upload(x, y, name=f"{images.identity}-train-pictures")
    test = lab.upload(x_test, y_test, name=f"{images.identity}-test-pictures")
    kernels = _kernels(images, size.depth)
    found = [
        accuracy
        for name, kernel in kernels.items()
        for accuracy in ridge_accuracies(lab, name, kernel, train, test, size.ridges)
    ]
    compared = found[size.ridges.index(compared_ridge(COMPARED_RIDGE, size.ridges))]
    return Report(
        name=EXPERIMENT.name,
        title=f"Convolutional equilibrium NTK on {len(x)} training images",
        source="Feng & Kolter 2020, On the Neural Tangent Kernel of Equilibrium Models, "
        "section 5, table 2.",
        comparisons=(
            Comparison(
                f"test accuracy of the CDEQ-NTK, {PUBLISHED_IMAGES} training images of CIFAR-10",
                f"{PUBLISHED:g} %",
                f"{compared.percent:.2f} % ({images.title}: {len(x)} training, {len(x_test)} test "
                f"images, ridge {compared.ridge:g} trace/m)",
            ),
        ),
        table=Table(
            ("kernel", "ridge", "accuracy_percent"),
            tuple((a.kernel, a.ridge, a.percent) for a in found),
        ),
        differences=_differences(images, len(x), len(x_test), compared.ridge),
        panels=(accuracy_panel(accuracy_curves(found, kernels)),),
        settings={
            "images": images.title,
            "training": len(x),
            "test": len(x_test),
            "kernels": kernels,
            "ridges": list(size.ridges),
        },
    )


def pictures(images: Images, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows as (n, P, Q, C): files hold one plane after the other."""
    channels = CHANNELS.get(images.identity, 1)
    side = round((rows.shape[1] / channels) ** 0.5)
    planes = rows.reshape(len(rows), channels, side, side) / np.float32(255)
    return np.ascontiguousarray(np.moveaxis(planes, 1, -1))


def _kernels(images: Images, depth: int) -> dict[str, dict[str, Any]]:
    # Grey pixels of unit norm would all be 1: those images keep their levels.
    normalize = "unit_pixel" if images.identity in CHANNELS else "unit"
    return {
        "CDEQ-NTK": {"preset": "cdeq", "setting": SETTING, "normalize": normalize},
        f"CNTK, {depth} layers, flatten": {
            "preset": "cntk",
            "depth": depth,
            "readout": "flatten",
            "normalize": normalize,
        },
    }


def _differences(images: Images, train: int, test: int, ridge: float) -> tuple[str, ...]:
    sentences = [
        "The paper regresses without regularisation; here a ridge of "
        f"{ridge:g} trace/m is compared, chosen before the others were computed.",
        "Fixed points are solved to a tolerance; the paper takes 20 iterations. Its equations "
        "divide by S before the convolution, its proof after it: the latter is used here.",
    ]
    if images.identity not in CHANNELS:
        sentences.append(
            f"The images are {images.title}, not CIFAR-10: accuracies on them say nothing about "
            "the published one. They are grey and scaled to unit norm as a whole, because pixels "
            "of one channel and unit norm are all alike. CIFAR-10: --data FOLDER."
        )
    if train != PUBLISHED_IMAGES or test != 10_000:
        sentences.append(
            f"{train} training and {test} test images instead of {PUBLISHED_IMAGES} and 10000."
        )
    sentences.append("The paper does not say which training images it took; here the first ones.")
    return tuple(sentences)


EXPERIMENT = Experiment(
    name="cdeq-small",
    summary="Feng & Kolter 2020, table 2: convolutional equilibrium NTK, published 37.49 %",
    small=Size(train=300, test=300, depth=5, ridges=(1e-6, 1e-4, 1e-2)),
    full=Size(train=PUBLISHED_IMAGES, test=10_000, depth=5, ridges=(COMPARED_RIDGE,)),
    measure=measure,
    takes_data=True,
)
