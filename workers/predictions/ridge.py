"""Kernel ridge regression for many ridges from one eigendecomposition, with exact held-out errors.

With G = K + λI and α = G⁻¹y, training without the samples I leaves on them the residuals
y_I − f^{(−I)}(x_I) = ((G⁻¹)_II)⁻¹ α_I (Rasmussen & Williams, Gaussian Processes for Machine
Learning, 2006, (5.12) for one sample): no model is trained again, neither for leave-one-out nor for
folds. λ is the same number with and without the samples; a relative λ is relative to the whole K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from workers.analyses.checks import Floats
from workers.predictions.eigensystem import Eigensystem, relative_residuals

Criterion = Literal["mean_squared_error", "error_rate"]

LOST_RESIDUAL = 1e-3  # relative residuals above it are called an answer without digits


@dataclass(frozen=True)
class Candidate:
    """One ridge, in units of K. Errors are those of held-out samples; None: K + ridge·I is not
    positive definite. `error_rate`: of the largest column, None unless the targets are classes."""

    ridge: float
    mean_squared_error: float | None
    error_rate: float | None
    condition: float | None


@dataclass(frozen=True)
class RidgeFit:
    """The ridge with the smallest error, the largest of equals.

    `dual` (m, k); `held_out` (m, k): what models without the sample predict for it; `residuals`:
    of the dual, per column, from a product with K.
    """

    ridge: float
    dual: Floats
    held_out: Floats
    residuals: list[float]
    curve: tuple[Candidate, ...]
    notes: tuple[str, ...]


def random_folds(rows: int, folds: int, seed: int) -> list[NDArray[np.int64]]:
    """2 <= `folds` <= `rows` disjoint sets of samples, sizes differing by at most one."""
    order = np.random.default_rng(seed).permutation(rows).astype(np.int64)
    return list(np.array_split(order, folds))


def held_out_residuals(
    system: Eigensystem,
    targets: Floats,
    ridge: float,
    folds: Sequence[NDArray[np.int64]] | None = None,
) -> Floats:
    """y − f^{(−I)}(x) for targets (m, k), I the fold of each sample; None: each alone.

    O(m²k) for leave-one-out, O(m³/folds + m²k) for folds. K + ridge·I must be positive definite.
    """
    inverse = 1.0 / (system.values + ridge)
    dual = system.apply(inverse, targets)
    if folds is None:
        diagonal = np.einsum("ij,j,ij->i", system.vectors, inverse, system.vectors, optimize=False)
        return np.asarray(dual / diagonal[:, None])
    residuals = np.empty_like(dual)
    for fold in folds:
        part = system.vectors[fold]
        block = (part * inverse) @ part.T
        residuals[fold] = linalg.solve(block, dual[fold], assume_a="pos")
    return residuals


def fit_ridge(
    system: Eigensystem,
    targets: Floats,
    ridges: Sequence[float],
    *,
    folds: Sequence[NDArray[np.int64]] | None = None,
    classes: bool = False,
    criterion: Criterion = "mean_squared_error",
) -> RidgeFit:
    """The best of `ridges` (units of K) for targets (m, k).

    `classes`: the targets encode classes, the largest column of a row being its class.
    Raises SolveFailedError if K + ridge·I is positive definite for none of them.
    """
    curve = []
    kept: dict[float, Floats] = {}
    for ridge in sorted(ridges, reverse=True):
        if not system.definite(ridge):
            curve.append(Candidate(ridge, None, None, None))
            continue
        held_out = targets - held_out_residuals(system, targets, ridge, folds)
        curve.append(
            candidate(ridge, held_out, targets, classes=classes, condition=system.condition(ridge))
        )
        if best_of(curve, criterion) is curve[-1]:
            kept = {ridge: held_out}
    best = best_of(curve, criterion)
    if best is None:
        system.require_definite(max(ridges))
        raise AssertionError("unreachable: the largest ridge was definite")
    dual = system.apply(1.0 / (system.values + best.ridge), targets)
    checked = relative_residuals(system.kernel, dual, targets, best.ridge)
    notes = system.rounding_note(best.ridge)
    if max(checked) > LOST_RESIDUAL:
        notes.append(
            f"The relative residual is {max(checked):.1e}: the dual coefficients have no digits."
        )
    notes += selection_notes(curve, best)
    return RidgeFit(
        best.ridge, dual, kept[best.ridge], checked, tuple(reversed(curve)), tuple(notes)
    )


def candidate(
    ridge: float, held_out: Floats, targets: Floats, *, classes: bool, condition: float | None
) -> Candidate:
    """The errors of held-out predictions (m, k) of targets (m, k)."""
    squared = float(np.mean((targets - held_out) ** 2))
    rate = _error_rate(held_out, targets) if classes else None
    return Candidate(ridge, squared, rate, condition)


def best_of(curve: Sequence[Candidate], criterion: Criterion) -> Candidate | None:
    """The one with the smallest error, of equals the one with the largest ridge; None without any.

    `error_rate` counts only where there is one: real targets have squared errors alone.
    """

    def order(one: Candidate) -> tuple[float, float]:
        rate = one.error_rate if criterion == "error_rate" else None
        error = one.mean_squared_error if rate is None else rate
        assert error is not None
        return error, -one.ridge

    return min(
        (one for one in curve if one.mean_squared_error is not None), key=order, default=None
    )


def selection_notes(curve: Sequence[Candidate], best: Candidate) -> list[str]:
    """What a reader must know of a choice between ridges."""
    notes = []
    refused = sum(one.mean_squared_error is None for one in curve)
    if refused:
        notes.append(f"K + ridge I is not positive definite for {refused} of the ridges.")
    ridges = {one.ridge for one in curve}
    if len(ridges) > 1 and best.ridge in (min(ridges), max(ridges)):
        notes.append("The chosen ridge is at the end of the list; a wider list may do better.")
    return notes


def _error_rate(predictions: Floats, targets: Floats) -> float:
    return float(np.mean(predictions.argmax(axis=1) != targets.argmax(axis=1)))
