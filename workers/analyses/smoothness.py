"""Smoothness mu(f) of a kernel interpolant on the circle (after slides on Tirer et al. 2022).

mu(f) = |f_G|_H/|f|_H in (0, 1], larger is smoother: H is the RKHS of the Gaussian kernel
k(g) = exp(-(1 - cos g)/ell^2) of points on the unit circle (exp(-|x-x'|^2/(2 ell^2))), f_G the
interpolant of the data with least norm there, f the interpolant of another kernel.

|f|_H^2 = sum_k |c_k|^2/lambda_k over the Fourier coefficients of f, lambda_k =
exp(-1/ell^2) I_k(1/ell^2). Interpolants of ReLU kernels have kinks, so the whole sum is infinite:
it is cut at |k| <= k_max, on which mu depends strongly (from 10 to 16: a factor of 100). Compare
values of equal k_max and ell only. With the cut, mu may exceed 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from workers.analyses.checks import Floats, check_circle, check_positive
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.mercer import (
    AngleKernel,
    angle_kernel,
    circle_spectrum,
    sphere_spectrum,
)
from workers.kernels import KernelSpec


@dataclass(frozen=True)
class Smoothness:
    """`mu` and the two squared norms it is made of; `length_scale` in radians of small angles.

    `k_max`: largest frequency counted in `norm_squared`. `coefficients` (2 k_max + 1,) complex:
    c_k of f for k = -k_max..k_max.
    """

    mu: float
    gaussian_norm_squared: float
    norm_squared: float
    length_scale: float
    k_max: int
    coefficients: NDArray[np.complex128]


def smoothness(
    kernel: AngleKernel,
    angles: Floats,
    targets: Floats,
    *,
    length_scale: float = 0.5,
    k_max: int = 10,
    analytic: bool = True,
) -> Smoothness:
    """mu of the interpolant of `targets` (m,) at `angles` (m,) on the circle by `kernel`.

    `analytic`: the kernel is analytic in the angle on [0, pi] (every kernel of a network on the
    circle is), so its Fourier coefficients come from Gauss quadrature; else from FFT. Raises
    InvalidAnalysisError for repeated angles, where no interpolant exists.
    """
    check_positive(length_scale, "length_scale")
    points, y = check_circle(angles, targets)
    apart = np.abs(points[:, None] - points[None, :]) % (2 * math.pi)
    apart = np.minimum(apart, 2 * math.pi - apart)
    gram = np.asarray(kernel(apart.ravel()), dtype=np.float64).reshape(apart.shape)
    weights = _solve(gram, y, "kernel")
    gaussian = np.exp(-2 * np.sin(apart / 2) ** 2 / length_scale**2)
    gaussian_norm = float(y @ _solve(gaussian, y, "Gaussian kernel"))

    if analytic:
        half = sphere_spectrum(kernel, 2, k_max).values
    else:
        half = circle_spectrum(kernel, k_max).values
    frequencies = np.arange(-k_max, k_max + 1)
    eigenvalues = half[np.abs(frequencies)]
    coefficients = eigenvalues * (np.exp(-1j * np.outer(frequencies, points)) @ weights)
    gaussian_eigenvalues = special.ive(np.abs(frequencies), 1 / length_scale**2)
    if np.min(gaussian_eigenvalues) == 0:
        raise InvalidAnalysisError(
            f"The Gaussian kernel has no frequency {k_max} in float64.",
            advice="Use a smaller k_max or length_scale.",
        )
    norm = float(np.sum(np.abs(coefficients) ** 2 / gaussian_eigenvalues))
    if not norm > 0:
        raise InvalidAnalysisError(
            "The interpolant is zero below k_max, so its smoothness is undefined.",
            advice="Use targets that are not all 0.",
        )
    return Smoothness(
        mu=math.sqrt(gaussian_norm / norm),
        gaussian_norm_squared=gaussian_norm,
        norm_squared=norm,
        length_scale=float(length_scale),
        k_max=k_max,
        coefficients=coefficients,
    )


def kernel_smoothness(
    *,
    kernel: str | dict[str, Any] | KernelSpec,
    angles: Sequence[float],
    values: Sequence[float],
    output: str = "ntk",
    length_scale: float = 0.5,
    k_max: int = 10,
) -> Smoothness:
    """`smoothness` for a kernel of the language on inputs (cos, sin). Raises as it does, and
    InvalidKernelError."""
    return smoothness(
        angle_kernel(kernel, 2, output=output),
        np.asarray(angles, dtype=np.float64),
        np.asarray(values, dtype=np.float64),
        length_scale=length_scale,
        k_max=k_max,
    )


def _solve(gram: Floats, y: Floats, name: str) -> Floats:
    try:
        factor = linalg.cho_factor(gram, lower=True)
    except linalg.LinAlgError:
        raise InvalidAnalysisError(
            f"The {name} is singular on these angles, so no interpolant exists.",
            advice="Remove repeated angles, or use fewer or more distant ones.",
        ) from None
    return np.asarray(linalg.cho_solve(factor, y))
