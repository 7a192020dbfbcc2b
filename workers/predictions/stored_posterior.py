"""`posterior` jobs: read the kernels in one worker, condition or train, report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analyses.checks import Floats, check_gram
from workers.one_worker import CheckStop, Computed
from workers.predictions.eigensystem import eigensystem
from workers.predictions.posterior import Posterior, Wanted, gaussian_posterior, trained_ensemble
from workers.solves.dense import load_dense
from workers.solves.operator import diagonal_part
from workers.solves.predict import score
from workers.solves.source import TileSource


@dataclass(frozen=True)
class Kernels:
    """`gram` (m, m), `cross` (n, m) of one kernel."""

    gram: TileSource
    cross: TileSource


@dataclass(frozen=True)
class PosteriorAsked:
    """`trained`: None for the Gaussian-process posterior, else the kernel of training. `test`:
    K_ss of the prior, None for the mean alone. `time` None: trained to the end."""

    prior: Kernels
    trained: Kernels | None
    test: TileSource | None
    wanted: Wanted
    ridge: float
    relative: bool
    time: float | None


def stored_posterior(
    asked: PosteriorAsked,
    targets: Floats,
    classes: NDArray[np.int64] | None,
    test_targets: NDArray[Any] | None,
    check_stop: CheckStop,
) -> Computed:
    """`mean` (n, k), and `variance` (n,) or `covariance` (n, n).

    Raises InvalidAnalysisError if a Gram is none, SolveFailedError if it is not positive definite.
    """
    prior = _prior(asked, check_stop)
    cross = load_dense(asked.prior.cross, check_stop, dtype="float64")
    kernel = check_gram(load_dense(asked.prior.gram, check_stop)).values
    if asked.trained is None:
        ridge = _absolute(asked, kernel)
        check_stop()
        found = gaussian_posterior(kernel, cross, targets, ridge, prior, asked.wanted)
    else:
        system = eigensystem(load_dense(asked.trained.gram, check_stop))
        ridge = _absolute(asked, system.kernel)
        trained_cross = load_dense(asked.trained.cross, check_stop, dtype="float64")
        check_stop()
        found = trained_ensemble(
            system, trained_cross, targets, asked.time, ridge, kernel, cross, prior, asked.wanted
        )
    return report(found, asked, ridge, classes, test_targets)


def _prior(asked: PosteriorAsked, check_stop: CheckStop) -> Floats | None:
    if asked.test is None:
        return None
    if asked.wanted == "covariance":
        return load_dense(asked.test, check_stop, dtype="float64")
    return diagonal_part(asked.test, 0, asked.test.layout.grid[0])


def _absolute(asked: PosteriorAsked, kernel: Floats) -> float:
    unit = float(np.trace(kernel)) / len(kernel) if asked.relative else 1.0
    return asked.ridge * unit


def report(
    found: Posterior,
    asked: PosteriorAsked,
    ridge: float,
    classes: NDArray[np.int64] | None,
    test_targets: NDArray[Any] | None,
) -> Computed:
    """The arrays and the summary of a posterior; `ridge` in units of the kernel."""
    summary: dict[str, Any] = {
        "rows": len(found.mean),
        "ridge": ridge,
        "residual": None if found.residuals is None else max(found.residuals),
        "residuals": found.residuals,
        "test": score(found.mean, test_targets, classes),
        "classes": None if classes is None else classes.tolist(),
        "notes": list(found.notes),
    }
    arrays = {"mean": found.mean}
    if found.spread is not None:
        arrays[asked.wanted] = found.spread
        variances = found.spread if found.spread.ndim == 1 else np.diagonal(found.spread)
        summary["mean_variance"] = float(variances.mean())
    return Computed(summary, arrays)
