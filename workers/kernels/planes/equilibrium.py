"""Convolutional equilibrium networks: images prepared once, and blocks of their kernel.

The kernel is a function of w_var, u_var, the filter and the pixels: see fixed_point.py, which runs
the planes. The variance of each pixel, S(x, x) at offset 0, is a linear function of the squared
pixel norms, since E(q, q, q) = q: one factorisation per image size serves all images.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.kernels.duals.arc_cosine import P_DOUBLE, R_DOUBLE
from workers.kernels.errors import NoFixedPointError
from workers.kernels.planes.geometry import ALIGNMENT_BYTES, aligned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.kernels.planes.fixed_point import Numbers, Weights
    from workers.kernels.planes.linear_system import Work
    from workers.kernels.planes.network import EquilibriumNetwork, Precision

TOLERANCE: dict[Precision, float] = {"mixed": 3e-8, "fast": 1e-6, "double": 1e-13}
"""Of the fixed point, root mean square of sqrt(1 - rho) over a plane, and of the NTK's residual
relative to the right-hand side; times 1 - w_var, the largest factor from residual to error."""

ROUNDING_PER_PIXEL = 2.5e-16
"""Changes of the correlation by this times the sides of the filter are rounding, not motion."""

FORCING = 0.03
"""Residual to which a Newton step is solved, relative to that before it."""

MAX_NEWTON_STEPS = 200
"""Convergence is monotone and takes 4 to 9 steps for w_var up to 0.99."""

MAX_CG_STEPS = 20_000
"""Conjugate gradient steps per system; the condition number is below 2/(1 - w_var)."""

REPORT = ("newton_steps", "cg_steps", "distance", "failures", "all_newton_steps", "all_cg_steps")
"""What the core counts: the largest numbers of steps on one plane, how far the fixed point still
moves, whether a plane did not converge (the core stops there), and all steps."""


@dataclass(frozen=True)
class EquilibriumImages:
    """Prepared images in the layout of planes; picklable."""

    channels: NDArray[np.float64]  # (n, C, N), scaled to a largest pixel norm of 1
    deviation: NDArray[np.float64]  # (n, N)
    inverse: NDArray[np.float64]  # (n, N)
    scale: NDArray[np.float64]  # (n,) what they were divided by

    def __len__(self) -> int:
        return len(self.scale)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.channels, self.deviation, self.inverse, self.scale))


@dataclass(frozen=True)
class Plan:
    """What depends on the network alone. Images are rows of `stride` numbers, of which the last
    are zero; a plane has `guard` zeros before and after it."""

    rows: int
    columns: int
    stride: int
    guard: int
    half: tuple[int, int]
    weights: Weights
    lags: NDArray[np.int64]
    half_lags: NDArray[np.int64]

    def spread(self, images: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images (..., P, Q) as (..., N), zeros in the zero columns."""
        out = np.zeros((*images.shape[:-2], self.rows, self.stride))
        out[..., : self.columns] = images
        return out.reshape(*images.shape[:-2], -1)


