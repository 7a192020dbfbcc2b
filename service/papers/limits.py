"""Golikov et al. 2022, section 9: how many images, and how large ones, are within reach.

Published, with neural-tangents on one GTX 1080 Ti, from measured times of smaller Gram matrices:
5e9 s (160 years) for 10^6 images of 32 x 32 with a Myrtle network, 6.25e11 s (20 000 years) with
a ResNet-50, both by m^2 from at most 10^4 images; 150 days for 500 images of 224 x 224 with the
Myrtle network, by d^4 from at most 96 x 96.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.papers.experiment import Experiment
from service.papers.figure import Curve, Panel
from service.papers.lab import Lab
from service.papers.photograph import crops
from service.papers.report import Comparison, Report, Table

KERNELS: Mapping[str, dict[str, Any]] = {
    "Myrtle-5": {"preset": "myrtle5"},
    "Myrtle-10": {"preset": "myrtle10"},
    "ResNet-50": {"preset": "resnet50-preact"},
}
SIDE = 32  # pixels, where the number of images varies
MILLION = 10**6
LARGE_SIDE, LARGE_IMAGES = 224, 500
YEAR, DAY, HOUR = 365.25 * 86400.0, 86400.0, 3600.0  # seconds
MILLION_SECONDS = {"Myrtle-5": 5e9, "Myrtle-10": 5e9, "ResNet-50": 6.25e11}
LARGE_SECONDS = {"Myrtle-5": 150 * DAY, "Myrtle-10": 150 * DAY}
FITTED = 3  # the largest sizes, where the fixed cost of a job no longer counts


@dataclass(frozen=True)
class Size:
    images: tuple[int, ...]  # of 32 x 32, ascending
    sides: tuple[int, ...]  # pixels, ascending
    side_images: int  # how many, where the resolution varies
    repeats: int  # jobs of each size; the fastest counts


@dataclass(frozen=True)
class Timing:
    """One job. `work_seconds`: of all its tiles, summed over the workers."""

    kernel: str
    images: int
    side: int
    work_seconds: float
    wall_seconds: float

    @property
    def pairs(self) -> int:
        return pairs_of(self.images)

    @property
    def seconds_per_pair(self) -> float:
        return self.work_seconds / self.pairs


@dataclass(frozen=True)
class Law:
    """seconds = scale * size^exponent."""

    scale: float
    exponent: float

    def at(self, size: float) -> float:
        return float(self.scale * size**self.exponent)


def measure(lab: Lab, size: Size) -> Report:
    by_images = {
        name: [_timed(lab, name, images, SIDE, size.repeats) for images in size.images]
        for name in KERNELS
    }
    by_side = {
        name: [_timed(lab, name, size.side_images, side, size.repeats) for side in size.sides]
        for name in KERNELS
    }
    timings = [("images", t) for found in by_images.values() for t in found]
    timings += [("resolution", t) for found in by_side.values() for t in found]
    return Report(
        name=EXPERIMENT.name,
        title="Time against the number of images and their resolution",
        source="Golikov, Pokonechnyy, Korviakov 2022, Neural Tangent Kernel: A Survey, section 9,"
        " figures 5, 7 and 8.",
        comparisons=_comparisons(by_images, by_side),
        table=Table(
            (
                "study",
                "kernel",
                "images",
                "side",
                "pairs",
                "work_seconds",
                "wall_seconds",
                "seconds_per_pair",
            ),
            tuple(
                (
                    study,
                    t.kernel,
                    t.images,
                    t.side,
                    t.pairs,
                    t.work_seconds,
                    t.wall_seconds,
                    t.seconds_per_pair,
                )
                for study, t in timings
            ),
        ),
        differences=_differences(size),
        panels=_panels(by_images, by_side),
        settings={
            "kernels": dict(KERNELS),
            "images": list(size.images),
            "sides": list(size.sides),
            "images_of_each_side": size.side_images,
            "repeats": size.repeats,
            "machine of this command": processor(),
        },
    )


def pairs_of(images: int) -> int:
    """What a symmetric Gram matrix computes."""
    return images * (images + 1) // 2


def law(sizes: list[int], seconds: list[float]) -> Law:
    """Least squares of the logarithms, through the last FITTED points."""
    x, y = np.log(sizes[-FITTED:]), np.log(seconds[-FITTED:])
    exponent, intercept = np.polyfit(x, y, 1)
    return Law(float(np.exp(intercept)), float(exponent))


def from_last(sizes: list[int], seconds: list[float], exponent: float) -> Law:
    """The law of that exponent through the last point."""
    return Law(seconds[-1] / sizes[-1] ** exponent, exponent)


def duration(seconds: float) -> str:
    """In the largest unit of which there is at least one, two significant digits."""
    for unit, name in ((YEAR, "years"), (DAY, "days"), (HOUR, "hours"), (60.0, "minutes")):
        if seconds >= unit:
            return f"{float(f'{seconds / unit:.2g}'):,g} {name}"
    return f"{seconds:.2g} seconds"


def processor() -> str:
    """Model name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _timed(lab: Lab, name: str, images: int, side: int, repeats: int) -> Timing:
    """The fastest of `repeats` Gram matrices, each of other crops of a photograph: each worker
    compiles a kernel once for each size, and other programs only ever make a job longer."""
    label = f"{name}, {images} images of {side} x {side}"
    found = []
    for number in range(repeats):
        x = crops(images, side, seed=number)
        data = lab.upload(x, name=f"crops-{images}-{side}")
        summary = lab.measured_gram(
            f"{label} ({number + 1} of {repeats})", KERNELS[name], data, outputs=["ntk"]
        )
        found.append(Timing(name, images, side, summary["tile_seconds"], summary["wall_seconds"]))
    return min(found, key=lambda timing: timing.work_seconds)


