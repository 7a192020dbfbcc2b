"""Jacot et al. 2018, section 6.3: kernel principal components of 512 digits.

The paper approximates the limiting NTK by a network of width 10000 and finds the eigenvalues
0.0457, 0.00108, 0.00078 of NTK/N, not centred. It does not say how deep that network is, so
several depths are computed, and the closest is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.papers.data import Images, load_images
from service.papers.experiment import Experiment
from service.papers.figure import Curve, Panel
from service.papers.lab import Lab
from service.papers.report import Comparison, Report, Table

Floats = NDArray[np.float64]

PUBLISHED = (0.0457, 0.00108, 0.00078)
BETA, LARGE_BETA = 0.1, 1.0
COMPONENTS = 3


@dataclass(frozen=True)
class Size:
    digits: int
    affine_layers: tuple[int, ...]


@dataclass(frozen=True)
class Components:
    """Kernel PCA of one network: `eigenvalues` (3,), `scores` (digits, 3)."""

    affine_layers: int
    beta: float
    eigenvalues: Floats
    scores: Floats

    @property
    def gap(self) -> float:
        """First eigenvalue over second."""
        return float(self.eigenvalues[0] / self.eigenvalues[1])

    @property
    def distance(self) -> float:
        """Root mean square of ln(eigenvalue/published)."""
        return float(np.sqrt(np.mean(np.log(self.eigenvalues / PUBLISHED) ** 2)))


def kernel(affine_layers: int, beta: float) -> dict[str, Any]:
    """Jacot et al. count affine layers; weights have deviation 1, biases beta."""
    return {"preset": "fc", "depth": affine_layers - 1, "w_std": 1.0, "b_std": beta}


def measure(lab: Lab, size: Size) -> Report:
    images = load_images(lab.data or "mnist")
    digits = min(size.digits, len(images.x_train))
    classes = images.y_train[:digits]
    name = lab.upload(
        images.x_train[:digits].astype(np.float64) / 255, classes, name=f"{images.identity}-pca"
    )
    found = [
        _components(lab, name, layers, beta)
        for beta in (BETA, LARGE_BETA)
        for layers in size.affine_layers
    ]
    closest = min((c for c in found if c.beta == BETA), key=lambda c: c.distance)
    flat = next(
        c for c in found if c.beta == LARGE_BETA and c.affine_layers == closest.affine_layers
    )
    comparisons = [
        Comparison(
            f"eigenvalue {index + 1} of NTK/N",
            f"{published:g}",
            f"{closest.eigenvalues[index]:.3g} ({closest.affine_layers} affine layers)",
        )
        for index, published in enumerate(PUBLISHED)
    ]
    comparisons.append(
        Comparison(
            "how much larger eigenvalue 1/eigenvalue 2 is for beta = 1 than for beta = 0.1",
            "about ten times",
            f"{flat.gap / closest.gap:.3g} times",
        )
    )
    return Report(
        name=EXPERIMENT.name,
        title=f"Kernel principal components of {digits} images",
        source="Jacot, Gabriel, Hongler 2018, Neural Tangent Kernel, section 6.3 (figure 3a).",
        comparisons=tuple(comparisons),
        table=Table(
            ("affine_layers", "beta", "eigenvalue_1", "eigenvalue_2", "eigenvalue_3", "rms_log"),
            tuple(
                (c.affine_layers, c.beta, *(float(v) for v in c.eigenvalues), c.distance)
                for c in found
            ),
        ),
        differences=_differences(images, digits),
        panels=_panels(found, closest, classes),
        settings={
            "images": images.title,
            "digits": digits,
            "kernels": [kernel(c.affine_layers, c.beta) for c in found],
            "inputs": "pixels/255",
        },
    )


def _components(lab: Lab, name: str, affine_layers: int, beta: float) -> Components:
    label = f"{affine_layers} affine layers, beta = {beta:g}"
    gram = lab.gram(f"{label}: NTK", kernel(affine_layers, beta), name, outputs=["ntk"])
    answer = lab.analysis(f"{label}: components", "kernel_pca", matrix=gram, components=COMPONENTS)
    return Components(
        affine_layers,
        beta,
        np.asarray(answer.summary["eigenvalues"], dtype=np.float64),
        np.asarray(answer.arrays["scores"]),
    )


def _differences(images: Images, digits: int) -> tuple[str, ...]:
    sentences = [
        "The paper does not state the depth of its network; the depth whose eigenvalues come "
        "closest is compared, the others are in the table.",
        "The paper does not state how pixels are scaled; here to [0, 1].",
        "The kernel is the exact limit; the paper takes a random network of width 10000.",
        f"The images are {digits} of {images.title}; which ones the paper took is not known.",
    ]
    if images.identity != "mnist":
        sentences.append("The images are not MNIST digits.")
    return tuple(sentences)


def _panels(
    found: list[Components], closest: Components, classes: NDArray[np.int64]
) -> tuple[Panel, ...]:
    scatter = tuple(
        Curve(
            str(label),
            closest.scores[classes == label, 1],
            closest.scores[classes == label, 2],
            style="points",
        )
        for label in np.unique(classes)
    )
    several = [c for c in found if c.beta == BETA]
    depths = np.array([float(c.affine_layers) for c in several])
    curves = []
    for index, published in enumerate(PUBLISHED):
        values = np.array([c.eigenvalues[index] for c in several])
        curves.append(Curve(f"eigenvalue {index + 1}", depths, values))
        curves.append(
            Curve(f"published {index + 1}", depths, np.full(len(depths), published), style="dashed")
        )
    return (
        Panel("the images by class", "component 2", "component 3", scatter),
        Panel("beta = 0.1", "affine layers", "eigenvalue of NTK/N", tuple(curves), y_scale="log"),
    )


EXPERIMENT = Experiment(
    name="mnist-pca",
    summary="Jacot et al. 2018, figure 3a: kernel principal components of 512 digits",
    small=Size(digits=512, affine_layers=(3, 4, 5, 6)),
    full=Size(digits=512, affine_layers=(2, 3, 4, 5, 6, 7, 8)),
    measure=measure,
    takes_data=True,
)
