"""Support vector machines on a stored Gram matrix: LIBSVM through scikit-learn, in one worker.

Classification is one against one: for each pair of classes a < b a machine on their samples, whose
decision is positive for b; the class with most votes wins, the first one on ties (as
scikit-learn's SVC and LIBSVM do). Regression is one epsilon-insensitive machine per column.

Every machine comes with a certificate: the gap between its primal and its dual objective, from
fresh float64 products with the stored matrix. It bounds how far from the optimum the machine is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import MissingExtraError
from workers.one_worker import Computed
from workers.solves.dense import load_dense
from workers.solves.errors import SolveFailedError
from workers.solves.predict import score
from workers.solves.products import multiply_tiles
from workers.solves.solution import Float64, Outcome
from workers.solves.source import TileSource, tiles_between
from workers.solves.targets import accuracy, confusion

MAX_SVM_CLASSES = 32
"""One machine per pair of classes: 496."""

CACHE_MEGABYTES = 200
"""Kernel rows that LIBSVM keeps while it works."""

SUSPICIOUS_GAP = 1e-2
"""Relative duality gap above which the result says so."""


@dataclass(frozen=True)
class SvmSettings:
    """`cost`: C, the weight of violations. `epsilon`: half-width of the tube (regression).
    `tolerance`: of the optimality conditions. `max_iterations`: of each machine."""

    cost: float = 1.0
    epsilon: float = 0.1
    tolerance: float = 1e-3
    max_iterations: int = 10_000_000


@dataclass(frozen=True)
class Machine:
    """One trained machine: f(x) = k(x, X) coefficients (m,) + intercept."""

    coefficients: Float64
    intercept: float
    iterations: int
    objective: float
    gap: float  # relative to the objective
    curvature: float  # coefficients^T K coefficients
    finished: bool


def pairs_of(classes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Indices (a, b), a < b, in the order of the columns of `dual` and `decisions`."""
    return list(combinations(range(len(classes)), 2))


def stored_svm(
    source: TileSource,
    targets: NDArray[Any],
    classes: NDArray[np.int64] | None,
    settings: SvmSettings,
    cross: TileSource | None,
    test_targets: NDArray[Any] | None,
    check_stop: Callable[[], None],
) -> Computed:
    """Machines for labels (m,) with their ascending `classes` (c,), or real targets (m, k).

    Arrays: `dual` (m, c(c-1)/2 or k); with `cross` (n, m) also `decisions` (n, c(c-1)/2) and
    `labels` (n,), or `predictions` (n, k). Raises MissingExtraError without scikit-learn,
    SolveFailedError for entries that are not finite.
    """
    gram = load_dense(source, check_stop, dtype="float64")
    if not np.isfinite(gram).all():
        raise SolveFailedError(
            "The Gram matrix has entries that are not finite.",
            advice="Compute it again.",
            outcome=Outcome.NON_FINITE.value,
        )
    if classes is None:
        machines = [_regression(gram, column, settings, check_stop) for column in targets.T]
    else:
        machines = [
            _classification(gram, targets, classes[a], classes[b], settings, check_stop)
            for a, b in pairs_of(classes)
        ]
    dual = np.stack([machine.coefficients for machine in machines], axis=1)
    intercepts = np.array([machine.intercept for machine in machines])
    trained = gram @ dual + intercepts
    arrays: dict[str, NDArray[Any]] = {"dual": dual}
    summary = _summary(machines, len(gram), classes)
    if classes is None:
        summary["training"] = score(trained, targets, None)
    else:
        summary["training"] = {"accuracy": accuracy(votes(trained, classes), targets)}
    if cross is not None:
        tiles = tiles_between(cross.layout, 0, cross.layout.stored_chunks)
        values = multiply_tiles(cross, tiles, dual, precise=True, check_stop=check_stop).values
        values = values + intercepts
        if classes is None:
            arrays["predictions"] = values
            summary |= score(values, test_targets, None)
        else:
            labels = votes(values, classes)
            arrays |= {"decisions": values, "labels": labels}
            if test_targets is not None:
                summary["accuracy"] = accuracy(labels, test_targets)
                summary["confusion"] = confusion(labels, test_targets, classes).tolist()
    return Computed(summary, arrays)


