"""Kernels of very deep fully connected and residual networks on a few inputs, in float64.

The recursions of workers/kernels, run for any number of layers in the root of 1 - |rho|: at
depth 10^6 on the edge of chaos 1 - rho is 1e-11, which a recursion in rho would have lost.
Depth L counts affine layers (Hayou et al.): L = 1 is a linear model, L - 1 hidden layers.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from workers.analyses.errors import InvalidAnalysisError
from workers.mean_field.layers import ResidualState, dense_layers, one_minus, residual_layers
from workers.mean_field.moments import Moments

Floats = NDArray[np.float64]

Architecture = Literal["dense", "residual"]

MAX_ROWS = 256
"""Most inputs of a deep recursion: each recorded depth holds rows^2 numbers."""


@dataclass(frozen=True)
class DeepKernels:
    """Kernels at the recorded depths: `nngp`, `ntk` (depths, m, m); `distance` 1 - c, likewise.

    For residual networks both kernels are divided by `growth`^(L - 1); growth is 1 otherwise.
    """

    depths: NDArray[np.int64]
    nngp: Floats
    ntk: Floats
    distance: Floats
    first_variance: Floats  # (m,), of the first affine layer
    growth: float


def check_rows(x: Floats) -> Floats:
    """`x` (m, d) as float64. Raises InvalidAnalysisError unless 2 <= m <= MAX_ROWS, all entries
    are finite, no row is 0, and no two rows are equal."""
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or not 2 <= rows.shape[0] <= MAX_ROWS or rows.shape[1] < 1:
        raise InvalidAnalysisError(
            f"Inputs of shape {rows.shape} are not between 2 and {MAX_ROWS} rows.",
            advice="A handful of rows shows the limit of all pairs.",
        )
    if not np.all(np.isfinite(rows)) or not np.all(np.any(rows != 0, axis=1)):
        raise InvalidAnalysisError(
            "Inputs must be finite and no row may be 0.", advice="Remove such rows."
        )
    if len(np.unique(rows, axis=0)) < len(rows):
        raise InvalidAnalysisError(
            "Two input rows are equal, so they have no distance to follow.",
            advice="Remove repeated rows; the diagonal is reported anyway.",
        )
    return rows


def check_architecture(architecture: Architecture, b_std: float) -> None:
    """Raise InvalidAnalysisError for a residual network with bias."""
    if architecture == "residual" and b_std != 0:
        raise InvalidAnalysisError(
            "The depth limit of residual networks is known without bias only.",
            advice="Set b_std to 0.",
        )


def check_depths(depths: NDArray[np.int64] | list[int]) -> NDArray[np.int64]:
    """Depths as a rising int64 array. Raises InvalidAnalysisError unless rising and >= 1."""
    values = np.asarray(depths)
    whole = values.ndim == 1 and values.size > 0 and np.issubdtype(values.dtype, np.integer)
    if not whole or values[0] < 1 or np.any(np.diff(values) <= 0):
        raise InvalidAnalysisError(
            "Depths must be a rising list of whole numbers, 1 or more.",
            advice="For example [10, 30, 100, 300, 1000].",
        )
    return values.astype(np.int64)


def deep_kernels(
    phi: Moments, x: Floats, depths: NDArray[np.int64], *, w_std: float, b_std: float
) -> DeepKernels:
    """NNGP and NTK of the fully connected network at each depth for rows `x` (m, d).

    Raises InvalidAnalysisError where values exceed float64.
    """
    import jax

    rows = check_rows(x)
    layers = dense_layers(cast("Hashable", phi.dual), biased=b_std != 0)
    with jax.enable_x64(True):
        lengths, root, rho = _input_correlation(rows / np.sqrt(rows.shape[1]))
        state = layers.first(lengths, root, rho, w_std, b_std)
        first = np.asarray(state.deviation) ** 2
        nngp, ntk, distance = [], [], []
        for count in np.diff(depths, prepend=1):
            state = layers.advance(int(count), state, w_std, b_std)
            scale = np.outer(state.deviation, state.deviation)
            nngp.append(np.asarray(state.rho) * scale)
            ntk.append(np.asarray(state.ntk) * scale)
            distance.append(np.asarray(one_minus(state.root, state.rho)))
    return _checked(depths, nngp, ntk, distance, first, 1.0)


def deep_residual_kernels(
    phi: Moments, x: Floats, depths: NDArray[np.int64], *, w_std: float
) -> DeepKernels:
    """The same for y^l = y^(l-1) + (w_std/sqrt(n)) W phi(y^(l-1)), without bias (Hayou et al.
    2019, proposition 3, with the increment w_std^2 E instead of its misprint).

    phi must be homogeneous: then both kernels grow as A^(L-1), A = 1 + w_std^2 E[phi(z)^2], by
    which they are divided. Raises InvalidAnalysisError for other activations.
    """
    import jax

    growth = residual_growth(phi, w_std)
    rows = check_rows(x)
    advance = residual_layers(cast("Hashable", phi.dual))
    with jax.enable_x64(True):
        lengths, root, rho = _input_correlation(rows / np.sqrt(rows.shape[1]))
        first = (w_std * lengths) ** 2
        scale = np.sqrt(np.outer(first, first))
        state = ResidualState(*(jax.numpy.asarray(a) for a in (root, rho, rho)))
        nngp, ntk, distance = [], [], []
        for count in np.diff(depths, prepend=1):
            state = advance(int(count), state, growth)
            nngp.append(np.asarray(state.rho) * scale)
            ntk.append(np.asarray(state.ntk) * scale)
            distance.append(np.asarray(one_minus(state.root, state.rho)))
    return _checked(depths, nngp, ntk, distance, first, growth)


def residual_growth(phi: Moments, w_std: float) -> float:
    """A = 1 + w_std^2 E[phi(z)^2]: what one residual layer multiplies variances by."""
    if not phi.homogeneous:
        raise InvalidAnalysisError(
            f"The depth limit of residual networks is known for homogeneous activations, and "
            f"{phi.name} is not.",
            advice="Use relu, leaky_relu, relu_like, or abs.",
        )
    return 1 + w_std**2 * float(phi.second(np.ones(1))[0])


def _input_correlation(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Lengths (m,), and sqrt(1 - |rho|) and rho (m, m) from differences of unit rows, not from
    their products: relative accuracy at small angles."""
    lengths = np.linalg.norm(x, axis=1)
    unit = x / lengths[:, None]
    below = 0.5 * np.sum((unit[:, None, :] - unit[None, :, :]) ** 2, axis=2)
    above = 0.5 * np.sum((unit[:, None, :] + unit[None, :, :]) ** 2, axis=2)
    near = below <= above
    w = np.minimum(np.where(near, below, above), 1.0)
    rho = np.where(near, 1 - w, w - 1)
    return lengths, np.sqrt(w), rho


def _checked(
    depths: NDArray[np.int64],
    nngp: list[Floats],
    ntk: list[Floats],
    distance: list[Floats],
    first: Floats,
    growth: float,
) -> DeepKernels:
    kept = np.stack(nngp), np.stack(ntk), np.stack(distance)
    finite = np.all([np.all(np.isfinite(values), axis=(1, 2)) for values in kept], axis=0)
    if not np.all(finite):
        depth = int(depths[np.argmin(finite)])
        raise InvalidAnalysisError(
            f"The kernels exceed float64 at depth {depth}.",
            advice="Ask for smaller depths, or for (w_std, b_std) nearer to the edge of chaos.",
            depth=depth,
        )
    return DeepKernels(depths, *kept, first, growth)
