"""Mercer spectra of zonal kernels against the reference, closed forms and sampled Grams."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from support.oracle import oracle
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.mercer import (
    AngleKernel,
    angle_kernel,
    circle_spectrum,
    multiplicities,
    sphere_spectrum,
)

REFERENCE = oracle("spectra")


def relu_ntk(hidden: int, b_std: float, dimension: int) -> AngleKernel:
    """The NTK of `hidden` ReLU layers, w_std sqrt(2), on unit inputs, in plain NumPy."""

    def evaluate(angle: np.ndarray) -> np.ndarray:
        variance = 2 / dimension + b_std**2
        c = (2 / dimension * np.cos(angle) + b_std**2) / variance
        ntk = variance * c
        for _ in range(hidden):
            theta = np.arccos(np.clip(c, -1, 1))
            kappa1 = (np.sin(theta) + (math.pi - theta) * c) / math.pi
            following = variance + b_std**2
            nngp = variance * kappa1 + b_std**2
            ntk = nngp + (1 - theta / math.pi) * ntk
            variance, c = following, nngp / following
        return ntk

    return evaluate


@pytest.mark.parametrize("key", sorted(REFERENCE))
def test_reference(key: str) -> None:
    shape, *middle, bias, _ = key.split("|")
    parts = dict(part.split("=") for part in [*middle, bias])
    dimension = int(parts.get("p", 2))
    kernel = relu_ntk(int(parts["H"]), float(parts["sb"]), dimension)
    expected = REFERENCE[key]
    exact = sphere_spectrum(kernel, dimension, len(expected) - 1)
    # The reference of the circle is itself an FFT, with aliasing.
    np.testing.assert_allclose(exact.values, expected, atol=1e-10 if dimension == 2 else 1e-13)
    if shape == "circle":
        fft = circle_spectrum(kernel, len(expected) - 1)
        np.testing.assert_allclose(fft.values, exact.values, atol=fft.error)
        assert fft.error < 1e-6


def test_kernels_of_the_language() -> None:
    spec = {"preset": "fc", "depth": 2, "w_std": math.sqrt(2), "b_std": 0.3}
    ours = sphere_spectrum(angle_kernel(spec, 3), 3, 12)
    np.testing.assert_allclose(ours.values, REFERENCE["sphere|p=3|H=2|sb=0.3|lambda"], atol=1e-13)


def test_odd_frequencies_of_a_shallow_network_without_bias_vanish() -> None:
    spectrum = sphere_spectrum(relu_ntk(1, 0.0, 2), 2, 100)
    assert np.max(np.abs(spectrum.values[3::2])) < 1e-14
    assert np.all(spectrum.values[4::2] > 1e-6)


def test_exponential_kernel_in_closed_form() -> None:
    """exp(a cos t) has the eigenvalues I_k(a) on the circle, and Bessel ratios on spheres."""
    a = 1.7
    kernel: AngleKernel = lambda t: np.exp(a * np.cos(t))  # noqa: E731
    degrees = np.arange(9)
    circle = special.iv(degrees, a)
    np.testing.assert_allclose(sphere_spectrum(kernel, 2, 8).values, circle, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(circle_spectrum(kernel, 8).values, circle, rtol=1e-12, atol=1e-15)
    sphere = math.sqrt(math.pi / (2 * a)) * special.iv(degrees + 0.5, a)
    np.testing.assert_allclose(sphere_spectrum(kernel, 3, 8).values, sphere, rtol=1e-12, atol=1e-15)


def test_multiplicities() -> None:
    np.testing.assert_array_equal(multiplicities(2, 4), [1, 2, 2, 2, 2])
    np.testing.assert_array_equal(multiplicities(3, 5), 2 * np.arange(6) + 1)
    np.testing.assert_array_equal(multiplicities(4, 4), (np.arange(5) + 1) ** 2)
    assert multiplicities(784, 60)[-1] == np.iinfo(np.int64).max


@pytest.mark.parametrize("dimension", [2, 3, 5])
def test_eigenvalues_with_multiplicity_add_up_to_the_diagonal(dimension: int) -> None:
    kernel: AngleKernel = lambda t: np.exp(np.cos(t))  # noqa: E731
    spectrum = sphere_spectrum(kernel, dimension, 30)
    assert np.sum(spectrum.values * spectrum.multiplicities) == pytest.approx(math.e, rel=1e-13)


def test_gram_of_random_points_has_m_times_the_eigenvalues() -> None:
    m = 800
    x = np.random.default_rng(0).normal(size=(m, 3))
    x /= np.linalg.norm(x, axis=1)[:, None]
    kernel = relu_ntk(2, 0.3, 3)
    sampled = np.linalg.eigvalsh(kernel(np.arccos(np.clip(x @ x.T, -1, 1))))[::-1]
    predicted = sphere_spectrum(kernel, 3, 12).gram_eigenvalues(m)
    np.testing.assert_allclose(sampled[:9], predicted[:9], rtol=0.15)
    assert sampled[0] == pytest.approx(predicted[0], rel=0.01)


def test_decay_of_relu_kernels_is_the_dimension() -> None:
    assert sphere_spectrum(relu_ntk(2, 0.3, 2), 2, 400).decay(100) == pytest.approx(2, abs=0.02)
    assert sphere_spectrum(relu_ntk(2, 0.3, 3), 3, 200).decay(80) == pytest.approx(3, abs=0.05)


def test_error_tells_what_is_noise() -> None:
    spectrum = sphere_spectrum(lambda t: np.exp(np.cos(t)), 2, 60)
    noise = np.abs(spectrum.values - special.iv(np.arange(61), 1.0))
    assert np.max(noise) < 4 * spectrum.error
    with pytest.raises(InvalidAnalysisError, match="above the error"):
        spectrum.decay(40)


def test_gram_eigenvalues_when_degrees_do_not_suffice() -> None:
    spectrum = sphere_spectrum(lambda t: np.exp(np.cos(t)), 3, 1)
    assert len(spectrum.gram_eigenvalues(100)) == 4
    assert len(spectrum.gram_eigenvalues(2)) == 2


def test_bad_arguments() -> None:
    kernel: AngleKernel = np.cos
    for call in (
        lambda: circle_spectrum(kernel, -1),
        lambda: circle_spectrum(kernel, 10, points=20),
        lambda: circle_spectrum(kernel, 2, points=101),
        lambda: sphere_spectrum(kernel, 1, 5),
        lambda: sphere_spectrum(kernel, 3, 100, panels=4),
        lambda: sphere_spectrum(kernel, 3, 10**6),
        lambda: sphere_spectrum(lambda t: t[:3], 3, 5),
        lambda: sphere_spectrum(lambda t: t * np.nan, 3, 5),
        lambda: angle_kernel("fc", 1),
    ):
        with pytest.raises(InvalidAnalysisError):
            call()
