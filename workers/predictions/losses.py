"""Losses L(f, y), summed over samples, of training with a constant kernel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import special

from workers.analyses.checks import Floats

Loss = Literal["squared", "cross_entropy", "binary_cross_entropy"]

CURVATURE: dict[Loss, float] = {"squared": 1.0, "cross_entropy": 0.5, "binary_cross_entropy": 0.25}
"""Largest second derivative of each loss in the outputs of a sample: rates below
2/(curvature·λ₁ + ridge) are stable."""


def slope(loss: Loss, outputs: Floats, targets: Floats) -> Floats:
    """∂L/∂f, (..., k): f − y, softmax(f) − y or sigmoid(f) − y."""
    if loss == "squared":
        return np.asarray(outputs - targets)
    if loss == "cross_entropy":
        return np.asarray(special.softmax(outputs, axis=-1) - targets)
    return np.asarray(special.expit(outputs) - targets)


def total(loss: Loss, outputs: Floats, targets: Floats) -> float:
    """L: half the summed squares, or minus the log-likelihood, of outputs and targets (m, k)."""
    if loss == "squared":
        return float(0.5 * np.sum((outputs - targets) ** 2))
    if loss == "cross_entropy":
        return float(-np.sum(targets * special.log_softmax(outputs, axis=-1)))
    return float(np.sum(np.logaddexp(0.0, outputs) - targets * outputs))
