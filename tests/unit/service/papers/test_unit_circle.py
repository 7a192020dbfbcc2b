"""The pieces of the unit-circle experiment that need no service."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.papers.random_networks import empirical_ntk
from service.papers.unit_circle import trained_distribution
from support.oracle import oracle


def test_tangent_kernel_of_a_random_network_against_finite_differences() -> None:
    """One hidden layer of 3, by hand: f = (W2 relu(W1 x/sqrt2 + 0.1 b1))/sqrt3 + 0.1 b2."""
    x = np.array([[1.0, 0.0], [0.6, -0.8], [0.0, 1.0]])
    draws = [np.random.default_rng([7, layer, kind]) for layer in (0, 1) for kind in (0, 1)]
    shapes = [(2, 3), (3,), (3, 1), (1,)]
    theta = np.concatenate(
        [g.standard_normal(s, np.float32).ravel() for g, s in zip(draws, shapes, strict=True)]
    ).astype(float)

    def f(parameters: np.ndarray) -> np.ndarray:
        w1, b1, w2, b2 = np.split(parameters, np.cumsum([6, 3, 3]))
        h = np.maximum(x @ w1.reshape(2, 3) / math.sqrt(2) + 0.1 * b1, 0)
        return h @ w2 / math.sqrt(3) + 0.1 * b2

    step = 1e-5
    jacobian = np.stack(
        [(f(theta + step * e) - f(theta - step * e)) / (2 * step) for e in np.eye(len(theta))],
        axis=1,
    )
    ours = empirical_ntk(x, affine_layers=2, width=3, b_std=0.1, seed=7)
    np.testing.assert_allclose(ours, jacobian @ jacobian[0], rtol=1e-5)


def test_wide_networks_approach_the_limit() -> None:
    """cos 1/2 between unit inputs: Theta = .1377230653 (Jacot et al., L = 4, beta = 0.1)."""
    x = np.array([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    kernels = [
        empirical_ntk(x, affine_layers=4, width=1000, b_std=0.1, seed=s)[1] for s in range(20)
    ]
    assert np.mean(kernels) == pytest.approx(0.1377230653, rel=0.06)
    assert np.std(kernels) < 0.12 * 0.1377


def test_distribution_after_training_against_the_reference() -> None:
    """Lee et al. 2019, eq. 16, against the reference's covariance of trained networks."""
    data = oracle("dynamics")
    ntk = np.block([[data["Ttt"], data["Tst"].T], [data["Tst"], np.zeros((3, 3))]])
    nngp = np.block([[data["Ktt"], data["Kst"].T], [data["Kst"], data["Kss"]]])
    out = trained_distribution(ntk, nngp, np.arange(5), np.arange(5, 8), data["y"])
    np.testing.assert_allclose(out.mean, data["flow|t=inf|ridge=0.0|mean"], rtol=1e-9)
    expected = np.sqrt(np.diagonal(data["flow|t=inf|ridge=0.0|cov"]))
    np.testing.assert_allclose(out.deviation, expected, rtol=1e-7)
