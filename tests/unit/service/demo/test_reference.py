"""The yardstick of the demonstration, checked by closed forms and by real random networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.demo.reference import relu_entry

ROOT_TWO = math.sqrt(2.0)


def test_equal_rows_have_the_closed_form():
    # With w_std² = 2 a ReLU layer keeps the variance, so nngp = 2/d and ntk = (depth + 1) nngp.
    x = np.random.default_rng(0).normal(size=9)
    # An arccosine near 1 keeps half the digits of float64: 1e-7 is what the yardstick promises.
    for depth in (0, 1, 3, 10):
        nngp, ntk = relu_entry(x, 5 * x, depth=depth, w_std=ROOT_TWO)
        assert nngp == pytest.approx(2 / 9, rel=1e-12)
        assert ntk == pytest.approx((depth + 1) * 2 / 9, rel=1e-7)


def test_orthogonal_rows_after_one_layer():
    # E[relu(a) relu(b)] = 1/(2 pi) and E[relu' relu'] = 1/4 for independent standard a, b.
    nngp, ntk = relu_entry(np.array([1.0, 0.0]), np.array([0.0, 3.0]), depth=1, w_std=ROOT_TWO)
    assert nngp == pytest.approx(2 / (2 * math.pi), rel=1e-12)
    assert ntk == pytest.approx(nngp, rel=1e-12)


def test_nngp_is_the_covariance_of_wide_random_networks():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 6))
    u, v = x / np.linalg.norm(x), y / np.linalg.norm(y)
    width, draws = 256, 300
    products = []
    for _ in range(draws):
        hidden = np.stack([u, v])
        for _ in range(2):
            weights = rng.normal(size=(hidden.shape[1], width))
            hidden = np.maximum(0, hidden @ weights * ROOT_TWO / math.sqrt(hidden.shape[1]))
        products.append(2 * float(hidden[0] @ hidden[1]) / width)
    error = np.std(products) / math.sqrt(draws)
    nngp, _ = relu_entry(x, y, depth=2, w_std=ROOT_TWO)
    assert abs(np.mean(products) - nngp) < 4 * error
    assert error < 0.02 * nngp
