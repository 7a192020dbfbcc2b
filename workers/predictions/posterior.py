"""Distributions over functions given training targets, on new inputs.

`gaussian_posterior`: Bayesian, the NNGP posterior of the last layer or of all (survey (149)-(150)).
`trained_ensemble`: networks from independent initialisations f₀ ~ GP(0, K), each trained by
gradient flow on ½‖f − y‖² + (λ/2)‖θ − θ₀‖² for a time t with the constant kernel Θ (survey
(153)-(156); Lee et al. 2019 for finite t). Its covariance is no Bayesian posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import linalg

from workers.analyses.checks import Floats
from workers.predictions.eigensystem import Eigensystem, relative_residuals
from workers.predictions.time_factors import flow_factors
from workers.solves.errors import SolveFailedError

Wanted = Literal["mean", "variance", "covariance"]


@dataclass(frozen=True)
class Posterior:
    """`mean` (n, k). `spread`: None, variances (n,) or covariance (n, n), the same for each of
    the k outputs. `residuals`: of the duals behind the mean, per column; None at finite times,
    where they solve no system."""

    mean: Floats
    spread: Floats | None
    residuals: list[float] | None
    notes: tuple[str, ...]


def gaussian_posterior(
    kernel: Floats,
    cross: Floats,
    targets: Floats,
    noise: float,
    prior: Floats | None,
    wanted: Wanted,
) -> Posterior:
    """mean K_sX (K + noise·I)⁻¹ y, covariance K_ss − K_sX (K + noise·I)⁻¹ K_Xs.

    kernel (m, m), cross (n, m), targets (m, k); `prior`: diag K_ss (n,) for variances, K_ss (n, n)
    for the covariance. O(m³/3 + m²n). Raises SolveFailedError if K + noise·I is not positive
    definite.
    """
    factor = factored(kernel, noise)
    dual = linalg.cho_solve((factor, True), targets, check_finite=False)
    residuals = relative_residuals(kernel, dual, targets, noise)
    if wanted == "mean" or prior is None:
        return Posterior(cross @ dual, None, residuals, ())
    half = linalg.solve_triangular(factor, cross.T, lower=True, check_finite=False)
    if wanted == "variance":
        spread, notes = clipped(prior - np.einsum("ij,ij->j", half, half), prior)
        return Posterior(cross @ dual, spread, residuals, notes)
    return Posterior(cross @ dual, prior - half.T @ half, residuals, ())


def trained_ensemble(
    system: Eigensystem,
    cross: Floats,
    targets: Floats,
    time: float | None,
    ridge: float,
    prior_kernel: Floats,
    prior_cross: Floats,
    prior: Floats | None,
    wanted: Wanted,
) -> Posterior:
    """mean A y, covariance K_ss − A K_Xs − K_sX Aᵀ + A K Aᵀ with A = Θ_sX V g(w) Vᵀ.

    system and `cross` (n, m): of the trained kernel Θ; `prior_kernel` (m, m), `prior_cross` (n, m)
    and `prior` (diag K_ss or K_ss): covariances of the functions at initialisation. `time` None:
    trained to the end. O(m²n) after the decomposition. Raises SolveFailedError for time None if
    Θ + ridge·I is not positive definite.
    """
    if time is None:
        system.require_definite(ridge)
    factors = flow_factors(system.values + ridge, time)
    propagator = (cross @ system.vectors * factors) @ system.vectors.T
    residuals = None
    notes: list[str] = []
    if time is None:
        dual = system.apply(factors, targets)
        residuals = relative_residuals(system.kernel, dual, targets, ridge)
        notes = system.rounding_note(ridge)
    mean = propagator @ targets
    if wanted == "mean" or prior is None:
        return Posterior(mean, None, residuals, tuple(notes))
    carried = propagator @ prior_kernel
    if wanted == "variance":
        spread = (
            prior
            - 2 * np.einsum("ij,ij->i", propagator, prior_cross)
            + np.einsum("ij,ij->i", carried, propagator)
        )
        spread, more = clipped(spread, prior)
        return Posterior(mean, spread, residuals, (*notes, *more))
    mixed = propagator @ prior_cross.T
    covariance = prior - mixed - mixed.T + carried @ propagator.T
    return Posterior(mean, 0.5 * (covariance + covariance.T), residuals, tuple(notes))


def factored(kernel: Floats, noise: float) -> Floats:
    """Lower Cholesky factor (m, m) of K + noise·I. Raises SolveFailedError if there is none."""
    shifted = kernel + noise * np.eye(len(kernel))
    try:
        factor: Floats = linalg.cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError as error:
        needed = 1e-6 * float(np.trace(kernel)) / len(kernel)
        raise SolveFailedError(
            f"K + {noise:.3g} I is not positive definite.",
            advice=f"Raise the ridge, for instance to {needed:.3g}, or store K in float64.",
            suggested_ridge=needed,
        ) from error
    return factor


def clipped(variances: Floats, prior: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Differences of nearly equal numbers may fall below zero: they are 0, and said to be."""
    below = int(np.count_nonzero(variances < 0))
    if not below:
        return variances, ()
    worst = float(np.max(-variances / np.maximum(prior, np.finfo(float).tiny)))
    return np.maximum(variances, 0.0), (
        f"{below} of {len(variances)} variances came out below zero, the worst by {worst:.1e} of"
        " its prior, and were set to 0: rounding of the stored entries. Raise the ridge, or store"
        " the Gram matrices in float64.",
    )
