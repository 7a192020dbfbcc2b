"""Comparing kernels with each other and with targets: alignment, distance, velocity."""

from __future__ import annotations

import numpy as np
import pytest

from support.oracle import oracle
from workers.analyses.alignment import kernel_alignment, target_alignment
from workers.analyses.distance import kernel_distance, kernel_velocity
from workers.analyses.errors import InvalidAnalysisError

ORACLE = oracle("conditioning")
T = ORACLE["T"]
OTHER = T + 0.1 * np.eye(5)


def test_distance_of_the_reference() -> None:
    assert kernel_distance(T, OTHER) == pytest.approx(float(ORACLE["kernel_distance"]), rel=1e-11)
    assert kernel_distance(T, OTHER) == pytest.approx(1 - kernel_alignment(T, OTHER), abs=1e-15)


def test_distance_is_scale_free_and_zero_for_proportional_kernels() -> None:
    assert kernel_distance(T, 3.7 * T) < 1e-31
    assert kernel_distance(T, 5 * OTHER) == pytest.approx(kernel_distance(OTHER, T), rel=1e-12)


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9, 1e-12])
def test_small_distances_keep_their_digits(size: float) -> None:
    """Half the squared angle, of order size^2: below 1e-8 the cosine is 1 in float64."""
    direction = np.diag([1.0, -1.0, 0.5, 0.0, 2.0])
    unit = T / np.linalg.norm(T)
    sideways = direction - np.sum(direction * unit) * unit
    angle = size * np.linalg.norm(sideways) / np.linalg.norm(T)
    expected = 1 - np.cos(angle) if angle > 1e-2 else angle**2 / 2 * (1 - angle**2 / 12)
    moved = T + size * sideways
    # The entries of `moved` are rounded: relative accuracy of `size` is 1e-16/size.
    assert kernel_distance(T, moved) == pytest.approx(expected, rel=1e-5 + 1e-14 / size)


def test_velocity() -> None:
    assert kernel_velocity(T, OTHER, 0.5) == pytest.approx(2 * kernel_distance(T, OTHER))
    for interval in (0.0, -1.0, np.nan):
        with pytest.raises(InvalidAnalysisError, match="interval"):
            kernel_velocity(T, OTHER, interval)


def test_alignment() -> None:
    assert kernel_alignment(T, T) == pytest.approx(1)
    assert kernel_alignment(np.eye(4), np.ones((4, 4))) == pytest.approx(0.5)
    # Centred alignment does not see a constant added to a kernel.
    assert kernel_alignment(T, OTHER + 9, centred=True) == pytest.approx(
        kernel_alignment(T, OTHER, centred=True), rel=1e-12
    )
    assert kernel_alignment(T, OTHER + 9) < 0.999 * kernel_alignment(T, OTHER)


def test_alignment_with_targets() -> None:
    y = np.array([1.0, -1.0, 2.0, 0.0, 1.0])
    both = np.stack([y, y**2], axis=1)
    for targets in (y, both):
        ideal = targets.reshape(5, -1) @ targets.reshape(5, -1).T
        assert target_alignment(T, targets) == pytest.approx(kernel_alignment(T, ideal), rel=1e-13)
        p = np.eye(5) - 0.2
        assert target_alignment(T, targets, centred=True) == pytest.approx(
            kernel_alignment(p @ T @ p, p @ ideal @ p), rel=1e-12
        )
    assert target_alignment(np.outer(y, y), y) == pytest.approx(1)


def test_what_has_no_angle() -> None:
    with pytest.raises(InvalidAnalysisError, match="zero"):
        target_alignment(T, np.zeros(5))
    with pytest.raises(InvalidAnalysisError, match="zero"):
        target_alignment(T, np.ones(5), centred=True)
    with pytest.raises(InvalidAnalysisError, match="zero"):
        kernel_alignment(np.ones((5, 5)), T, centred=True)
    for compare in (kernel_distance, kernel_alignment):
        with pytest.raises(InvalidAnalysisError, match="rows"):
            compare(T, np.eye(4))
