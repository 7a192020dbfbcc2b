"""The recursion on offset planes in pure JAX: any activation, any device, differentiable.

The same planes as core.py. For CIRCULAR padding, lag (i, j) pairs x[s] with y[s + (i, j)] on the
torus of P x Q pixels. For SAME padding an image is one line of N numbers, which holds its rows with
as many zeros after each, and as many zero rows after the last, as half of the widest filter; lag d
pairs x[k] with y[k + d] on the ring of N, and the zeros keep apart what does not meet. Planes are
taken in chunks of a few lags that stay in the cache (`lax.map`), all layers of a chunk at once.

Covariances are carried; activations map normalised pairs (duals/base.py), so that per layer

    S = box(K) + b_std^2,  v = s s',  root = sqrt((v - |S|)/v),  K' = +-e e' (1 - root'^2)

with the deviations s and e = sqrt(E[phi(s z)^2]) of each pixel. S, v and K are float64 except in
`fast`; pairs are float32 in `mixed` where the activation's formulas allow it (`float32_pairs`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workers.kernels.duals.base import Correlation
from workers.kernels.planes.network import Activation, Convolution
from workers.kernels.ranges import check_covered

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax
    from numpy.typing import NDArray

    from workers.kernels.duals.base import Degree, Dual
    from workers.kernels.planes.network import Network, Precision

CHUNK_LAGS = 3
"""At most so many lags are one chunk, whose state then stays in the L2 cache at 32 x 32."""


@dataclass(frozen=True)
class TracedLayer:
    convolution: Convolution
    dual: Dual


@dataclass(frozen=True)
class TracedGroup:
    """Layers on images of one size, and the pool that follows (None: the readout)."""

    rows: int
    columns: int
    layers: tuple[TracedLayer, ...]
    window: tuple[int, int] | None

    @property
    def ring(self) -> bool:
        """Whether images are one line."""
        return self.layers[0].convolution.padding == "SAME"

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns with their zeros."""
        if not self.ring:
            return self.rows, self.columns
        halves = [[size // 2 for size in layer.convolution.filter] for layer in self.layers]
        down, across = np.max(halves, axis=0).tolist()
        return self.rows + down, self.columns + across

    @property
    def shape(self) -> tuple[int, int]:
        """(A, B) of an image: (1, N) on the ring, (P, Q) on the torus."""
        rows, columns = self.padded
        return (1, rows * columns) if self.ring else (rows, columns)

    def embed(self, images: NDArray[Any]) -> NDArray[Any]:
        """(..., P, Q) as (..., A, B)."""
        out = np.zeros((*images.shape[:-2], *self.padded), images.dtype)
        out[..., : self.rows, : self.columns] = images
        return out.reshape(*images.shape[:-2], *self.shape)

    def extract(self, planes: NDArray[Any]) -> NDArray[Any]:
        """(..., A, B) as (..., P, Q)."""
        full = planes.reshape(*planes.shape[:-2], *self.padded)
        return full[..., : self.rows, : self.columns]


class TracedSide(NamedTuple):
    """One image in one group; arrays (..., A, B) float64, or with images along a first axis."""

    channels: Any  # (C, A, B) pixels / sqrt(C); (0, A, B) behind a pool
    deviation: Any  # (layers, A, B) s, 0 where there is no pixel
    activated: Any  # (layers, A, B) e, 0 where there is no pixel
    inverse: Any  # (layers, A, B) 1/s, 0 where s is 0


@dataclass(frozen=True)
class TracedImages:
    """n images prepared for `traced_block`: NumPy arrays. Picklable."""

    sides: tuple[TracedSide, ...]
    precision: Precision

    def __len__(self) -> int:
        return len(self.sides[0].deviation)

    def __getitem__(self, images: slice) -> TracedImages:
        """A range of the images, without a copy."""
        parts = (TracedSide(*(array[images] for array in side)) for side in self.sides)
        return TracedImages(tuple(parts), self.precision)

    def one(self, image: int) -> tuple[TracedSide, ...]:
        return tuple(TracedSide(*(array[image] for array in side)) for side in self.sides)


@functools.lru_cache(maxsize=64)
def traced_groups(network: Network) -> tuple[TracedGroup, ...]:
    """The layers of a supported network between its pools; pools before the readout dropped."""
    rows, columns = network.pixels
    groups: list[TracedGroup] = []
    layers: list[TracedLayer] = []
    convolution: Convolution | None = None
    for stage in network.stages:
        if isinstance(stage, Convolution):
            convolution = stage
        elif isinstance(stage, Activation):
            assert convolution is not None
            layers.append(TracedLayer(convolution, stage.dual))
        elif layers:
            groups.append(TracedGroup(rows, columns, tuple(layers), stage.window))
            layers = []
            rows, columns = rows // stage.window[0], columns // stage.window[1]
        # else: two pools in a row
    if layers:
        groups.append(TracedGroup(rows, columns, tuple(layers), None))
    last = groups.pop()
    return (*groups, TracedGroup(last.rows, last.columns, last.layers, None))


def prepare_traced(network: Network, images: NDArray[Any], precision: Precision) -> TracedImages:
    """Images (n, P, Q, C), finite, for `traced_block`."""
    import jax

    with jax.enable_x64(True):
        pixels = np.asarray(images, np.float64).transpose(0, 3, 1, 2) / np.sqrt(images.shape[-1])
        variance = np.einsum("ncij,ncij->nij", pixels, pixels)
        sides: list[TracedSide] = []
        tensors: list[Any] = [None] * len(images)
        for number, group in enumerate(traced_groups(network)):
            deviation, activated = _deviations(group, variance)
            inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
            side = TracedSide(group.embed(pixels), deviation, activated, inverse)
            sides.append(side)
            pixels = np.zeros((len(images), 0, 1, 1))
            if group.window is None:
                break
            run = _group_function(network, number, precision)
            for image in range(len(images)):
                own = TracedSide(*(array[image] for array in side))
                tensors[image] = run(own, own, tensors[image])
            variance = np.array([np.einsum("ijij->ij", nngp) for nngp, _ in tensors])
            pixels = np.zeros((len(images), 0, *variance.shape[1:]))
    return TracedImages(tuple(sides), precision)


def traced_block(
    network: Network, left: TracedImages, right: TracedImages, pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Means (m, 2) over pixel pairs of NNGP and NTK behind the last activation.

    `pairs` (m, 2 or more): index in `left` and in `right`.
    """
    import jax

    means = np.empty((len(pairs), 2))
    with jax.enable_x64(True):
        run = _pair_function(network, left.precision)
        for m, (a, b) in enumerate(pairs[:, :2]):
            means[m] = run(left.one(a), right.one(b))
    return means


def _deviations(
    group: TracedGroup, variance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """s and e of every layer and pixel, (n, layers, A, B), from the variances at the input."""
    import jax.numpy as jnp

    found, activated = [], []
    q = variance
    for layer in group.layers:
        s = np.sqrt(np.asarray(_affine(group, layer.convolution, group.embed(q), 1.0)))
        s = group.extract(s)
        check_covered(layer.dual, s)
        e = np.asarray(layer.dual.deviation(jnp.asarray(s)))
        found.append(group.embed(s))
        activated.append(group.embed(e))
        q = e * e
    return np.stack(found, axis=1), np.stack(activated, axis=1)


def _affine(group: TracedGroup, conv: Convolution, planes: Any, bias: float) -> Any:
    """w_std^2 mean over the window + bias * b_std^2, of planes (..., A, B)."""
    import jax.numpy as jnp
    from jax import lax

    up, side = conv.filter[0] // 2, conv.filter[1] // 2
    none = [(0, 0)] * (planes.ndim - 2)
    rows, columns = group.shape
    starts = [(a, b) for a in range(2 * up + 1) for b in range(2 * side + 1)]
    if group.ring:
        line = group.padded[1]
        reach = up * line + side
        flat = lax.optimization_barrier(jnp.pad(planes, [*none, (0, 0), (reach, reach)]))
        total = sum(flat[..., a * line + b :][..., :columns] for a, b in starts)
    else:
        wrapped = jnp.pad(planes, [*none, (up, up), (side, side)], mode="wrap")
        total = sum(wrapped[..., a : a + rows, b : b + columns] for a, b in starts)
    return total * (conv.w_std**2 / (conv.filter[0] * conv.filter[1])) + bias * conv.b_std**2


def _chunks(columns: int) -> tuple[int, int]:
    """How many chunks the lags of a row are taken in, and of how many lags each."""
    count = -(-columns // CHUNK_LAGS)
    return count, -(-columns // count)


@functools.lru_cache(maxsize=64)
def _pair_function(network: Network, precision: Precision) -> Callable[..., Any]:
    import jax.numpy as jnp

    from workers.kernels.wide_jit import wide_jit

    count = len(traced_groups(network))

    def run(left: tuple[TracedSide, ...], right: tuple[TracedSide, ...]) -> jax.Array:
        tensors: Any = None
        for number in range(count):
            tensors = _run_group(network, number, precision, left[number], right[number], tensors)
        return jnp.stack(tensors)

    return wide_jit(run)


@functools.lru_cache(maxsize=64)
def _group_function(network: Network, number: int, precision: Precision) -> Callable[..., Any]:
    from workers.kernels.wide_jit import wide_jit

    return wide_jit(functools.partial(_run_group, network, number, precision))


def _run_group(
    network: Network,
    number: int,
    precision: Precision,
    left: TracedSide,
    right: TracedSide,
    source: Any,
) -> tuple[jax.Array, jax.Array]:
    """NNGP and NTK behind group `number`: pooled tensors (P, Q, P, Q), or means after the last.

    `source` holds the pooled tensors of the group before; None for the first.
    """
    import jax.numpy as jnp
    from jax import lax

    groups = traced_groups(network)
    group = groups[number]
    rows, columns = group.shape
    signed = _signed(groups, number)
    exact = precision == "mixed" and group.window is not None
    arithmetic: Precision = "double" if exact else precision
    high = jnp.float32 if _single(group, arithmetic, "fast") else jnp.float64
    chunks, lags = _chunks(columns)
    length = 2 * columns + lags
    numbers = [jnp.tile(array, (1, 2, 3))[..., :length].astype(high) for array in right]
    left = TracedSide(*(array.astype(high) for array in left))
    tensors = None if source is None else [_embed_tensor(group, x, length) for x in source]

    def chunk(position: jax.Array) -> tuple[jax.Array, jax.Array]:
        down, across = position // chunks, position % chunks * lags

        def shifted(doubled: jax.Array) -> jax.Array:  # (m, 2A, 2B) -> (m, lags, A, B)
            size = (doubled.shape[0], rows, columns)
            starts = [(0, down, across + lag) for lag in range(lags)]
            return jnp.stack([lax.dynamic_slice(doubled, s, size) for s in starts], axis=1)

        channels, *numbered = (shifted(array) for array in numbers)
        if tensors is None:
            nngp = sum(x * y for x, y in zip(left.channels, channels, strict=True))
            ntk = jnp.zeros_like(nngp)
        else:
            nngp, ntk = (_planes(tensor, down, across, lags).astype(high) for tensor in tensors)
        side = TracedSide(channels, *numbered)
        nngp, ntk = _layers(group, arithmetic, left, side, nngp, ntk, signed)
        if group.window is not None:
            return nngp, ntk
        used = (across + jnp.arange(lags) < columns)[:, None, None]
        totals = (jnp.where(used, plane, 0).astype(jnp.float64).sum() for plane in (nngp, ntk))
        return next(totals), next(totals)

    nngp, ntk = lax.map(chunk, jnp.arange(rows * chunks))
    if group.window is None:
        scale = 1.0 / (group.rows * group.columns) ** 2
        return nngp.sum() * scale, ntk.sum() * scale
    return _pooled(group, nngp), _pooled(group, ntk)


def _single(group: TracedGroup, precision: Precision, *single: str) -> bool:
    """Whether float32 is asked for, and loses nothing in the formulas of the activations."""
    return precision in single and all(layer.dual.float32_pairs for layer in group.layers)


def _signed(groups: tuple[TracedGroup, ...], number: int) -> bool:
    """Whether covariances may be negative at the input of a group: its activations know."""
    import jax
    import jax.numpy as jnp

    signed = True
    for group in groups[:number]:
        for layer in group.layers:
            pair = Correlation(jnp.zeros((1, 1)), jnp.zeros((1, 1)) if signed else None)
            one = None if layer.dual.homogeneous else jnp.ones((1, 1))
            call = functools.partial(layer.dual.pair, degree="double")
            signed = jax.eval_shape(call, pair, one, one).correlation.rho is not None
    return signed


def _layers(
    group: TracedGroup,
    precision: Precision,
    left: TracedSide,
    right: TracedSide,
    nngp: jax.Array,
    ntk: jax.Array,
    signed: bool,
) -> tuple[jax.Array, jax.Array]:
    """All layers on planes (lags, A, B)."""
    import jax.numpy as jnp
    from jax import lax

    low = jnp.float32 if _single(group, precision, "fast", "mixed") else jnp.float64
    degree: Degree = "single" if low == jnp.float32 else "double"
    ntk = ntk.astype(low)
    for number, layer in enumerate(group.layers):
        dual = layer.dual
        covariance = lax.optimization_barrier(_affine(group, layer.convolution, nngp, 1.0))
        theta = covariance.astype(low) + _affine(group, layer.convolution, ntk, 0.0)
        s, s2 = left.deviation[number], right.deviation[number]
        product = s * s2
        inside = product > 0
        inverse = left.inverse[number] * right.inverse[number]
        size = jnp.minimum(jnp.abs(covariance) if signed else covariance, product)
        gap = ((product - size) * inverse).astype(low)
        root = lax.optimization_barrier(jnp.sqrt(jnp.where(inside, gap, 1)))
        rho = None
        if signed:
            rho = jnp.clip(covariance * inverse, -1, 1).astype(low)
        stds = (None, None) if dual.homogeneous else (s.astype(low)[None], s2.astype(low))
        result = dual.pair(Correlation(root, rho), *stds, degree=degree)
        e = left.activated[number] * right.activated[number]
        correlation = result.correlation
        kernel = 1 - correlation.w.astype(nngp.dtype)
        signed = correlation.rho is not None
        if correlation.rho is not None:
            kernel = jnp.where(correlation.rho < 0, -kernel, kernel)
        nngp = e * kernel
        slope = (e * inverse).astype(low)
        if result.derivative is not None:
            slope = slope * result.derivative
        ntk = jnp.where(inside, slope * theta, 0)
    return nngp, ntk


def _pooled(group: TracedGroup, planes: jax.Array) -> jax.Array:
    """Planes of all lags (rows * chunks, lags, A, B) as the tensor behind the pool."""
    assert group.window is not None
    rows, columns = group.shape
    line = group.padded[1]
    i, j, k, m = np.meshgrid(
        *(np.arange(size) for size in (group.rows, group.columns) * 2), indexing="ij"
    )
    here = i * line + j
    if group.ring:
        lag = (k * line + m - here) % columns
    else:
        lag = (k - i) % rows * columns + (m - j) % columns
    every = planes.reshape(rows, -1, rows * columns)[:, :columns].reshape(rows * columns, -1)
    tensor = every[lag, here]
    p, q = group.window
    shape = (group.rows // p, p, group.columns // q, q)
    return tensor.reshape(shape * 2).mean(axis=(1, 3, 5, 7))


def _embed_tensor(group: TracedGroup, tensor: jax.Array, length: int) -> jax.Array:
    """(P, Q, P, Q) as (A, B, 2A, length): the second image repeated in both directions."""
    import jax.numpy as jnp

    down, across = (a - b for a, b in zip(group.padded, (group.rows, group.columns), strict=True))
    full = jnp.pad(tensor, [(0, down), (0, across)] * 2).reshape(group.shape * 2)
    return jnp.tile(full, (1, 1, 2, 3))[..., :length]


def _planes(tensor: jax.Array, down: jax.Array, across: jax.Array, lags: int) -> jax.Array:
    """Planes (lags, A, B) of rows `down` and columns `across`, across + 1, ..."""
    import jax.numpy as jnp

    rows, columns = tensor.shape[:2]
    i = jnp.arange(rows)[None, :, None]
    j = jnp.arange(columns)[None, None, :]
    lag = jnp.arange(lags)[:, None, None]
    return tensor[i, j, i + down, j + across + lag]
