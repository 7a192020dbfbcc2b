"""Dual kernels of single activations on the 30-digit grid of variances and correlations.

The grid holds rho = +-1, +-(1 - 1e-12) and variances from 0.01 to 100, unequal in most pairs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from support.oracle import oracle
from workers.kernels.duals import Activation
from workers.kernels.duals.base import Correlation, Dual

ORACLE = oracle("duals")
NAMES: dict[str, dict[str, Any]] = {
    "identity": {"fn": "linear"},
    "relu": {"fn": "relu"},
    "leaky(0.1)": {"fn": "leaky_relu", "slope": 0.1},
    "relulike(1.3,-0.4)": {"fn": "relu_like", "positive_slope": 1.3, "negative_slope": -0.4},
    "abs": {"fn": "abs"},
    "erf": {"fn": "erf"},
}


def dual_of(fields: dict[str, Any]) -> Dual:
    return TypeAdapter(Activation).validate_python({"op": "activation"} | fields).dual()


def evaluate(
    dual: Dual, q1: float, q2: float, rho: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E and Edot at covariances rho sqrt(q1 q2), from the normalised maps."""
    with jax.enable_x64(True):
        s1, s2 = jnp.array([[q1]]) ** 0.5, jnp.array([[q2]]) ** 0.5
        e1, e2 = dual.deviation(s1[0]), dual.deviation(s2[0])
        pairs = Correlation(jnp.sqrt(jnp.asarray(w))[None], jnp.asarray(rho)[None])
        sides = (None, None) if dual.homogeneous else (s1, s2)
        out = dual.pair(pairs, *sides, degree="double")
        norm = e1 * e2
        derivative = jnp.ones_like(pairs.root) if out.derivative is None else out.derivative
        value = out.correlation.signed() * norm
        return np.asarray(value[0]), np.asarray(derivative[0] * norm / (s1 * s2)[0])


@pytest.mark.parametrize("name", list(NAMES))
def test_against_thirty_digits(name: str) -> None:
    dual = dual_of(NAMES[name])
    rho = ORACLE["rho"]
    w = 1 - np.abs(rho)  # exact in float64
    for row, (q1, q2) in enumerate(ORACLE["q_pairs"]):
        value, slope = evaluate(dual, q1, q2, rho, w)
        reference, derivative = ORACLE[f"{name}|K"][row], ORACLE[f"{name}|KD"][row]
        scale = np.max(np.abs(reference))
        assert np.max(np.abs(value - reference)) < 4e-15 * scale
        assert np.max(np.abs(slope - derivative)) < 4e-15 * np.max(np.abs(derivative))


@pytest.mark.parametrize("name", list(NAMES))
def test_row_maps_are_the_pair_maps_at_equal_rows(name: str) -> None:
    dual = dual_of(NAMES[name])
    with jax.enable_x64(True):
        for q in (1e-30, 0.3, 1.0, 40.0):
            s = jnp.array([q]) ** 0.5
            value, slope = evaluate(dual, q, q, np.ones(1), np.zeros(1))
            expected = float(dual.deviation(s)[0]) ** 2
            np.testing.assert_allclose(value, expected, rtol=1e-14)
            factor = float(dual.variance_derivative(s)[0])
            np.testing.assert_allclose(slope * q / expected, factor, rtol=1e-14)


@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("tiny", [1e-6, 1e-12, 1e-24])
def test_distance_keeps_its_digits(name: str, tiny: float) -> None:
    """1 - |rho_E| near equal rows, relative accuracy: the slope there is Edot q/E."""
    dual = dual_of(NAMES[name])
    with jax.enable_x64(True):
        s = jnp.array([[1.7]])
        sides = (None, None) if dual.homogeneous else (s, s)
        root = jnp.array([[tiny]]) ** 0.5
        out = dual.pair(Correlation(root, None), *sides, degree="double")
        factor = float(dual.variance_derivative(s[0])[0])
        distance = float(out.correlation.w[0, 0])
    # The next term of kinked activations is of relative order sqrt(w).
    np.testing.assert_allclose(distance, factor * tiny, rtol=max(2 * tiny**0.5, 1e-12))


def test_erf_saturates_without_nan() -> None:
    """Deviations whose squares overflow behave as the sign function."""
    dual = dual_of({"fn": "erf"})
    rho = np.array([1.0, 0.5, 0.0, -0.5, -1.0])
    with jax.enable_x64(True):
        s = jnp.array([[1e200]])
        pairs = Correlation(jnp.sqrt(jnp.asarray(1 - np.abs(rho)))[None], jnp.asarray(rho)[None])
        out = dual.pair(pairs, s, s, degree="double").correlation
        np.testing.assert_allclose(out.signed()[0], 2 / np.pi * np.arcsin(rho), atol=1e-15)
        np.testing.assert_allclose(float(dual.deviation(s[0])[0]), 1, rtol=1e-15)
