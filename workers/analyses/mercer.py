"""Mercer eigenvalues of zonal kernels: functions of the angle between points of a sphere.

With respect to the uniform *probability* measure on S^(p-1), the eigenfunctions of a zonal
kernel are the spherical harmonics. Degree k has one eigenvalue of multiplicity
N(p, k) = (2k + p - 2)/k binom(k + p - 3, k - 1), and the Gram matrix of m independent points has
eigenvalues near m lambda_k (Golikov et al. 2022, eqs. 110-112, where N is called a polynomial
and the factor m is squared).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from workers.analyses.checks import Floats
from workers.analyses.errors import InvalidAnalysisError
from workers.kernels import KernelSpec, compile_kernel

AngleKernel = Callable[[Floats], Floats]
"""A kernel as a function of the angle in radians: (n,) in [0, pi] (circle: [0, 2 pi)) to (n,)."""

MAX_DEGREE = 100_000
"""Largest degree: the quadrature has more nodes than that."""

_PANEL_NODES = 32
"""Gauss-Legendre nodes per panel: short rules have weights exact to rounding, rules of 1000
nodes only to 1e-13, which would drown the eigenvalues of high degree."""

_SMALLEST_PANELS = 16
_DEGREES_PER_PANEL = 8
"""With these, half as many panels still integrate P_k to rounding."""


@dataclass(frozen=True)
class MercerSpectrum:
    """`values` (k_max + 1,): eigenvalue of each degree, with `multiplicities` (k_max + 1,).

    `dimension` p: of the space around the sphere S^(p-1). `error`: absolute, the largest change
    of an eigenvalue when the number of nodes is doubled, at least eps times the largest
    eigenvalue; eigenvalues below it are noise.
    """

    dimension: int
    values: Floats
    multiplicities: NDArray[np.int64]
    error: float

    def gram_eigenvalues(self, m: int) -> Floats:
        """The m largest of m lambda_k with multiplicity, descending, fewer if the degrees do not
        suffice: what the Gram matrix of m independent uniform points has approximately."""
        counts = np.minimum(self.multiplicities, m)
        return np.asarray(m * np.sort(np.repeat(self.values, counts))[::-1][:m])

    def decay(self, first: int, last: int | None = None) -> float:
        """-d ln lambda_k / d ln k fitted by least squares over degrees first..last (inclusive)
        whose eigenvalues are above `error`. ReLU NTKs: p (Bietti & Mairal 2019)."""
        degrees = np.arange(len(self.values))
        chosen = (degrees >= max(first, 1)) & (self.values > self.error)
        if last is not None:
            chosen &= degrees <= last
        if np.count_nonzero(chosen) < 2:
            raise InvalidAnalysisError(
                "Fewer than two eigenvalues in that range are above the error.",
                advice="Widen the range of degrees.",
            )
        return -float(np.polyfit(np.log(degrees[chosen]), np.log(self.values[chosen]), 1)[0])


def circle_spectrum(
    kernel: AngleKernel, k_max: int, *, points: int | None = None
) -> MercerSpectrum:
    """K(t) = lambda_0 + 2 sum lambda_k cos kt for a kernel of the circle (p = 2), by FFT.

    For any even 2 pi-periodic kernel, kinks included: `points` equally spaced angles (default
    64 (k_max + 1), at least 4096). Frequencies above points/2 fold back: the error is about
    lambda_(points - k), 1e-8 for ReLU NTKs by default. `sphere_spectrum` with dimension 2 is
    exact to rounding for kernels analytic in the angle on [0, pi]. Raises InvalidAnalysisError.
    """
    _check_degree(k_max)
    count = points if points is not None else max(64 * (k_max + 1), 4096)
    if count < 4 * (k_max + 1) or count % 2:
        raise InvalidAnalysisError(
            f"{count} points do not resolve {k_max} frequencies.",
            advice="Use an even number of points, at least 4 (k_max + 1).",
        )
    values = _evaluate(kernel, 2 * math.pi * np.arange(count) / count)
    fine = np.fft.rfft(values).real[: k_max + 1] / count
    coarse = np.fft.rfft(values[::2]).real[: k_max + 1] / (count // 2)
    return MercerSpectrum(2, fine, multiplicities(2, k_max), _error(fine, coarse))


def sphere_spectrum(
    kernel: AngleKernel, dimension: int, k_max: int, *, panels: int | None = None
) -> MercerSpectrum:
    """Eigenvalues on S^(p-1), p = `dimension` >= 2, by Gauss-Legendre quadrature in the angle.

    lambda_k = (|S^(p-2)|/|S^(p-1)|) integral_0^pi K(t) P_k(cos t) sin^(p-2) t dt with Gegenbauer
    polynomials P_k, P_k(1) = 1. In the angle, unlike in its cosine, kernels of ReLU networks are
    analytic on [0, pi], so convergence is geometric: 1e-16 of lambda_0. `panels` of 32 nodes
    (default max(16, k_max/8)) and half as many give the error. Raises InvalidAnalysisError.
    """
    _check_degree(k_max)
    if dimension < 2:
        raise InvalidAnalysisError(
            f"There is no sphere in {dimension} dimensions to take a spectrum on.",
            advice="The dimension is that of the inputs, 2 or more.",
        )
    default = max(_SMALLEST_PANELS, -(-k_max // _DEGREES_PER_PANEL))
    count = panels if panels is not None else default
    if count < 2 or count * _PANEL_NODES < 2 * (k_max + 1):
        raise InvalidAnalysisError(
            f"{count} panels of {_PANEL_NODES} nodes do not resolve degree {k_max}.",
            advice=f"Use at least {default} panels.",
        )
    rules = [_rule(count), _rule(count // 2)]
    # One evaluation: kernels of the language are compiled anew for every number of rows.
    values = _evaluate(kernel, np.concatenate([angles for angles, _ in rules]))
    fine, coarse = (
        _project(part, *rule, dimension, k_max)
        for part, rule in zip(np.split(values, [count * _PANEL_NODES]), rules, strict=True)
    )
    return MercerSpectrum(dimension, fine, multiplicities(dimension, k_max), _error(fine, coarse))


def multiplicities(dimension: int, k_max: int) -> NDArray[np.int64]:
    """N(p, k) for k = 0..k_max, (k_max + 1,): dimension of the harmonics of degree k. Values
    beyond int64 are given as its maximum."""
    counts = [1]
    for k in range(1, k_max + 1):
        counts.append((2 * k + dimension - 2) * math.comb(k + dimension - 3, k - 1) // k)
    top = np.iinfo(np.int64).max
    return np.array([min(count, top) for count in counts], dtype=np.int64)


def angle_kernel(
    kernel: str | dict[str, Any] | KernelSpec, dimension: int, *, output: str = "ntk"
) -> AngleKernel:
    """A kernel of the language, on unit inputs of `dimension` numbers, as a function of the angle.

    Evaluated in float64 between (1, 0, ...) and (cos t, sin t, 0, ...): the angle is exact to
    1e-16 near 0 and pi as well. Raises InvalidKernelError, and InvalidAnalysisError for a
    dimension below 2.
    """
    if dimension < 2:
        raise InvalidAnalysisError(
            "An angle needs inputs of two numbers or more.", advice="Raise the dimension."
        )
    compiled = compile_kernel(kernel)

    def evaluate(angles: Floats) -> Floats:
        points = np.zeros((len(angles), dimension))
        points[:, 0], points[:, 1] = np.cos(angles), np.sin(angles)
        pole = np.zeros((1, dimension))
        pole[0, 0] = 1.0
        return np.asarray(compiled(points, pole)[output][:, 0], dtype=np.float64)

    return evaluate


def kernel_spectrum(
    *,
    kernel: str | dict[str, Any] | KernelSpec,
    dimension: int,
    k_max: int,
    output: str = "ntk",
) -> MercerSpectrum:
    """`sphere_spectrum` of a kernel of the language on unit inputs. Raises as it does, and
    InvalidKernelError."""
    return sphere_spectrum(angle_kernel(kernel, dimension, output=output), dimension, k_max)


def _error(fine: Floats, coarse: Floats) -> float:
    """The change from coarse to fine, at least the rounding of the largest eigenvalue."""
    rounding = float(np.finfo(np.float64).eps * np.max(np.abs(fine)))
    return max(float(np.max(np.abs(fine - coarse))), rounding)


def _rule(panels: int) -> tuple[Floats, Floats]:
    """Angles in (0, pi) and weights, (panels * _PANEL_NODES,) each."""
    nodes, weights = special.roots_legendre(_PANEL_NODES)
    half_width = 0.5 * math.pi / panels
    middles = half_width * (1 + 2 * np.arange(panels))
    return (middles[:, None] + half_width * nodes).ravel(), np.tile(half_width * weights, panels)


def _project(
    kernel_values: Floats, angles: Floats, weights: Floats, dimension: int, k_max: int
) -> Floats:
    """lambda_0..lambda_k_max from the kernel's values at the angles of a rule."""
    # |S^(p-2)|/|S^(p-1)| = Gamma(p/2)/(sqrt(pi) Gamma((p-1)/2)).
    log_ratio = special.gammaln(dimension / 2) - special.gammaln((dimension - 1) / 2)
    measure = weights * np.sin(angles) ** (dimension - 2)
    weighted = math.exp(log_ratio) / math.sqrt(math.pi) * measure * kernel_values
    values = np.empty(k_max + 1)
    if dimension == 2:  # P_k(cos t) = cos kt, where the recurrence would lose k^2 roundings
        for k in range(k_max + 1):
            values[k] = weighted @ np.cos(k * angles)
        return values
    t = np.cos(angles)
    before, current = np.ones_like(t), t
    values[0] = np.sum(weighted)
    for k in range(1, k_max + 1):
        values[k] = weighted @ current
        following = ((2 * k + dimension - 2) * t * current - k * before) / (k + dimension - 2)
        before, current = current, following
    return values


def _evaluate(kernel: AngleKernel, angles: Floats) -> Floats:
    values = np.asarray(kernel(angles), dtype=np.float64)
    if values.shape != angles.shape or not np.all(np.isfinite(values)):
        raise InvalidAnalysisError(
            f"The kernel gave shape {values.shape} for {angles.shape} angles, or values that are "
            "not finite.",
            advice="It must map angles (n,) to finite values (n,).",
        )
    return values


def _check_degree(k_max: int) -> None:
    if not 0 <= k_max <= MAX_DEGREE:
        raise InvalidAnalysisError(
            f"The largest degree {k_max} is not between 0 and {MAX_DEGREE}.",
            advice="Ask for fewer eigenvalues.",
        )
