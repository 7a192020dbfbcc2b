"""Filling in the missing pixels of a photograph with the kernel of a convolutional network.

Golikov et al. 2022, section 6.1.3, after Radhakrishnan et al. 2022 (arXiv:2108.00131): the network
maps a fixed image prior Z to the photograph, and is trained on the pixels that are known. In the
limit that is regression with the kernel Theta(Z, Z) of pixel pairs: a `pixel_gram` job. Its
observed rows and columns, and the missing rows, are `submatrix` jobs, all on stored tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.papers.experiment import Experiment
from service.papers.figure import Panel, Picture
from service.papers.lab import Lab
from service.papers.photograph import biharmonic, neighbour_mean, photograph
from service.papers.report import Comparison, Report, Table

Floats = NDArray[np.float64]

ROOT_TWO = 2**0.5
FEATURES, SCALE, WEIGHT = 64, 2.0, 0.25
RIDGE = 1e-4  # times trace(K)/m
SEED = 0


@dataclass(frozen=True)
class Size:
    side: int  # pixels
    missing: tuple[float, ...]  # fractions of the pixels
    depth: int  # activations


def kernel(depth: int) -> dict[str, Any]:
    """3 x 3 convolutions with ReLU between them, no readout."""
    hidden = [
        {"op": "conv", "filter": [3, 3], "w_std": ROOT_TWO},
        {"op": "activation", "fn": "relu"},
    ]
    return {"layers": [*hidden * depth, {"op": "conv", "filter": [3, 3]}]}


def measure(lab: Lab, size: Size) -> Report:
    image = photograph(size.side)
    rng = np.random.default_rng(SEED)
    rows, panels = [], [Panel("the photograph", "", "", (), picture=Picture(image))]
    for fraction in size.missing:
        observed = rng.random(image.shape[:2]) >= fraction
        filled = {
            "NTK": _by_kernel(lab, size, image, observed, f"{fraction:.0%} missing"),
            "mean of known neighbours": neighbour_mean(image, observed),
            "biharmonic": biharmonic(image, observed),
        }
        for name, found in filled.items():
            rows.append((fraction, name, psnr(image, found, ~observed)))
        seen = np.where(observed[:, :, None], image, 1.0)
        panels.append(Panel(f"{fraction:.0%} missing", "", "", (), picture=Picture(seen)))
        for name, found in filled.items():
            text = f"{name}: {psnr(image, found, ~observed):.2f} dB"
            panels.append(Panel(text, "", "", (), picture=Picture(found)))
    return Report(
        name=EXPERIMENT.name,
        title=f"In-painting of a photograph, {size.side} x {size.side} pixels",
        source="Golikov, Pokonechnyy, Korviakov 2022, Neural Tangent Kernel: A Survey, section"
        " 6.1.3; Radhakrishnan, Stefanakis, Belkin, Uhler 2022 (arXiv:2108.00131).",
        comparisons=tuple(
            Comparison(f"PSNR of missing pixels, {name}, {fraction:.0%} missing", "-", _db(value))
            for fraction, name, value in rows
        ),
        table=Table(("missing", "method", "psnr_db"), tuple(rows)),
        differences=(
            "No published number is comparable: the papers use photographs that are not shipped"
            " with any package here; the interpolations without a network are the comparison.",
            "The papers' networks sample down and up, and their prior is white noise. Here the"
            " network has stride 1 throughout. With it, the kernel of white noise is one number on"
            " the diagonal and another one off it, but for the borders: it would fill in the mean.",
            f"So the prior is an image of {FEATURES} Fourier features of the position (Tancik et"
            f" al. 2020, deviation {SCALE:g} periods per side), times {WEIGHT:g}, beside the three"
            " channels of the image as the mean of known neighbours fills it in.",
            "The prior's scale, the depth and the ridge were chosen on this photograph by its PSNR,"
            " the baselines have no parameters: this flatters the kernel.",
            "Pixels are missing at random; the papers also take out connected pieces.",
        ),
        panels=tuple(panels),
        settings={
            "photograph": "china.jpg of scikit-learn, the middle square, means of blocks",
            "side": size.side,
            "missing": list(size.missing),
            "kernel": kernel(size.depth),
            "ridge_relative": RIDGE,
            "features": FEATURES,
            "scale": SCALE,
            "weight": WEIGHT,
            "seed": SEED,
        },
    )


def prior(image: Floats, observed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(P, Q, FEATURES + 3): what the network sees; uses the observed pixels of `image` only."""
    waves = SCALE * np.random.default_rng(SEED).standard_normal((FEATURES // 2, 2))
    down, across = (np.arange(n) / n for n in image.shape[:2])
    phase = 2 * np.pi * (down[:, None, None] * waves[:, 0] + across[:, None] * waves[:, 1])
    features = WEIGHT * np.concatenate([np.cos(phase), np.sin(phase)], axis=2)
    return np.concatenate([features, neighbour_mean(image, observed)], axis=2).astype(np.float32)


def psnr(image: Floats, found: Floats, where: NDArray[np.bool_]) -> float:
    """10 log10(1/mean squared error) over the pixels `where` (P, Q), decibels; values in [0, 1]."""
    return float(-10 * np.log10(np.mean((found - image)[where] ** 2)))


def _by_kernel(
    lab: Lab, size: Size, image: Floats, observed: NDArray[np.bool_], label: str
) -> Floats:
    """The photograph with its missing pixels predicted by the service, clipped to [0, 1]."""
    known, unknown = np.flatnonzero(observed), np.flatnonzero(~observed)
    values = image.reshape(-1, image.shape[2])[known]
    mean = values.mean(axis=0)
    network = lab.upload(prior(image, observed)[None], name=f"inpainting-prior-{size.side}")
    # Targets of chosen rows need a data set of their own; its samples are not used.
    targets = lab.upload(
        known[:, None].astype(np.float32), values - mean, name=f"inpainting-pixels-{size.side}"
    )
    pixels = lab.task(f"{label}: pixel pairs", "pixel_gram", kernel=kernel(size.depth), x=network)
    train = lab.task(f"{label}: observed", "submatrix", matrix=pixels, rows=known.tolist())
    cross = lab.task(
        f"{label}: missing against observed",
        "submatrix",
        matrix=pixels,
        rows=unknown.tolist(),
        columns=known.tolist(),
    )
    answer = lab.answer(
        f"{label}: solve", "solve", matrix=train, cross=cross, targets=targets, ridge=RIDGE
    )
    filled = image.reshape(-1, image.shape[2]).copy()
    filled[unknown] = np.clip(answer.arrays["predictions"] + mean, 0, 1)
    return filled.reshape(image.shape)


def _db(value: float) -> str:
    return f"{value:.2f} dB"


EXPERIMENT = Experiment(
    name="inpainting",
    summary="Golikov et al. 2022, section 6.1.3: missing pixels of a photograph filled in",
    small=Size(side=64, missing=(0.5, 0.8), depth=6),
    full=Size(side=96, missing=(0.3, 0.5, 0.8), depth=6),
    measure=measure,
    takes_data=False,
)