def votes(decisions: Float64, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class (n,) with most votes of `decisions` (n, c(c-1)/2); the first one on ties."""
    counts = np.zeros((len(decisions), len(classes)), dtype=np.int64)
    for column, (a, b) in enumerate(pairs_of(classes)):
        for_b = decisions[:, column] > 0
        counts[for_b, b] += 1
        counts[~for_b, a] += 1
    chosen: NDArray[np.int64] = classes[counts.argmax(axis=1)]
    return chosen


def _classification(
    gram: Float64,
    labels: NDArray[Any],
    first: int,
    second: int,
    settings: SvmSettings,
    check_stop: Callable[[], None],
) -> Machine:
    check_stop()
    rows = np.flatnonzero((labels == first) | (labels == second))
    square = gram if len(rows) == len(gram) else gram[np.ix_(rows, rows)]
    signs = np.where(labels[rows] == second, 1.0, -1.0)
    fitted, finished = _fit("SVC", square, signs, settings)
    own = np.zeros(len(rows))
    own[fitted.support_] = fitted.dual_coef_[0]
    intercept = float(fitted.intercept_[0])
    image = square @ own
    curvature = float(own @ image)
    loss = settings.cost * np.maximum(0.0, 1.0 - signs * (image + intercept)).sum()
    primal, dual = 0.5 * curvature + loss, float(np.abs(own).sum()) - 0.5 * curvature
    coefficients = np.zeros(len(gram))
    coefficients[rows] = own
    return _machine(coefficients, intercept, fitted, primal, dual, curvature, finished)


def _regression(
    gram: Float64, target: Float64, settings: SvmSettings, check_stop: Callable[[], None]
) -> Machine:
    check_stop()
    fitted, finished = _fit("SVR", gram, target, settings, epsilon=settings.epsilon)
    own = np.zeros(len(gram))
    own[fitted.support_] = fitted.dual_coef_[0]
    intercept = float(fitted.intercept_[0])
    image = gram @ own
    curvature = float(own @ image)
    outside = np.maximum(0.0, np.abs(target - image - intercept) - settings.epsilon)
    primal = 0.5 * curvature + settings.cost * outside.sum()
    dual = float(target @ own) - settings.epsilon * float(np.abs(own).sum()) - 0.5 * curvature
    return _machine(own, intercept, fitted, primal, dual, curvature, finished)


def _fit(
    name: str, square: Float64, targets: Float64, settings: SvmSettings, **options: float
) -> tuple[Any, bool]:
    """A fitted scikit-learn estimator, and whether it ended by itself."""
    try:
        from sklearn import svm
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise MissingExtraError(
            "This worker has no scikit-learn, which support vector machines need.",
            advice="Install gramian[svm] on the service and the workers.",
        ) from error
    estimator = getattr(svm, name)(
        kernel="precomputed",
        C=settings.cost,
        tol=settings.tolerance,
        max_iter=settings.max_iterations,
        cache_size=CACHE_MEGABYTES,
        **options,
    )
    with warnings.catch_warnings():
        # Told in the summary instead: a worker's warnings reach nobody.
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(square, targets)
    iterations = int(np.max(estimator.n_iter_))
    return estimator, iterations < settings.max_iterations


def _machine(
    coefficients: Float64,
    intercept: float,
    fitted: Any,
    primal: float,
    dual: float,
    curvature: float,
    finished: bool,
) -> Machine:
    scale = max(abs(primal), abs(dual), np.finfo(float).tiny)
    return Machine(
        coefficients,
        intercept,
        int(np.max(fitted.n_iter_)),
        float(primal),
        float((primal - dual) / scale),
        curvature,
        finished,
    )


def _summary(
    machines: Sequence[Machine], rows: int, classes: NDArray[np.int64] | None
) -> dict[str, Any]:
    gap = max(machine.gap for machine in machines)
    notes = []
    if not all(machine.finished for machine in machines):
        notes.append(
            "A machine reached max_iterations before its optimality conditions held: raise it,"
            " lower the cost, or scale the kernel."
        )
    if gap > SUSPICIOUS_GAP:
        notes.append(
            f"The duality gap is {gap:.2g} of the objective: the machines are not optimal to"
            " more digits. Lower the tolerance."
        )
    if any(machine.curvature < 0 for machine in machines):
        notes.append(
            "The matrix is not positive semidefinite, so the machines are stationary points and"
            " perhaps not optimal. Store it in float64, or add a ridge."
        )
    supports = [int(np.count_nonzero(machine.coefficients)) for machine in machines]
    used = np.any([machine.coefficients != 0 for machine in machines], axis=0)
    return {
        "rows": rows,
        "classes": None if classes is None else classes.tolist(),
        "pairs": None
        if classes is None
        else [[int(classes[a]), int(classes[b])] for a, b in pairs_of(classes)],
        "intercepts": [machine.intercept for machine in machines],
        "support_vectors": int(np.count_nonzero(used)),
        "support_vectors_of_machines": supports,
        "iterations": [machine.iterations for machine in machines],
        "objectives": [machine.objective for machine in machines],
        "relative_duality_gap": gap,
        "warnings": notes,
    }
