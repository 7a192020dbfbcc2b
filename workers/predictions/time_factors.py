"""What training makes of one eigenvalue w of the kernel, for the squared loss ½‖f − y‖².

After training, f = f₀ + Θ a with a = V g(w) Vᵀ (y − f₀): these are g. The ridge is part of w.
"""

from __future__ import annotations

import numpy as np

from workers.analyses.checks import Floats


def flow_factors(values: Floats, time: float | None) -> Floats:
    """Gradient flow for time t: (1 − e^{−wt})/w, t where w is 0; 1/w for None, the end.

    Without cancellation for small wt. `values` (m,).
    """
    if time is None:
        return np.asarray(1.0 / values)
    safe = np.where(values == 0, 1.0, values)
    with np.errstate(over="ignore"):  # wt << 0: the caller sees that it is not finite
        grown = -np.expm1(-safe * time) / safe
    return np.where(values == 0, time, grown)


def descent_factors(values: Floats, steps: int, rate: float) -> Floats:
    """Gradient descent with `rate` η: Σ_{s<steps} η(1 − ηw)^s = (1 − (1 − ηw)^steps)/w.

    Exact for any stable rate, and without cancellation for small ηw. Not finite where an unstable
    one overflows.
    """
    moved = rate * values
    safe = np.where(values == 0, 1.0, values)
    with np.errstate(over="ignore", invalid="ignore"):
        small = np.abs(moved) < 0.5
        slow = -np.expm1(steps * np.log1p(-np.where(small, moved, 0.0)))
        fast = 1.0 - np.power(1.0 - np.where(small, 0.5, moved), steps)
        grown = np.where(small, slow, fast) / safe
    return np.where(values == 0, rate * steps, grown)
