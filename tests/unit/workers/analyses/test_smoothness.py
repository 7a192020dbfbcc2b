"""mu(f) of interpolants on the circle against the reference, plain and residual networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from support.oracle import oracle
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.mercer import AngleKernel
from workers.analyses.smoothness import smoothness

REFERENCE = oracle("smoothness")
ANGLES, TARGETS = REFERENCE["gam"], REFERENCE["y"]


def arc_cosine(variance: float, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[phi phi] and E[phi' phi'] of ReLU."""
    theta = np.arccos(np.clip(c, -1, 1))
    return (
        variance * (np.sin(theta) + (math.pi - theta) * c) / (2 * math.pi),
        (math.pi - theta) / (2 * math.pi),
    )


def plain(hidden: int) -> AngleKernel:
    """NTK of `hidden` ReLU layers, w_std 1, no bias, inputs (cos, sin)."""

    def evaluate(angle: np.ndarray) -> np.ndarray:
        variance, nngp = 0.5, 0.5 * np.cos(angle)
        ntk = nngp
        for _ in range(hidden):
            nngp, slope = arc_cosine(variance, nngp / variance)
            variance /= 2
            ntk = nngp + slope * ntk
        return ntk

    return evaluate


def residual(blocks: int, alpha: float) -> AngleKernel:
    """NTK of the ResNet x + alpha/sqrt(n) V relu(W x) with all deviations 1 (Tirer et al.)."""

    def evaluate(angle: np.ndarray) -> np.ndarray:
        variance, c = 0.5, 0.5 * np.cos(angle)
        ntk = c
        for _ in range(blocks):
            e, slope = arc_cosine(variance, c / variance)
            ntk = ntk * (1 + alpha**2 * slope) + alpha**2 * (e + slope * c)
            c = c + alpha**2 * e
            variance *= 1 + alpha**2 / 2
        return c + ntk

    return evaluate


KERNELS = {
    **{f"mu|mlp|L={n}": plain(n) for n in (5, 15)},
    **{f"mu|res|L={n}|alpha={a}": residual(n, a) for n in (5, 15) for a in (0.1, 0.5, 1.0)},
}


@pytest.mark.parametrize("key", KERNELS)
def test_reference(key: str) -> None:
    result = smoothness(
        KERNELS[key],
        ANGLES,
        TARGETS,
        length_scale=float(REFERENCE["ell"]),
        k_max=int(REFERENCE["kmax"]),
    )
    # The reference takes coefficients from 4096 samples, which aliases: 1e-6 of mu.
    assert result.mu == pytest.approx(float(REFERENCE[key]), rel=5e-6)
    assert result.gaussian_norm_squared == pytest.approx(float(REFERENCE["fG_norm2"]), rel=1e-12)


def test_every_key_of_the_reference_is_tested() -> None:
    assert {key for key in REFERENCE if key.startswith("mu|")} == set(KERNELS)


def test_the_gaussian_kernel_itself_is_the_smoothest() -> None:
    """f = f_G: mu is 1 once k_max covers its spectrum, and above 1 when it cuts it."""
    gaussian: AngleKernel = lambda t: np.exp(-(1 - np.cos(t)) / 0.25)  # noqa: E731
    full = smoothness(gaussian, ANGLES, TARGETS, length_scale=0.5, k_max=14)
    assert full.mu == pytest.approx(1, rel=1e-4)
    assert smoothness(gaussian, ANGLES, TARGETS, length_scale=0.5, k_max=2).mu > 1


def test_coefficients_are_those_of_the_interpolant() -> None:
    kernel = plain(2)
    result = smoothness(kernel, ANGLES, TARGETS, k_max=6)
    grid = 2 * math.pi * np.arange(4096) / 4096
    apart = np.abs(grid[:, None] - ANGLES) % (2 * math.pi)
    apart = np.minimum(apart, 2 * math.pi - apart)
    between = np.abs(ANGLES[:, None] - ANGLES)
    between = np.minimum(between, 2 * math.pi - between)
    f = kernel(apart) @ np.linalg.solve(kernel(between), TARGETS)
    expected = np.fft.fft(f)[np.arange(-6, 7)] / 4096
    np.testing.assert_allclose(result.coefficients, expected, atol=1e-6)


def test_analytic_and_general_coefficients_agree() -> None:
    general = smoothness(plain(3), ANGLES, TARGETS, k_max=8, analytic=False)
    assert general.mu == pytest.approx(smoothness(plain(3), ANGLES, TARGETS, k_max=8).mu, rel=1e-3)


def test_angles_are_periodic() -> None:
    turned = smoothness(plain(3), ANGLES + 2 * math.pi * np.array([0, 1, -1, 3, 0, 2]), TARGETS)
    assert turned.mu == pytest.approx(smoothness(plain(3), ANGLES, TARGETS).mu, rel=1e-9)


def test_bad_arguments() -> None:
    kernel = plain(2)
    repeated = np.concatenate([ANGLES[:5], ANGLES[:1]])
    for angles, targets, options in (
        (repeated, TARGETS, {}),
        (ANGLES[:, None], TARGETS, {}),
        (np.array([]), np.array([]), {}),
        (ANGLES, TARGETS[:5], {}),
        (ANGLES, np.stack([TARGETS, TARGETS], axis=1), {}),
        (ANGLES, 0 * TARGETS, {}),
        (ANGLES, TARGETS, {"length_scale": 0.0}),
        (ANGLES, TARGETS, {"k_max": -1}),
        (ANGLES, TARGETS, {"length_scale": 100.0, "k_max": 200}),
    ):
        with pytest.raises(InvalidAnalysisError):
            smoothness(kernel, angles, targets, **options)  # type: ignore[arg-type]
