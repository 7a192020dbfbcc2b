"""`ridge` and `classify` jobs: read the Gram matrix in one worker, fit, predict, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analyses.checks import Floats
from workers.one_worker import CheckStop, Computed
from workers.predictions.eigensystem import eigensystem
from workers.predictions.ridge import Criterion, RidgeFit, fit_ridge, random_folds
from workers.solves.dense import load_dense
from workers.solves.predict import score
from workers.solves.products import multiply_tiles
from workers.solves.source import TileSource, tiles_between
from workers.solves.targets import accuracy, confusion, predicted_classes


@dataclass(frozen=True)
class NewInputs:
    """`cross`: K(X*, X), (n, m). `targets`: labels (n,) of classes or real (n, k), if known."""

    cross: TileSource
    targets: NDArray[Any] | None


@dataclass(frozen=True)
class RidgeAsked:
    """`ridges`: as given; `relative`: in units of tr(K)/m. `folds`: None for leave-one-out."""

    ridges: tuple[float, ...]
    relative: bool
    folds: int | None
    seed: int
    criterion: Criterion = "mean_squared_error"


def stored_ridge(
    source: TileSource,
    targets: Floats,
    classes: NDArray[np.int64] | None,
    asked: RidgeAsked,
    test: NewInputs | None,
    check_stop: CheckStop,
) -> Computed:
    """`dual` (m, k), `held_out` (m, k), and with a test set `predictions` (n, k); with classes
    also the class of each: `held_out_labels` (m,), `labels` (n,).

    Raises InvalidAnalysisError if the matrix is no Gram matrix, SolveFailedError if no ridge makes
    it positive definite.
    """
    matrix = load_dense(source, check_stop)
    system = eigensystem(matrix)
    del matrix
    check_stop()
    unit = system.mean if asked.relative else 1.0
    folds = None if asked.folds is None else random_folds(system.size, asked.folds, asked.seed)
    fit = fit_ridge(
        system,
        targets,
        [unit * ridge for ridge in asked.ridges],
        folds=folds,
        classes=classes is not None,
        criterion=asked.criterion,
    )
    predictions = None if test is None else through_cross(test.cross, fit.dual, check_stop)
    return report(
        fit,
        asked,
        targets,
        classes,
        unit=unit,
        rounding=system.rounding,
        predictions=predictions,
        test_targets=None if test is None else test.targets,
    )


def report(
    fit: RidgeFit,
    asked: RidgeAsked,
    targets: Floats,
    classes: NDArray[np.int64] | None,
    *,
    unit: float,
    rounding: float | None,
    predictions: Floats | None,
    test_targets: NDArray[Any] | None,
) -> Computed:
    """The arrays and the summary of a fit; `unit` is that of relative ridges (1 if absolute)."""
    summary = _summary(fit, unit, rounding, asked)
    arrays = {"dual": fit.dual, "held_out": fit.held_out}
    if classes is not None:
        guessed = predicted_classes(fit.held_out, classes)
        truth = classes[targets.argmax(axis=1)]
        arrays["held_out_labels"] = guessed.astype(np.float64)
        summary |= {
            "classes": classes.tolist(),
            "held_out": {
                "accuracy": accuracy(guessed, truth),
                "confusion": confusion(guessed, truth, classes).tolist(),
            },
        }
    if predictions is not None:
        arrays["predictions"] = predictions
        if classes is not None:
            arrays["labels"] = predicted_classes(predictions, classes).astype(np.float64)
        summary["test"] = score(predictions, test_targets, classes)
    return Computed(summary, arrays)


def through_cross(cross: TileSource, dual: Floats, check_stop: CheckStop) -> Floats:
    """K(X*, X) α: (m, k) -> (n, k), each stored tile read once, products in float64."""
    tiles = tiles_between(cross.layout, 0, cross.layout.stored_chunks)
    return multiply_tiles(cross, tiles, dual, precise=True, check_stop=check_stop).values


def _summary(
    fit: RidgeFit, unit: float, rounding: float | None, asked: RidgeAsked
) -> dict[str, Any]:
    chosen = next(c for c in fit.curve if c.ridge == fit.ridge)
    curve: Sequence[dict[str, Any]] = [
        {**asdict(c), "relative_ridge": c.ridge / unit if asked.relative else None}
        for c in fit.curve
    ]
    return {
        "rows": len(fit.dual),
        "selection": "leave_one_out" if asked.folds is None else f"{asked.folds}-fold",
        "criterion": asked.criterion,
        "ridge": fit.ridge,
        "held_out_mean_squared_error": chosen.mean_squared_error,
        "condition": chosen.condition,
        "rounding": rounding,
        "residual": max(fit.residuals),
        "residuals": fit.residuals,
        "curve": curve,
        "notes": list(fit.notes),
    }
