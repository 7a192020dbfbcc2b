"""Numbers as colours: the scale, and the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.pictures import colors, png
from service.pictures.colors import ColorMap

DRAWING = "1"  # part of the ETags of pictures; another number for another look

_HOLE, _NOT_FINITE, _FIRST = 0, 1, 2  # palette: two special colours, then the scale
_STEPS = 256 - _FIRST
_NOT_FINITE_COLOR = (214, 22, 139)  # on none of the scales


@dataclass(frozen=True)
class Scale:
    """What the first and the last colour stand for; `low` < `high` unless all numbers are equal."""

    low: float
    high: float


def finite_range(values: NDArray[np.floating]) -> Scale | None:
    """Lowest and highest finite number; None without any."""
    finite = values[np.isfinite(values)]
    return Scale(float(finite.min()), float(finite.max())) if finite.size else None


def scale_for(found: Scale | None, color_map: ColorMap) -> Scale | None:
    """The range of the numbers, made symmetric about 0 for the diverging map."""
    if found is None or color_map != "diverging":
        return found
    largest = max(abs(found.low), abs(found.high))
    return Scale(-largest, largest)


def draw(
    values: NDArray[np.floating],
    filled: NDArray[np.bool_],
    scale: Scale | None,
    color_map: ColorMap,
) -> bytes:
    """A PNG with one pixel per number (rows, columns). Where `filled` is false it is transparent;
    numbers that are not finite have a colour of their own; numbers beyond the scale its ends."""
    indices = np.full(values.shape, _NOT_FINITE, np.uint8)
    finite = np.isfinite(values)
    if scale is not None:
        # Halves, because the difference of two finite numbers may not be finite.
        span = scale.high / 2 - scale.low / 2
        position = (values[finite].astype(np.float64) / 2 - scale.low / 2) / (span or 1.0)
        steps = np.rint(np.clip(position, 0, 1) * (_STEPS - 1)).astype(np.uint8)
        indices[finite] = steps + _FIRST
    indices[~filled] = _HOLE
    palette = np.vstack([[(0, 0, 0), _NOT_FINITE_COLOR], colors.table(color_map, _STEPS)])
    return png.encode(indices, palette.astype(np.uint8), opacity=b"\x00")
