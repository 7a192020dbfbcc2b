"""The recursion as one fused GPU kernel (Pallas, Triton): no tensor of pixel pairs in memory.

The same formulas, units and prepared images as core.py. One program holds the plane of one lag of
the torus of one pair of images, P x Q numbers, through all layers and writes two sums. A box sum
is B_rows K B_columns with 0/1 band matrices, which matrix units multiply; for SAME padding the
bands are broken at the seam, where the plane passes from one offset to another. float32 planes
are cut into three parts of 8 bits, whose products with a band are exact in bfloat16; float64
planes (the NNGP, except in `fast`) are multiplied as they are.

Triton wants sides that are powers of 2, so planes are padded with zeros. Consecutive equal layers
are one loop. Networks without pools whose readout is the mean over pixel pairs.

Checked in interpret mode on CPUs, and lowered to Triton's code. It has not been run on a GPU: see
the README of workers/kernels for what compilers say about it.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workers.kernels.planes.layout import LayerNumbers, make_plan
from workers.kernels.planes.network import Convolution, piecewise_linear, supports
from workers.kernels.planes.prepare import prepare_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax
    from numpy.typing import NDArray

    from workers.kernels.planes.layout import Group
    from workers.kernels.planes.network import Network, Precision

SMALLEST_SIDE = 16
"""Triton's float64 products have operands of at least 16 x 16."""

LARGEST_PLANE = 64 * 64
"""Numbers of a padded plane; larger ones do not fit the registers of a program."""

NUMBERS_PER_WARP = 512
"""Of a plane: 16 per thread. A product gives each warp 16 rows at least; more warps than that
compute the same numbers again."""

PAIRS_PER_LAUNCH = 64
"""Pairs of images of one call of the kernel; it is compiled for the powers of 2 up to here."""

_HIGH_HALF = 0xFFFF0000
"""The bits of a float32 that a bfloat16 keeps."""


class Layer(NamedTuple):
    """One layer in the units of layout.py; hashable, so that runs of equal ones are found."""

    half: tuple[int, int]  # of the filter: rows, columns
    numbers: LayerNumbers
    p: tuple[float, ...]
    r: tuple[float, ...]


