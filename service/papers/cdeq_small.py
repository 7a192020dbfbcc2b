"""Feng & Kolter 2020, table 2: the NTK of a convolutional equilibrium network on few images.

Published: 37.49 % test accuracy on CIFAR-10 from 2000 training images, with (sigma_w^2, sigma_u^2)
= (0.65, 0.35), pixels of unit norm, 3 x 3 filters and targets 0.9 and -0.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.papers.accuracy import (
    accuracy_curves,
    accuracy_panel,
    compared_ridge,
    ridge_accuracies,
)
from service.papers.data import Images, load_images
from service.papers.experiment import Experiment
from service.papers.image_sets import in_colour, upload_pictures
from service.papers.lab import Lab
from service.papers.report import Comparison, Report, Table

PUBLISHED = 37.49  # percent
PUBLISHED_IMAGES = 2000
SETTING = "0.65-0.35"
COMPARED_RIDGE = 1e-6


@dataclass(frozen=True)
class Size:
    train: int  # images
    test: int
    depth: int  # layers of the finite network beside it
    ridges: tuple[float, ...]  # times trace(K)/m


def measure(lab: Lab, size: Size) -> Report:
    images = load_images(lab.data or "mnist")
    split = upload_pictures(lab, images, size.train, size.test)
    kernels = _kernels(images, size.depth)
    found = [
        accuracy
        for name, kernel in kernels.items()
        for accuracy in ridge_accuracies(lab, name, kernel, split.train, split.test, size.ridges)
    ]
    compared = found[size.ridges.index(compared_ridge(COMPARED_RIDGE, size.ridges))]
    return Report(
        name=EXPERIMENT.name,
        title=f"Convolutional equilibrium NTK on {split.train_images} training images",
        source="Feng & Kolter 2020, On the Neural Tangent Kernel of Equilibrium Models, "
        "section 5, table 2.",
        comparisons=(
            Comparison(
                f"test accuracy of the CDEQ-NTK, {PUBLISHED_IMAGES} training images of CIFAR-10",
                f"{PUBLISHED:g} %",
                f"{compared.percent:.2f} % ({images.title}: {split.train_images} training,"
                f" {split.test_images} test images, ridge {compared.ridge:g} trace/m)",
            ),
        ),
        table=Table(
            ("kernel", "ridge", "accuracy_percent"),
            tuple((a.kernel, a.ridge, a.percent) for a in found),
        ),
        differences=_differences(images, split.train_images, split.test_images, compared.ridge),
        panels=(accuracy_panel(accuracy_curves(found, kernels)),),
        settings={
            "images": images.title,
            "training": split.train_images,
            "test": split.test_images,
            "kernels": kernels,
            "ridges": list(size.ridges),
        },
    )


def _kernels(images: Images, depth: int) -> dict[str, dict[str, Any]]:
    # Grey pixels of unit norm would all be 1: those images keep their levels.
    normalize = "unit_pixel" if in_colour(images) else "unit"
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
    if not in_colour(images):
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
