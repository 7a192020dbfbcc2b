"""Colour maps in which equal steps of a number look equally large.

Each is a curve through OKLab (B. Ottosson, "A perceptual color space for image processing", 2020),
in which distances are differences as people see them, walked at constant speed. `sequential` and
`gray` also rise evenly in lightness, so they survive black-and-white printing and most colour
blindness; `diverging` is as dark on both sides of its bright middle.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

ColorMap = Literal["sequential", "diverging", "gray"]
COLOR_MAPS: tuple[ColorMap, ...] = get_args(ColorMap)

Floats = NDArray[np.float64]

# Points of the curves: lightness, chroma, hue in degrees (OKLCh). Inside sRGB all the way.
_CURVES: dict[ColorMap, tuple[tuple[float, float, float], ...]] = {
    "sequential": (
        (0.22, 0.09, 290.0),
        (0.40, 0.115, 270.0),
        (0.58, 0.09, 215.0),
        (0.76, 0.125, 160.0),
        (0.94, 0.16, 108.0),
    ),
    "diverging": (
        (0.40, 0.13, 262.0),
        (0.68, 0.10, 250.0),
        (0.96, 0.00, 250.0),
        (0.96, 0.00, 40.0),
        (0.68, 0.10, 40.0),
        (0.40, 0.13, 28.0),
    ),
    "gray": ((0.12, 0.0, 0.0), (0.98, 0.0, 0.0)),
}
_FINE = 2000

# OKLab to linear sRGB: Ottosson's matrices.
_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def table(name: ColorMap, steps: int) -> NDArray[np.uint8]:
    """The colour map as sRGB, (steps, 3), from low to high."""
    return np.rint(255 * np.clip(srgb(curve(name, steps)), 0, 1)).astype(np.uint8)


def curve(name: ColorMap, steps: int) -> Floats:
    """The colour map in OKLab, (steps, 3): neighbours are equally far apart."""
    points = np.array(_CURVES[name])
    position = np.linspace(0, len(points) - 1, _FINE)
    lightness, chroma, hue = (
        np.interp(position, np.arange(len(points)), points[:, axis]) for axis in range(3)
    )
    angle = np.deg2rad(hue)
    fine = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1)
    walked = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    even = np.linspace(0, walked[-1], steps)
    return np.stack([np.interp(even, walked, fine[:, axis]) for axis in range(3)], axis=1)


def srgb(oklab: Floats) -> Floats:
    """OKLab to sRGB as stored in files (IEC 61966-2-1), (..., 3); outside [0, 1] off screen."""
    linear = (oklab @ _TO_LMS.T) ** 3 @ _TO_RGB.T
    low = linear <= 0.0031308
    return np.where(low, 12.92 * linear, 1.055 * np.where(low, 1.0, linear) ** (1 / 2.4) - 0.055)
