"""Every further activation on the 30-digit grid of variances and correlations.

test_duals.py does the same for the ReLU-like family and erf. The grid holds rho = +-1 and
+-(1 - 1e-12), and variances from 1/16 to 4, unequal in half of the pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.activations import dual_of
from support.duals import deviations, pair_values, variance_derivatives
from support.oracle import oracle

ORACLE = oracle("duals")
CASES: dict[str, dict[str, Any]] = {
    "sign": {"fn": "sign"},
    "step": {"fn": "step"},
    "rectmono(2)": {"fn": "rectified_power", "power": 2},
    "rectmono(3)": {"fn": "rectified_power", "power": 3},
    "sigmoid_like": {"fn": "sigmoid_like"},
    "sin(w=1.0,b=0)": {"fn": "sin"},
    "sin(w=1.5,b=0.3)": {"fn": "sin", "frequency": 1.5, "phase": 0.3},
    "cos(w=1.0)": {"fn": "cos"},
    "rbf(gamma=1.0)": {"fn": "rbf"},
    "exp(0.5)": {"fn": "exp", "rate": 0.5},
    "gaussian(1.0)": {"fn": "gaussian"},
    "square": {"fn": "polynomial", "coefficients": [0.0, 0.0, 1.0]},
    "poly3": {"fn": "polynomial", "coefficients": [-0.3, 1.0, 0.5, 0.25]},
    "hermite(3)": {"fn": "hermite", "degree": 3},
    "gelu": {"fn": "gelu"},
}
WITHOUT_DERIVATIVE = {"sign", "step"}


@pytest.mark.parametrize("name", list(CASES))
def test_against_thirty_digits(name: str) -> None:
    """Errors relative to sqrt(E(q,q) E(q',q')): 3e-15."""
    dual = dual_of(CASES[name])
    rho = ORACLE["rho"][None]
    for row, (q1, q2) in enumerate(ORACLE["q_pairs"]):
        s1, s2 = np.array([np.sqrt(q1)]), np.full(rho.size, np.sqrt(q2))
        norm = deviations(dual, s1)[0] * deviations(dual, s2[:1])[0]
        out = pair_values(dual, s1, s2, rho)
        error = np.max(np.abs(out.rho[0] - ORACLE[f"{name}|K"][row] / norm))
        assert error < 3e-15
        if name not in WITHOUT_DERIVATIVE:
            reference = ORACLE[f"{name}|KD"][row] * s1[0] * s2[0] / norm
            error = np.max(np.abs(out.derivative[0] - reference))
            assert error < 4e-15 * np.max(np.abs(reference))


@pytest.mark.parametrize("name", list(CASES))
def test_rows_are_the_pair_map_on_the_diagonal(name: str) -> None:
    """Equal rows: rho_E = 1 exactly, and both row maps agree with the grid's rho = 1."""
    dual = dual_of(CASES[name])
    s = np.sqrt(np.array([q1 for q1, q2 in ORACLE["q_pairs"] if q1 == q2]))
    value = np.array([ORACLE[f"{name}|K"][row, -1] for row in range(len(s))])
    np.testing.assert_allclose(deviations(dual, s), np.sqrt(value), rtol=5e-14)
    out = pair_values(dual, s, s, np.ones((3, 3)))
    assert (np.diag(out.w) == 0).all()
    assert (np.diag(out.rho) == 1).all()
    if name not in WITHOUT_DERIVATIVE:
        slope = np.array([ORACLE[f"{name}|KD"][row, -1] for row in range(len(s))])
        np.testing.assert_allclose(variance_derivatives(dual, s), slope * s * s / value, rtol=5e-13)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("tiny", [1e-8, 1e-12, 1e-24])
def test_distance_keeps_its_digits(name: str, tiny: float) -> None:
    """1 - rho_E of almost equal rows, in relative terms: its slope in w is the derivative."""
    dual = dual_of(CASES[name])
    s = np.array([1.3])
    out = pair_values(dual, s, s, np.ones((1, 1)), np.full((1, 1), tiny))
    if name in WITHOUT_DERIVATIVE:
        factor = np.sqrt(8 / tiny) / np.pi / (1 if name == "sign" else 2)
    else:
        factor = variance_derivatives(dual, s)[0]
    # The next term of kinked activations is of relative order sqrt(w).
    bound = max(3 * tiny**0.5, 1e-12)
    np.testing.assert_allclose(out.w[0, 0], factor * tiny, rtol=bound, atol=1e-33)