@dataclass(frozen=True)
class FusedImages:
    """n images prepared for `fused_block`, zeros beyond their pixels; in the memory of the device,
    because each is in many blocks. Picklable.

    `channels` (n, C, A, B) and `deviation` (n, layers, A, B) in the dtype of the NNGP plane,
    `inverse` (n, layers, A, B) in that of the rest; A, B: sides padded to powers of 2.
    """

    channels: jax.Array
    deviation: jax.Array
    inverse: jax.Array
    precision: Precision

    def __len__(self) -> int:
        return len(self.deviation)

    def __getitem__(self, images: slice) -> FusedImages:
        """A range of the images."""
        import jax

        with jax.enable_x64(True):
            channels, deviation, inverse = (array[images] for array in self.arrays)
        return FusedImages(channels, deviation, inverse, self.precision)

    def __reduce__(self) -> tuple[Any, ...]:
        # JAX would turn float64 into float32 where it is read again.
        return _on_device, (*(np.asarray(array) for array in self.arrays), self.precision)

    @property
    def arrays(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        return self.channels, self.deviation, self.inverse


def supports_fused(network: Network) -> bool:
    """Whether `fused_block` can run this network: two-slope activations, no pools but before the
    readout, no filter larger than the image, and a plane that fits."""
    if not supports(network) or not piecewise_linear(network):
        return False
    rows, columns = network.pixels
    filters = [stage.filter for stage in network.stages if isinstance(stage, Convolution)]
    return (
        len(make_plan(network, "mixed").groups) == 1
        and all(tall <= rows and wide <= columns for tall, wide in filters)
        and padded_side(rows) * padded_side(columns) <= LARGEST_PLANE
    )


def padded_side(size: int) -> int:
    """The power of 2, at least SMALLEST_SIDE, that `size` pixels are padded to."""
    return max(SMALLEST_SIDE, 1 << (size - 1).bit_length())


def prepare_fused(network: Network, images: NDArray[Any], precision: Precision) -> FusedImages:
    """Images (n, P, Q, C), finite, for `fused_block`."""
    side = prepare_compiled(network, images, precision).sides[0]
    group = make_plan(network, precision).groups[0]
    rows, columns = group.geometry.rows, group.geometry.columns

    def padded(array: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros((*array.shape[:2], padded_side(rows), padded_side(columns)), array.dtype)
        out[..., :rows, :columns] = array[..., group.positions()]
        return out

    channels, deviation, inverse = (
        padded(array) for array in (side.channels, side.deviation, side.inverse)
    )
    return _on_device(channels, deviation, inverse, precision)


def _on_device(
    channels: NDArray[Any], deviation: NDArray[Any], inverse: NDArray[Any], precision: Precision
) -> FusedImages:
    import jax

    with jax.enable_x64(True):
        return FusedImages(
            jax.device_put(channels),
            jax.device_put(deviation),
            jax.device_put(inverse),
            precision,
        )


def fused_block(
    network: Network,
    left: FusedImages,
    right: FusedImages,
    pairs: NDArray[np.int64],
    *,
    interpret: bool = False,
) -> NDArray[np.float64]:
    """Sums (m, 2) over pixel pairs of NNGP and NTK behind the last activation, in the unit of
    the plan (layout.py).

    `pairs` (m, 2 or more): index in `left` and in `right`. `interpret` runs the kernel on a CPU,
    slowly. Raises what JAX raises where the kernel cannot be compiled.
    """
    import jax

    run = fused_function(network, left.precision, interpret=interpret)
    sums = np.empty((len(pairs), 2))
    with jax.enable_x64(True):
        found = []  # all launches are on their way before the first is waited for
        for start in range(0, len(pairs), PAIRS_PER_LAUNCH):
            part = pairs[start : start + PAIRS_PER_LAUNCH, :2]
            launch = np.zeros((1 << (len(part) - 1).bit_length(), 2), np.int32)
            launch[: len(part)] = part
            found.append((start, len(part), run(launch, left.arrays, right.arrays)))
        for start, count, values in found:
            sums[start : start + count] = np.asarray(values)[:count]
    return sums


def try_fused(network: Network, precision: Precision, *, interpret: bool) -> None:
    """Compile and run the kernel on two blank images. Raises what JAX raises."""
    blank = prepare_fused(network, np.zeros((1, *network.pixels, 1)), precision)
    sums = fused_block(network, blank, blank, np.zeros((1, 2), np.int64), interpret=interpret)
    if not np.isfinite(sums).all():
        raise FloatingPointError("the kernel of two blank images is not finite")


@functools.lru_cache(maxsize=16)
def fused_function(
    network: Network, precision: Precision, *, interpret: bool = False
) -> Callable[..., Any]:
    """The jitted function of pairs (m, 2) int32 and the arrays of two sides to sums (m, 2)."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    group = make_plan(network, precision).groups[0]
    rows, columns = group.geometry.rows, group.geometry.columns
    numbers = padded_side(rows) * padded_side(columns)

    def run(pairs: jax.Array, left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> Any:
        shape = jax.ShapeDtypeStruct((len(pairs), rows * columns), jnp.float64)
        sums = pl.pallas_call(
            functools.partial(_kernel, group, layers_of(group)),
            grid=(rows * columns, len(pairs)),
            out_shape=(shape, shape),
            interpret=interpret,
            # Else JAX takes its other GPU backend, which has no such products.
            compiler_params=triton.CompilerParams(
                num_warps=max(1, numbers // NUMBERS_PER_WARP), num_stages=1
            ),
        )(pairs, *left, *right)
        return jnp.stack([values.sum(axis=1) for values in sums], axis=1)

    return jax.jit(run)


def layers_of(group: Group) -> tuple[Layer, ...]:
    """The layers of a group as hashable numbers."""
    arrays = (group.layers.filters, group.layers.numbers, group.layers.p, group.layers.r)
    return tuple(
        Layer((up, side), LayerNumbers(*numbers), tuple(p), tuple(r))
        for (up, side), numbers, p, r in zip(*(a.tolist() for a in arrays), strict=True)
    )


def _kernel(
    group: Group,
    layers: tuple[Layer, ...],
    pairs_ref: Any,
    x_channels: Any,
    x_deviation: Any,
    x_inverse: Any,
    y_channels: Any,
    y_deviation: Any,
    y_inverse: Any,
    nngp_ref: Any,
    ntk_ref: Any,
) -> None:
    """All layers of one lag of one pair."""
    import jax.numpy as jnp
    from jax import lax
    from jax.experimental import pallas as pl

    geometry = group.geometry
    rows, columns = geometry.rows, geometry.columns
    shape = x_channels.shape[2:]
    low = group.low_dtype
    lag, pair = pl.program_id(0), pl.program_id(1)
    down, across = lag // columns, lag % columns
    a, b = pairs_ref[pair, 0], pairs_ref[pair, 1]

    def opposite(axis: int, shift: Any, size: int) -> Any:
        """(A, B): row or column of the right pixel. Beyond the pixels it is any: x is 0 there."""
        index = lax.broadcasted_iota(jnp.int32, shape, axis) + shift
        return jnp.where(index >= size, index - size, index)

    i, j = opposite(0, down, rows), opposite(1, across, columns)

    def products(x: Any, y: Any, number: Any) -> Any:
        return x[a, number] * y[b, number, i, j]

    halves = {layer.half for layer in layers}
    torus = geometry.torus
    bands = {
        half: (
            _band(shape[0], rows, half[0], down, torus) if half[0] else None,
            _band(shape[1], columns, half[1], across, torus) if half[1] else None,
        )
        for half in halves
    }

    def step(layer: Layer, number: Any, planes: tuple[Any, Any]) -> tuple[Any, Any]:
        band = bands[layer.half]
        v = products(x_deviation, y_deviation, number)
        s = _box(band, planes[0]) + np.asarray(layer.numbers.bias, v.dtype)
        # Comparisons, because jnp.minimum costs instructions for what is not a number.
        s = jnp.where(s < v, s, v)
        if layer.numbers.signed:
            s = jnp.where(s > -v, s, -v)
        gap = (v - (jnp.abs(s) if layer.numbers.signed else s)).astype(low)
        t = jnp.sqrt(gap * products(x_inverse, y_inverse, number))
        u = t * t
        acute, rest = t * _horner(layer.p, u, low), gap * (t * _horner(layer.r, u, low))
        theta = s.astype(low) + _box(band, planes[1])
        slope, lifted = 1 - acute, s
        if layer.numbers.signed:
            gamma = layer.numbers.gamma
            slope = jnp.where(s >= 0, slope, np.asarray(gamma, low) + acute)
            lifted = jnp.where(s >= 0, s, np.asarray(gamma, s.dtype) * s)
        nngp, ntk = lifted + rest.astype(s.dtype), theta * slope
        if layer.numbers.rescale != 1:
            nngp = nngp * np.asarray(layer.numbers.rescale, nngp.dtype)
            ntk = ntk * np.asarray(layer.numbers.rescale, low)
        return nngp, ntk

    nngp = sum(products(x_channels, y_channels, c) for c in range(x_channels.shape[1]))
    planes = nngp, jnp.zeros(shape, low)
    done = 0
    for layer, run in itertools.groupby(layers):
        count = len(list(run))
        if count == 1:
            planes = step(layer, done, planes)
        else:
            body = functools.partial(_loop_body, step, layer, done)
            planes = lax.fori_loop(0, count, body, planes)
        done += count
    nngp_ref[pair, lag] = jnp.sum(planes[0].astype(jnp.float64))
    ntk_ref[pair, lag] = jnp.sum(planes[1].astype(jnp.float64))


def _loop_body(step: Any, layer: Layer, first: int, k: Any, planes: Any) -> Any:
    return step(layer, k + first, planes)


def _horner(coefficients: tuple[float, ...], u: Any, dtype: np.dtype[Any]) -> Any:
    *lower, top = (np.asarray(c, dtype) for c in coefficients)
    total: Any = top
    for coefficient in reversed(lower):
        total = total * u + coefficient
    return total


def _band(padded: int, size: int, half: int, lag: Any, torus: bool) -> Any:
    """(padded, padded) of bool: which of the `size` entries of a line a filter adds up, at this
    lag; symmetric, False beyond them."""
    import jax.numpy as jnp
    from jax import lax

    i = lax.broadcasted_iota(jnp.int32, (padded, padded), 0)
    j = lax.broadcasted_iota(jnp.int32, (padded, padded), 1)
    inside = (i < size) & (j < size)
    apart = jnp.abs(i - j)
    if torus:
        return inside & (jnp.minimum(apart, size - apart) <= half)
    # The partner of entry i is i + lag up to the seam, i + lag - size behind it.
    return inside & (apart <= half) & ((i + lag < size) == (j + lag < size))


def _box(band: tuple[Any, Any], plane: Any) -> Any:
    """The sum over the filter of every entry of a plane (A, B)."""
    rows, columns = band
    if rows is not None:
        plane = _product(rows, plane, left=True)
    if columns is not None:
        plane = _product(columns, plane, left=False)
    return plane


def _product(band: Any, plane: Any, *, left: bool) -> Any:
    """band @ plane, or plane @ band, in the dtype of the plane."""
    import jax.numpy as jnp

    def dot(part: Any) -> Any:
        zeros_and_ones = band.astype(part.dtype)
        operands = (zeros_and_ones, part) if left else (part, zeros_and_ones)
        return jnp.dot(*operands, preferred_element_type=plane.dtype)

    if plane.dtype == jnp.float64:
        return dot(plane)
    high, middle, low = _thirds(plane)
    return dot(low) + dot(middle) + dot(high)


def _thirds(plane: Any) -> tuple[Any, Any, Any]:
    """float32 as three bfloat16 that add up to it: 24 bits, 8 of them each."""
    import jax.numpy as jnp
    from jax import lax

    def cut(values: Any) -> Any:
        bits = lax.bitcast_convert_type(values, jnp.uint32) & np.uint32(_HIGH_HALF)
        return lax.bitcast_convert_type(bits, jnp.float32)

    high = cut(plane)
    middle = cut(plane - high)
    low = plane - high - middle
    return high.astype(jnp.bfloat16), middle.astype(jnp.bfloat16), low.astype(jnp.bfloat16)
