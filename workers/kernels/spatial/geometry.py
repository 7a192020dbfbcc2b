"""Sizes of the pixel grids along a network, from the size of the samples. No JAX.

Sequences are images of width 1: shapes are always (rows, columns), filters always two-sided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workers.kernels.errors import InvalidInputsError
from workers.kernels.layers import Residual
from workers.kernels.spatial.layers import (
    Conv,
    ConvEquilibrium,
    Flatten,
    GlobalAvgPool,
    Padding,
    PoolModel,
)
from workers.kernels.spatial.structure import pixel_rank

Shape = tuple[int, int]
"""Pixels (rows, columns)."""


@dataclass(frozen=True)
class Reach:
    """One axis of a convolution: output o reads inputs stride*o - before + (0..filter-1)."""

    size: int
    filter: int
    stride: int
    before: int
    out: int

    @property
    def after(self) -> int:
        """Pixels that are read beyond the last one."""
        return max(0, (self.out - 1) * self.stride - self.before + self.filter - self.size)


def sides(values: tuple[int, ...]) -> Shape:
    """A filter, stride or window as (rows, columns)."""
    return (values[0], values[1]) if len(values) == 2 else (values[0], 1)


def sample_grid(layers: tuple[Any, ...], sample_shape: tuple[int, ...]) -> tuple[Shape, int]:
    """Pixels and channels of samples of `sample_shape`: (P, Q, C), or (T, C) for sequences.

    Raises InvalidInputsError if the samples have another number of axes than the filters.
    """
    rank = pixel_rank(layers) or len(sample_shape) - 1
    if len(sample_shape) != rank + 1 or rank not in (1, 2):
        wanted = {1: "sequences (n, T, C)", 2: "images (n, P, Q, C)"}.get(rank, "images")
        raise InvalidInputsError(
            f"Samples have shape {tuple(sample_shape)}, but this network acts on {wanted}, "
            "channels last.",
            advice="Reshape the data set; grey images need a last axis of length 1.",
        )
    return sides(sample_shape[:-1]), sample_shape[-1]


def reaches(layer: Conv, shape: Shape) -> tuple[Reach, Reach]:
    """The two axes of a convolution. Raises InvalidInputsError if the filter does not fit."""
    filters, strides = sides(layer.filter), sides(layer.strides)
    first, second = (
        _reach(layer.padding, size, length, stride)
        for size, length, stride in zip(shape, filters, strides, strict=True)
    )
    return first, second


def _reach(padding: Padding, size: int, length: int, stride: int) -> Reach:
    if padding == "VALID":
        if length > size:
            raise InvalidInputsError(
                f"A VALID convolution with a filter of {length} pixels meets only {size} there.",
                advice='Use "padding": "SAME", a smaller filter, fewer layers or larger samples.',
            )
        return Reach(size, length, stride, 0, (size - length) // stride + 1)
    out = -(-size // stride)
    total = max((out - 1) * stride + length - size, 0)
    if padding == "CIRCULAR" and total - total // 2 > size:
        raise InvalidInputsError(
            f"A CIRCULAR convolution with a filter of {length} pixels meets only {size} there.",
            advice="Use a smaller filter or larger samples: each side may wrap around once.",
        )
    return Reach(size, length, stride, total // 2, out)


def pooled(layer: PoolModel, shape: Shape) -> Shape:
    """Raises InvalidInputsError if the windows do not tile the pixels."""
    window = sides(layer.window)
    if shape[0] % window[0] or shape[1] % window[1]:
        raise InvalidInputsError(
            f"A pool with windows of {window[0]} x {window[1]} pixels does not divide the "
            f"{shape[0]} x {shape[1]} pixels there.",
            advice="Use another window, crop or pad the samples, or a VALID convolution before.",
        )
    return shape[0] // window[0], shape[1] // window[1]


def after(layers: tuple[Any, ...], shape: Shape | None) -> Shape | None:
    """Pixels after `layers`; None once they are flat. Raises InvalidInputsError."""
    for layer in layers:
        shape = after_layer(layer, shape)
    return shape


def after_layer(layer: Any, shape: Shape | None) -> Shape | None:
    """Pixels after one layer."""
    if isinstance(layer, Flatten | GlobalAvgPool | ConvEquilibrium):
        return None
    if isinstance(layer, Residual):
        body, shortcut = after(layer.body, shape), after(layer.shortcut, shape)
        if body != shortcut:
            raise InvalidInputsError(
                f"A residual adds {_text(body)} to {_text(shortcut)}.",
                advice="Give its shortcut a conv with the strides of its body.",
            )
        return body
    if shape is None:
        return None
    if isinstance(layer, Conv):
        rows, columns = reaches(layer, shape)
        return rows.out, columns.out
    return pooled(layer, shape) if isinstance(layer, PoolModel) else shape


def _text(shape: Shape | None) -> str:
    return "flat features" if shape is None else f"{shape[0]} x {shape[1]} pixels"
