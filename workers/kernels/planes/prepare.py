"""What each image brings to the pairs it is in: pixels, and the deviation of every pixel and layer.

The variance of a pixel, K[s, s] of the image with itself, follows the same recursion as the pairs
but needs only a plane per layer. Behind a pool it is the mean over pairs of *different* pixels of
a window, so the planes of small offset of the image with itself are run up to there: (2p - 1)^2
of them per pool of window p. They are run in the arithmetic of the pairs, because where two
images are equal, rounding that differs would be taken for a difference of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.kernels.planes.geometry import bands
from workers.kernels.planes.layout import (
    Group,
    PixelPairs,
    Plan,
    Scratch,
    Side,
    make_plan,
    make_scratch,
    no_pairs,
    pooled_pairs,
    wrap_pairs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.kernels.planes.network import Network, Precision


@dataclass(frozen=True)
class PreparedImages:
    """NumPy arrays of n images, one `Side` per group of layers. Picklable."""

    sides: tuple[Side, ...]
    precision: Precision

    def __len__(self) -> int:
        return len(self.sides[0].deviation)

    def __getitem__(self, images: slice) -> PreparedImages:
        """A range of the images, without a copy."""
        parts = (
            Side(
                side.channels[images],
                side.deviation[images],
                side.inverse[images],
                side.inside,
            )
            for side in self.sides
        )
        return PreparedImages(tuple(parts), self.precision)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for side in self.sides for array in side)


def prepare_compiled(
    network: Network, images: NDArray[Any], precision: Precision
) -> PreparedImages:
    """Images (n, P, Q, C), finite float32 or float64, for the compiled core."""
    plan = make_plan(network, precision)
    pixels = np.asarray(images, np.float64).transpose(0, 3, 1, 2) / np.sqrt(images.shape[-1])
    channels = plan.groups[0].spread(pixels).astype(plan.groups[0].plane_dtype)
    variance = np.einsum("ncij,ncij->nij", pixels, pixels)
    if len(plan.groups) == 1:
        group = plan.groups[0]
        sides = [make_side(group, channels, layer_variances(group, variance))]
        return PreparedImages(tuple(sides), precision)
    reaches, scratches = _reaches(plan), [make_scratch(group) for group in plan.groups[:-1]]
    # One after another: the pooled tensors of an image with itself take far more memory than it.
    found = [
        _prepare_image(plan, reaches, scratches, channels[i : i + 1], variance[i : i + 1])
        for i in range(len(images))
    ]
    return PreparedImages(tuple(_together(sides) for sides in zip(*found, strict=True)), precision)


def _together(sides: tuple[Side, ...]) -> Side:
    """Sides of one group, one after another."""
    channels, deviation, inverse, _ = (
        np.concatenate(arrays) for arrays in zip(*sides, strict=True)
    )
    return Side(channels, deviation, inverse, sides[0].inside)


def _prepare_image(
    plan: Plan,
    reaches: list[tuple[int, int]],
    scratches: list[Scratch],
    channels: NDArray[Any],
    variance: NDArray[np.float64],
) -> list[Side]:
    """The sides of one image: `channels` (1, C, N), variance of its pixels (1, P, Q)."""
    sides: list[Side] = []
    tensors = no_pairs(plan.groups[0])
    for number, group in enumerate(plan.groups):
        side = make_side(group, channels, layer_variances(group, variance))
        sides.append(side)
        channels = np.zeros((1, 0, 0))
        if group.window is not None:
            after = plan.groups[number + 1]
            tensors = _pooled(group, after, side, reaches[number], tensors, scratches[number])
            pixel = np.arange(after.pixels).reshape(after.geometry[:2])
            variance = tensors.nngp[pixel * after.geometry.row + after.positions()][None]
    return sides


def _reaches(plan: Plan) -> list[tuple[int, int]]:
    """Per group, the offsets (rows, columns) at which an image's own planes are needed."""
    reaches = [(0, 0)]
    for group in reversed(plan.groups[:-1]):
        assert group.window is not None
        down, across = reaches[-1]
        p, q = group.window
        reaches.append((p * down + p - 1, q * across + q - 1))
    return reaches[::-1]


def layer_variances(group: Group, variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variances (n, layers, P, Q) of the pre-activations, in the units of layout.py, from those
    of the pixels (n, P, Q). Images may have more rows than the planes of `group`."""
    found = []
    q = variance.astype(np.float64)
    layers = group.layers
    mode = "wrap" if group.geometry.torus else "constant"
    rows, columns = variance.shape[1:]
    for (up, side), (bias, rescale, _, _) in zip(layers.filters, layers.numbers, strict=True):
        padded = np.pad(q, ((0, 0), (up, up), (side, side)), mode=mode)  # type: ignore[call-overload]
        tall = sum(padded[:, a : a + rows] for a in range(2 * up + 1))
        q = sum(tall[:, :, b : b + columns] for b in range(2 * side + 1)) + bias
        found.append(q)
        q = q * rescale  # phi keeps the variance: its own factor is in the unit
    return np.stack(found, axis=1)


def make_side(group: Group, channels: NDArray[Any], variances: NDArray[np.float64]) -> Side:
    """`channels` are empty behind a pool; they then take the group's dtype, for one signature."""
    deviation = group.spread(np.sqrt(variances))
    inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    return Side(
        channels.astype(group.plane_dtype, copy=False),
        deviation.astype(group.plane_dtype),
        inverse.astype(group.inverse_dtype),
        group.spread(np.ones(group.geometry[:2], group.low_dtype)),
    )


def _pooled(
    group: Group,
    after: Group,
    side: Side,
    reach: tuple[int, int],
    source: PixelPairs,
    scratch: Scratch,
) -> PixelPairs:
    """The pooled tensors of the image of `side` with itself, at the offsets that variances need."""
    from workers.kernels.planes.core import run_group

    sink, pooled = pooled_pairs(group, after)
    own = bands(group.geometry, half=False, reach=reach).flat
    run_group(
        group.geometry,
        group.layers.flat,
        side.flat,
        side.flat,
        np.array([[0, 0, 1]]),
        own,
        own,
        source,
        sink,
        scratch,
        *group.exact,
        np.zeros((1, 2)),
    )
    wrap_pairs(pooled, after)
    return pooled
