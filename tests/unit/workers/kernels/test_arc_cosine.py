"""The polynomials that replace arc cosines, against mpmath."""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest

from workers.kernels.duals.arc_cosine import P_DOUBLE, P_SINGLE, R_DOUBLE, R_SINGLE

POINTS = [mp.mpf(k) / 400 for k in range(1, 401)] + [mp.mpf(10) ** -k for k in range(3, 30, 3)]


def _p(w: mp.mpf) -> mp.mpf:
    return mp.acos(1 - w) / mp.sqrt(w)


def _r(w: mp.mpf) -> mp.mpf:
    theta = mp.acos(1 - w)
    return (mp.sin(theta) - theta * mp.cos(theta)) / mp.pi / w ** mp.mpf("1.5")


@pytest.mark.parametrize(
    ("coefficients", "function", "tolerance"),
    [
        (P_SINGLE, _p, 1.1e-7),
        (R_SINGLE, _r, 1.3e-7),
        (P_DOUBLE, _p, 8e-16),
        (R_DOUBLE, _r, 3e-16),
    ],
    ids=["P_SINGLE", "R_SINGLE", "P_DOUBLE", "R_DOUBLE"],
)
def test_relative_error(
    coefficients: tuple[float, ...], function: Callable[[mp.mpf], mp.mpf], tolerance: float
) -> None:
    with mp.workdps(60):
        errors = [
            abs(sum(mp.mpf(c) * w**k for k, c in enumerate(coefficients)) / function(w) - 1)
            for w in POINTS
        ]
    assert max(errors) < tolerance


@pytest.mark.parametrize(("degree", "tolerance"), [("single", 6e-7), ("double", 3e-15)])
def test_evaluation_in_working_precision(degree: str, tolerance: float) -> None:
    import jax
    import jax.numpy as jnp

    from workers.kernels.duals.arc_cosine import arc_cosine_pair

    dtype = np.float32 if degree == "single" else np.float64
    roots = np.sqrt(np.array([float(w) for w in POINTS])).astype(dtype)
    with jax.enable_x64(True):
        t = jnp.asarray(roots)
        kappa0, kappa1 = arc_cosine_pair(t, t * t, degree)  # type: ignore[arg-type]
    with mp.workdps(60):
        for root, k0, k1 in zip(roots, np.asarray(kappa0), np.asarray(kappa1), strict=True):
            w = mp.mpf(float(root)) ** 2
            assert abs(float(k0) / (mp.sqrt(w) * _p(w) / mp.pi) - 1) < tolerance
            assert abs(float(k1) / (mp.sqrt(w) * _r(w)) - 1) < tolerance