def _comparisons(
    by_images: Mapping[str, list[Timing]], by_side: Mapping[str, list[Timing]]
) -> tuple[Comparison, ...]:
    found = []
    for name, timings in by_images.items():
        published, last = MILLION_SECONDS[name], timings[-1]
        grown = law([t.images for t in timings], [t.work_seconds for t in timings])
        found.append(
            Comparison(
                f"Gram matrix of 10^6 images of {SIDE} x {SIDE}, {name}",
                f"{duration(published)} ({published:g} s) on one GPU",
                f"{duration(last.seconds_per_pair * pairs_of(MILLION))} of one CPU core"
                f" ({1e3 * last.seconds_per_pair:.3g} ms per pair; time grew as"
                f" m^{grown.exponent:.2f} up to {last.images} images)",
            )
        )
    for name, timings in by_side.items():
        fitted, quartic = _side_laws(timings)
        pairs = pairs_of(LARGE_IMAGES)
        published_text = LARGE_SECONDS.get(name)
        found.append(
            Comparison(
                f"Gram matrix of {LARGE_IMAGES} images of {LARGE_SIDE} x {LARGE_SIDE}, {name}",
                f"about {duration(published_text)} on one GPU" if published_text else "-",
                f"{duration(quartic.at(LARGE_SIDE) * pairs)} of one CPU core by d^4 from"
                f" {timings[-1].side} x {timings[-1].side};"
                f" {duration(fitted.at(LARGE_SIDE) * pairs)} by the fitted"
                f" d^{fitted.exponent:.2f}",
            )
        )
    return tuple(found)


def _side_laws(timings: list[Timing]) -> tuple[Law, Law]:
    """Seconds per pair by resolution: as fitted, and as d^4 through the last point."""
    sides, seconds = [t.side for t in timings], [t.seconds_per_pair for t in timings]
    return law(sides, seconds), from_last(sides, seconds, 4.0)


def _panels(
    by_images: Mapping[str, list[Timing]], by_side: Mapping[str, list[Timing]]
) -> tuple[Panel, ...]:
    images_curves, side_curves = [], []
    for name, timings in by_images.items():
        m = np.array([t.images for t in timings], float)
        to_million = np.geomspace(m[0], MILLION, 20)
        squared = timings[-1].seconds_per_pair * to_million * (to_million + 1) / 2
        images_curves += [
            Curve(f"{name}", m, np.array([t.work_seconds for t in timings]), style="points"),
            Curve(f"{name}, m^2", to_million, squared, style="dashed"),
        ]
    for name, published in (("Myrtle", MILLION_SECONDS["Myrtle-5"]),
                            ("ResNet-50", MILLION_SECONDS["ResNet-50"])):  # fmt: skip
        point = np.array([float(MILLION)]), np.array([published])
        images_curves.append(Curve(f"{name}, published (1 GPU)", *point, style="points"))
    for name, timings in by_side.items():
        d = np.array([t.side for t in timings], float)
        to_large = np.geomspace(d[0], LARGE_SIDE, 20)
        _, quartic = _side_laws(timings)
        side_curves += [
            Curve(name, d, np.array([t.seconds_per_pair for t in timings]), style="points"),
            Curve(
                f"{name}, d^4", to_large, np.array([quartic.at(v) for v in to_large]),
                style="dashed",
            ),
        ]  # fmt: skip
    published_pair = LARGE_SECONDS["Myrtle-5"] / pairs_of(LARGE_IMAGES)
    side_curves.append(
        Curve("Myrtle, published (1 GPU)", np.array([float(LARGE_SIDE)]),
              np.array([published_pair]), style="points")
    )  # fmt: skip
    return (
        Panel(
            f"images of {SIDE} x {SIDE}", "images m", "seconds of one core",
            tuple(images_curves), x_scale="log", y_scale="log",
        ),
        Panel(
            "resolution", "side d, pixels", "seconds per pair of one core",
            tuple(side_curves), x_scale="log", y_scale="log",
        ),
    )  # fmt: skip


def _differences(size: Size) -> tuple[str, ...]:
    side = size.sides[-1]
    return (
        "Other hardware: the paper's times are of one GTX 1080 Ti, these of CPU cores, the sum over"
        f" the workers (this command ran on: {processor()}). They say what the method costs, not"
        " which machine is faster.",
        "Both are extrapolations. The paper's start from at most 10^4 images and from 96 x 96,"
        f" these from {size.images[-1]} images of {SIDE} x {SIDE} and from {side} x {side}. Nothing"
        " of the extrapolated size was computed, and memory is left out.",
        "Times are those of the clock while a tile is computed: on a machine that does other things"
        f" they are longer. Of each size the fastest of {size.repeats} jobs counts, so compilation"
        " does not; reading, preparing and storing do.",
        "The matrix is symmetric, and m(m + 1)/2 pairs are computed. The paper does not say whether"
        " it computes all m^2; its times are for the whole matrix either way.",
        "The paper does not name its Myrtle network; two are here.",
        "ResNet-50 is the pre-activation one: sums behind activations have no exact kernel. Its"
        " first convolution and pool leave a quarter of the side, and only those positions are"
        " computed, which is why it costs less than Myrtle here.",
        "The images are crops of a photograph, not CIFAR-10 and STL-10: time does not depend on"
        " what they show.",
    )


EXPERIMENT = Experiment(
    name="limits",
    summary="Golikov et al. 2022, section 9: time against images and resolution, 160 years",
    small=Size(images=(16, 32, 64), sides=(16, 32, 48, 64), side_images=8, repeats=3),
    full=Size(
        images=(32, 64, 128, 256, 512), sides=(16, 32, 48, 64, 96, 128), side_images=8, repeats=3
    ),
    measure=measure,
    takes_data=False,
)
