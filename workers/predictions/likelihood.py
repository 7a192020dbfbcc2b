"""Log marginal likelihood of a Gaussian process (Rasmussen & Williams 2006, (2.30)).

log p(y) = −½ yᵀ(K + σ²I)⁻¹y − ½ log det(K + σ²I) − (m/2) log 2π for each of k independent outputs
with one kernel. Exactly by Cholesky, in one worker or in blocks in the store; or from a certified
solve and a log-determinant by stochastic Lanczos quadrature, with the standard error of its probes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import linalg

from workers.analyses.checks import Floats, check_gram
from workers.one_worker import CheckStop, Computed
from workers.predictions.eigensystem import relative_residuals
from workers.predictions.posterior import factored
from workers.solves.dense import load_dense
from workers.solves.source import TileSource


def log_marginals(
    targets: Floats, dual: Floats, log_determinant: float, standard_error: float = 0.0
) -> dict[str, Any]:
    """The summary of a job, from targets and dual = (K + σ²I)⁻¹ targets (m, k).

    `log_marginal_likelihood` is the sum over the k outputs, `per_output` its terms; `fit`,
    `complexity` and `constant` are the three terms of the formula, summed. `standard_error`: of
    the sum, from that of the log-determinant, which all outputs share.
    """
    m, k = targets.shape
    fits = -0.5 * np.einsum("ij,ij->j", targets, dual)
    constant = -0.5 * m * math.log(2 * math.pi)
    values = fits - 0.5 * log_determinant + constant
    return {
        "rows": m,
        "log_marginal_likelihood": float(values.sum()),
        "standard_error": 0.5 * k * standard_error,
        "per_output": values.tolist(),
        "fit": float(fits.sum()),
        "complexity": -0.5 * k * log_determinant,
        "constant": k * constant,
        "log_determinant": log_determinant,
        "log_determinant_standard_error": standard_error,
    }


def stored_likelihood(
    source: TileSource, targets: Floats, ridge: float, relative: bool, check_stop: CheckStop
) -> Computed:
    """Exact, for a matrix that one worker holds; a summary without arrays.

    Raises InvalidAnalysisError if it is no Gram matrix, SolveFailedError if K + σ²I is not
    positive definite.
    """
    kernel = check_gram(load_dense(source, check_stop)).values
    noise = ridge * (float(np.trace(kernel)) / len(kernel) if relative else 1.0)
    check_stop()
    factor = factored(kernel, noise)
    dual = linalg.cho_solve((factor, True), targets, check_finite=False)
    log_determinant = 2 * float(np.log(np.diagonal(factor)).sum())
    residuals = relative_residuals(kernel, dual, targets, noise)
    return Computed(
        {
            **log_marginals(targets, dual, log_determinant),
            "method": "cholesky",
            "ridge": noise,
            "residual": max(residuals),
        }
    )
