"""The photograph, and the interpolations that need no network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.papers.photograph import biharmonic, neighbour_mean, photograph


def test_the_photograph_is_in_colour() -> None:
    image = photograph(40)
    assert image.shape == (40, 40, 3)
    assert 0 <= image.min() < 0.1
    assert 0.9 < image.max() <= 1
    assert np.abs(image[:, :, 0] - image[:, :, 2]).max() > 0.1
    coarse = image.reshape(20, 2, 20, 2, 3).mean(axis=(1, 3))
    assert np.abs(photograph(20) - coarse).mean() < 0.05


@pytest.mark.parametrize("fill", [neighbour_mean, biharmonic])
def test_fillings_keep_what_is_known_and_read_nothing_else(fill: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    image, observed = rng.random((9, 7, 2)), rng.random((9, 7)) < 0.4
    found = fill(image, observed)
    np.testing.assert_array_equal(found[observed], image[observed])
    blinded = np.where(observed[:, :, None], image, 0.5)
    np.testing.assert_array_equal(fill(blinded, observed), found)
    constant = np.full((9, 7, 1), 0.3)
    np.testing.assert_allclose(fill(constant, observed), constant, atol=1e-10)
    np.testing.assert_array_equal(fill(image, np.ones((9, 7), bool)), image)


def test_one_pixel_is_the_mean_of_its_neighbours() -> None:
    image, observed = np.arange(9.0).reshape(3, 3, 1) / 10, np.ones((3, 3), bool)
    observed[0, 0] = False
    assert neighbour_mean(image, observed)[0, 0, 0] == pytest.approx((0.1 + 0.3 + 0.4) / 3)


def test_biharmonic_continues_a_cubic_along_a_line() -> None:
    """The fourth difference is 0: known values on either side determine a cubic."""
    x = np.linspace(0, 1, 12)
    line = (0.2 + x - 1.5 * x**2 + x**3)[:, None, None] * np.ones((1, 4, 1))
    observed = np.ones((12, 4), bool)
    observed[5:7] = False
    np.testing.assert_allclose(biharmonic(line, observed), line, atol=1e-9)


def test_nothing_comes_from_nothing() -> None:
    with pytest.raises(ValueError, match="observed"):
        neighbour_mean(np.zeros((2, 2, 1)), np.zeros((2, 2), bool))