def window_counts(pixels: tuple[int, int], window: tuple[int, int]) -> NDArray[np.float64]:
    """[S]^2: how many pixels of the window around each pixel are in the image, (P, Q)."""
    counts = [
        np.minimum(np.arange(size) + side // 2, size - 1)
        - np.maximum(np.arange(size) - side // 2, 0)
        + 1.0
        for size, side in zip(pixels, window, strict=True)
    ]
    return np.outer(*counts)


@functools.lru_cache(maxsize=16)
def make_plan(network: EquilibriumNetwork) -> Plan:
    """Layout and weights. `post` divides by S after the convolution, `pre` before it."""
    from workers.kernels.planes.fixed_point import Weights

    rows, columns = network.pixels
    half = (network.filter[0] // 2, network.filter[1] // 2)
    stride = columns + half[1]
    lanes = ALIGNMENT_BYTES // 8
    guard = -(-(half[0] * stride + 2 * half[1]) // lanes) * lanes
    gap = network.readout == "gap"
    plan = Plan(
        rows,
        columns,
        stride,
        guard,
        half,
        Weights(*[np.zeros(0)] * 3),
        lags(rows, columns, stride, gap=gap, half=False),
        lags(rows, columns, stride, gap=gap, half=True),
    )
    root = np.sqrt(window_counts(network.pixels, network.filter))
    ones = plan.spread(np.ones(network.pixels))
    divided, undone = plan.spread(1 / root), plan.spread(root)
    weights = (
        Weights(ones, divided, undone)
        if network.normalization == "post"
        else Weights(divided, ones, ones)
    )
    return replace(plan, weights=weights)


def lags(rows: int, columns: int, stride: int, *, gap: bool, half: bool) -> NDArray[np.int64]:
    """(count, 2): flat lags, longest first, and how many planes each stands for.

    `gap`: all of them, else lag 0. `half`: one of each pair of opposite lags, for an image with
    itself.
    """
    if not gap:
        return np.array([(0, 1)], np.int64)
    i = np.arange(1 - rows, rows)
    every = np.unique(i[:, None] * stride + np.arange(1 - columns, columns))
    if half:
        every = every[every >= 0]
    every = every[np.argsort(-np.abs(every), kind="stable")]
    return np.stack([every, np.where(half & (every > 0), 2, 1)], axis=1)


def prepare_equilibrium(network: EquilibriumNetwork, images: NDArray[Any]) -> EquilibriumImages:
    """Images (n, P, Q, C), finite, as `equilibrium_block` takes them."""
    plan = make_plan(network)
    pixels = np.asarray(images, np.float64).transpose(0, 3, 1, 2)
    # The kernel is homogeneous in each image, so that any size of its pixels will do.
    largest = np.max(np.abs(pixels), axis=(1, 2, 3))
    scale = np.where(largest > 0, largest, 1.0) * math.sqrt(pixels.shape[1])
    pixels = pixels / scale[:, None, None, None]
    variance = _variances(network, np.einsum("ncij,ncij->nij", pixels, pixels))
    deviation = plan.spread(np.sqrt(variance))
    inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    return EquilibriumImages(plan.spread(pixels), deviation, inverse, scale)


def _variances(network: EquilibriumNetwork, squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """q = A(w_var q + u_var |x|^2), (n, P, Q), of squared pixel norms (n, P, Q)."""
    spread, factors = _variance_system(network)
    flat = squares.reshape(len(squares), -1)
    source = network.u_var * (spread @ flat.T)
    q: NDArray[np.float64] = factors.solve(np.ascontiguousarray(source))
    return np.maximum(q, 0).T.reshape(squares.shape)


@functools.lru_cache(maxsize=8)
def _variance_system(network: EquilibriumNetwork) -> tuple[Any, Any]:
    """A on the variances, sparse (PQ, PQ), and the factors of 1 - w_var A."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    near = [
        np.abs(np.subtract.outer(np.arange(size), np.arange(size))) <= side // 2
        for size, side in zip(network.pixels, network.filter, strict=True)
    ]
    boxes = [sparse.csr_array(band.astype(np.float64)) for band in near]
    box = sparse.kron(*boxes, format="csr")
    shares = sparse.diags_array(1 / window_counts(network.pixels, network.filter).ravel())
    spread = shares @ box if network.normalization == "post" else box @ shares
    identity = sparse.eye_array(spread.shape[0])
    return spread, splu((identity - network.w_var * spread).tocsc())


def equilibrium_pairs(
    network: EquilibriumNetwork,
    left: EquilibriumImages,
    right: EquilibriumImages,
    pairs: NDArray[np.int64],
    precision: Precision,
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """NNGP and NTK (m, 2) of pairs (m, 3), and what the iterations took (see REPORT).

    Raises NoFixedPointError where they did not converge.
    """
    from workers.kernels.planes.fixed_point import Images, run_pairs

    plan = make_plan(network)
    out, report = np.zeros((len(pairs), 2)), np.zeros(len(REPORT))
    x, y = (
        Images(s.channels.reshape(-1), s.deviation.reshape(-1), s.inverse.reshape(-1))
        for s in (left, right)
    )
    run_pairs(
        plan.rows * plan.stride,
        plan.stride,
        plan.guard,
        plan.half,
        _numbers(network, precision),
        x,
        y,
        plan.weights,
        np.array(P_DOUBLE) / math.pi,
        np.array(R_DOUBLE),
        pairs,
        plan.lags,
        plan.half_lags,
        _work(plan),
        out,
        report,
    )
    steps = dict(zip(REPORT, report.tolist(), strict=True))
    if steps["failures"] or not np.isfinite(out).all():
        raise NoFixedPointError(
            f"This equilibrium network has not converged after {steps['newton_steps']:.0f} Newton "
            f"and {steps['cg_steps']:.0f} conjugate gradient steps (sqrt(1 - rho) still moves by "
            f"{steps['distance']:.2g}).",
            advice="Use a smaller w_var.",
            **steps,
        )
    count = network.pixels[0] * network.pixels[1]
    unit = 1.0 if network.readout == "trace" else count**-2.0
    unit = unit * left.scale[pairs[:, 0]] * right.scale[pairs[:, 1]]
    return out * unit[:, None], steps


def _numbers(network: EquilibriumNetwork, precision: Precision) -> Numbers:
    from workers.kernels.planes.fixed_point import Numbers

    tolerance = TOLERANCE[precision] * (1 - network.w_var)
    return Numbers(
        network.w_var,
        network.u_var,
        tolerance,
        ROUNDING_PER_PIXEL * (4 + sum(network.filter)),
        FORCING,
        tolerance,
        MAX_NEWTON_STEPS,
        MAX_CG_STEPS,
    )


def _work(plan: Plan) -> Work:
    from workers.kernels.planes.linear_system import Work

    size = plan.rows * plan.stride + 2 * plan.guard
    return Work(*(aligned(size, np.dtype(np.float64)) for _ in Work._fields))
