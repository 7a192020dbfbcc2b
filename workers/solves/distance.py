"""How far a model with inducing points is from the exact solution, without computing that.

Kernel ridge regression minimises J(f) = ‖f − y‖² + λ fᵀK⁻¹f over values f on the training set. J is
quadratic with Hessian 2(I + λK⁻¹) >= 2I, so ‖f − f*‖² <= J(f) − J*. The unknown minimum is at least
the dual value D(w) = λ(2 wᵀy − wᵀ(K + λI)w) for any w; here the best w in the span of y, of the
coefficients z and of the residual y − f. Two passes over K.
"""

from __future__ import annotations

import numpy as np

from workers.solves.operator import Operator
from workers.solves.solution import Float64


def distance_bound(operator: Operator, rhs: Float64, dual: Float64, ridge: float) -> Float64:
    """Upper bounds of ‖f − f*‖₂/‖y‖₂ (k,), f = K z on the training set and f* the exact solution.

    `dual` z (m, k) is zero off the inducing points; ridge > 0. A bound, often several times the
    distance, and at most about 1: f = 0 and w = 0 are in it.
    """
    count = rhs.shape[1]
    images = operator.apply(np.hstack([dual, rhs]), precise=True)
    fit, of_rhs = images[:, :count], images[:, count:]
    residual = rhs - fit
    of_residual = operator.apply(residual, precise=True)
    bounds = np.zeros(count)
    for c in range(count):
        size = float(np.linalg.norm(rhs[:, c]))
        if size == 0:
            continue
        span = np.column_stack([rhs[:, c], dual[:, c], residual[:, c]])
        image = np.column_stack([of_rhs[:, c], fit[:, c], of_residual[:, c]]) + ridge * span
        lengths = np.linalg.norm(span, axis=0)
        scale = np.where(lengths > 0, lengths, 1.0)
        span, image = span / scale, image / scale
        inner = span.T @ image
        weights = np.linalg.lstsq(0.5 * (inner + inner.T), span.T @ rhs[:, c], rcond=1e-12)[0]
        w, of_w = span @ weights, image @ weights
        lower = ridge * (2 * w @ rhs[:, c] - w @ of_w)  # valid for any weights
        value = residual[:, c] @ residual[:, c] + ridge * dual[:, c] @ fit[:, c]
        bounds[c] = np.sqrt(max(value - max(lower, 0.0), 0.0)) / size
    return bounds
