"""The pictures of the guide: `python -m service.guide.draw` writes them into figures/.

Needs the extra `gramian[paper]` (matplotlib). Everything is seeded: the same versions give the same
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.papers.figure import Curve, Floats, Panel, svg

_FOLDER = Path(__file__).parent / "figures"
_DEPTHS = (1, 3, 10)
_WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
_NETWORKS = 200


def figures() -> dict[str, Callable[[], bytes]]:
    """How to draw each, by file name."""
    return {
        "kernel-of-angle.svg": kernel_of_angle,
        "wide-networks.svg": wide_networks,
        "regression.svg": regression,
    }


def kernel_of_angle() -> bytes:
    """NNGP and NTK of two points on the unit circle, by the angle between them."""
    from workers.kernels import compile_kernel

    angles = np.linspace(0.0, math.pi, 181)
    points = np.column_stack([np.cos(angles), np.sin(angles)])
    panels = []
    for output, name in (("nngp", "NNGP"), ("ntk", "NTK")):
        curves = []
        for depth in _DEPTHS:
            row = compile_kernel({"preset": "fc", "depth": depth})(points[:1], points)[output][0]
            label = f"{depth} hidden layer{'s' if depth > 1 else ''}"
            curves.append(Curve(label, np.degrees(angles), row / row[0]))
        panels.append(
            Panel(name, "angle between the inputs (degrees)", "k / k(same)", tuple(curves))
        )
    return svg("How alike a ReLU network finds two inputs", tuple(panels))


def wide_networks() -> bytes:
    """The kernel of the last hidden layer of random networks of growing width, and its limit."""
    from workers.kernels import compile_kernel

    points = np.array([[1.0, 0.0], [math.cos(1.0), math.sin(1.0)]])
    limit = float(compile_kernel({"preset": "fc", "depth": 2})(points)["nngp"][0, 1])
    rng = np.random.default_rng(0)
    values = np.array(
        [[_random_kernel(points, width, rng) for _ in range(_NETWORKS)] for width in _WIDTHS]
    )
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], axis=1)
    widths = np.array(_WIDTHS, dtype=np.float64)
    curves = (
        Curve(f"{_NETWORKS} random networks: median, 90 %", widths, middle, low, high),
        Curve("infinite width (Gramian)", widths, np.full(len(widths), limit), style="dashed"),
    )
    panel = Panel("", "neurons per layer", "K(x, x') of one network", curves, x_scale="log")
    return svg("Wide networks agree about similarity", (panel,))


def regression() -> bytes:
    """Kernel regression on eight noisy points: prediction and spread at three depths."""
    from workers.kernels import compile_kernel
    from workers.predictions.posterior import gaussian_posterior

    rng = np.random.default_rng(3)
    angles = np.sort(rng.uniform(-2.6, 2.6, 8))
    targets = np.sin(2 * angles) + 0.05 * rng.normal(size=8)
    grid = np.linspace(-math.pi, math.pi, 241)
    panels = []
    for depth in _DEPTHS:
        kernel = compile_kernel({"preset": "fc", "depth": depth, "b_std": 0.1})
        train, new = _circle(angles), _circle(grid)
        prior = np.diag(kernel(new)["nngp"])
        found = gaussian_posterior(
            kernel(train)["nngp"],
            kernel(new, train)["nngp"],
            targets[:, None],
            0.05**2,
            prior,
            "variance",
        )
        mean, spread = found.mean[:, 0], 2 * np.sqrt(np.asarray(found.spread))
        panels.append(
            Panel(
                f"{depth} hidden layer{'s' if depth > 1 else ''}",
                "angle",
                "y",
                (
                    Curve(
                        "prediction, 2 standard deviations",
                        grid,
                        mean,
                        mean - spread,
                        mean + spread,
                    ),
                    Curve("training data", angles, targets, style="points"),
                ),
            )
        )
    return svg("What infinitely wide networks make of eight points", tuple(panels))


def _circle(angles: Floats) -> Floats:
    return np.column_stack([np.cos(angles), np.sin(angles)])


def _random_kernel(points: Floats, width: int, rng: np.random.Generator) -> float:
    """Products of the last hidden layer of one random ReLU network of two hidden layers, in the
    scale of the preset `fc`: He initialisation, the mean over neurons."""
    features = points
    for _ in range(2):
        fan_in = features.shape[1]
        weights = rng.normal(size=(fan_in, width)) * math.sqrt(2.0 / fan_in)
        features = np.maximum(features @ weights, 0.0)
    return float(2.0 * np.mean(features[0] * features[1]))


if __name__ == "__main__":
    _FOLDER.mkdir(exist_ok=True)
    for file_name, draw in figures().items():
        (_FOLDER / file_name).write_bytes(draw())
