"""The recursion as one fused GPU kernel per pair and lag (Pallas): no tensor in device memory.

One program holds the plane of one lag of the torus, P x Q numbers, through all layers, and writes
two sums. A box sum is B_rows K B_columns with 0/1 band matrices, which matrix units multiply
exactly; for SAME padding the bands are broken at the seam, where the plane passes from one offset
to another. Networks without pools whose readout is the mean over pixel pairs; `mixed` runs in
float64.

Checked in interpret mode on CPUs. It has not been run on a GPU.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.kernels.duals.base import Correlation
from workers.kernels.planes.network import supports
from workers.kernels.planes.traced import TracedImages, traced_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.kernels.duals.base import Degree
    from workers.kernels.planes.network import Network, Precision
    from workers.kernels.planes.traced import TracedGroup


def supports_fused(network: Network) -> bool:
    """Whether `fused_block` can run this network: no pools, no filter larger than the image."""
    if not supports(network):
        return False
    groups = traced_groups(network)
    filters = [layer.convolution.filter for layer in groups[0].layers]
    return len(groups) == 1 and all(
        rows <= network.pixels[0] and columns <= network.pixels[1] for rows, columns in filters
    )


def fused_block(
    network: Network,
    left: TracedImages,
    right: TracedImages,
    pairs: NDArray[np.int64],
    precision: Precision,
    *,
    interpret: bool = False,
) -> NDArray[np.float64]:
    """Means (m, 2) over pixel pairs of NNGP and NTK behind the last activation.

    `pairs` (m, 2): index in `left` and in `right`. `interpret` runs the kernel on a CPU, slowly.
    """
    import jax

    group = traced_groups(network)[0]
    dtype = np.float32 if precision == "fast" else np.float64
    with jax.enable_x64(True):
        x = _stacked(group, left, dtype)[pairs[:, 0]]
        y = np.tile(_stacked(group, right, dtype)[pairs[:, 1]], (1, 1, 2, 2))
        sums = _run(group, len(left.sides[0].channels[0]), interpret)(x, y)
        total = np.asarray(sums, np.float64).sum(axis=1)
    means: NDArray[np.float64] = total / (group.rows * group.columns) ** 2
    return means


def _stacked(group: TracedGroup, images: TracedImages, dtype: Any) -> NDArray[Any]:
    """(n, C + 3 layers, P, Q): pixels, deviations, activated deviations, inverses."""
    parts = [group.extract(array) for array in images.sides[0]]
    return np.concatenate(parts, axis=1).astype(dtype)


@functools.lru_cache(maxsize=16)
def _run(group: TracedGroup, channels: int, interpret: bool) -> Any:
    import jax
    import jax.numpy as jnp
    from jax.experimental import pallas as pl

    rows, columns = group.rows, group.columns
    left, right = (rows, columns), (2 * rows, 2 * columns)

    def call(x: jax.Array, y: jax.Array) -> jax.Array:
        pairs, numbers = x.shape[:2]
        sums: jax.Array = pl.pallas_call(
            functools.partial(_kernel, group, channels),
            grid=(pairs, rows * columns),
            in_specs=[
                pl.BlockSpec((1, numbers, *left), lambda pair, lag: (pair, 0, 0, 0)),
                pl.BlockSpec((1, numbers, *right), lambda pair, lag: (pair, 0, 0, 0)),
            ],
            out_specs=pl.BlockSpec((1, 1, 2), lambda pair, lag: (pair, lag, 0)),
            out_shape=jax.ShapeDtypeStruct((pairs, rows * columns, 2), jnp.dtype(x.dtype)),
            interpret=interpret,
        )(x, y)
        return sums

    return jax.jit(call)


def _kernel(group: TracedGroup, channels: int, x_ref: Any, y_ref: Any, out_ref: Any) -> None:
    """All layers of one lag of one pair."""
    import jax.numpy as jnp
    from jax.experimental import pallas as pl

    rows, columns = group.rows, group.columns
    lag = pl.program_id(1)
    down, across = lag // columns, lag % columns
    dtype = x_ref.dtype
    depth = len(group.layers)

    def x(number: int) -> Any:
        return x_ref[0, number]

    def y(number: int) -> Any:
        return y_ref[0, number, pl.ds(down, rows), pl.ds(across, columns)]

    nngp = sum(x(c) * y(c) for c in range(channels))
    ntk = jnp.zeros_like(nngp)
    signed = True
    for number, layer in enumerate(group.layers):
        conv, dual = layer.convolution, layer.dual
        circular = conv.padding == "CIRCULAR"
        band_rows = _band(rows, conv.filter[0] // 2, down, circular).astype(dtype)
        band_columns = _band(columns, conv.filter[1] // 2, across, circular).astype(dtype)
        factor = conv.w_std**2 / (conv.filter[0] * conv.filter[1])
        covariance = factor * _box(band_rows, nngp, band_columns) + conv.b_std**2
        theta = covariance + factor * _box(band_rows, ntk, band_columns)
        s, s2 = x(channels + number), y(channels + number)
        e = x(channels + depth + number) * y(channels + depth + number)
        inverse = x(channels + 2 * depth + number) * y(channels + 2 * depth + number)
        product = s * s2
        size = jnp.minimum(jnp.abs(covariance) if signed else covariance, product)
        root = jnp.sqrt(jnp.where(product > 0, (product - size) * inverse, 1))
        rho = jnp.clip(covariance * inverse, -1, 1) if signed else None
        stds = (None, None) if dual.homogeneous else (s, s2)
        degree: Degree = "single" if dtype == jnp.float32 else "double"
        result = dual.pair(Correlation(root, rho), *stds, degree=degree)
        correlation = result.correlation
        kernel = 1 - correlation.w
        signed = correlation.rho is not None
        if correlation.rho is not None:
            kernel = jnp.where(correlation.rho < 0, -kernel, kernel)
        nngp = e * kernel
        slope = e * inverse
        if result.derivative is not None:
            slope = slope * result.derivative
        ntk = slope * theta
    out_ref[0, 0, 0] = jnp.sum(nngp)
    out_ref[0, 0, 1] = jnp.sum(ntk)


def _box(band_rows: Any, plane: Any, band_columns: Any) -> Any:
    import jax.numpy as jnp

    tall = jnp.dot(band_rows, plane, precision="highest")
    return jnp.dot(tall, band_columns, precision="highest")


def _band(size: int, half: int, lag: Any, circular: bool) -> Any:
    """(size, size): which entries of a line a filter adds up, at this lag; symmetric."""
    import jax.numpy as jnp
    from jax import lax

    i = lax.broadcasted_iota(jnp.int32, (size, size), 0)
    j = lax.broadcasted_iota(jnp.int32, (size, size), 1)
    apart = jnp.abs(i - j)
    if circular:
        return jnp.minimum(apart, size - apart) <= half
    # The partner of entry i is i + lag up to the seam, i + lag - size behind it.
    return (apart <= half) & ((i + lag < size) == (j + lag < size))
