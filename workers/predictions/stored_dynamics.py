"""`dynamics` jobs: read the kernel in one worker, train, predict through the cross-Gram, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analyses.checks import Floats, check_gram
from workers.one_worker import CheckStop, Computed
from workers.predictions.dynamics import (
    Training,
    exact_descent,
    exact_flow,
    integrated_flow,
    largest_eigenvalue,
    rate_limit,
    stepped_descent,
)
from workers.predictions.eigensystem import Eigensystem, eigensystem
from workers.predictions.losses import Loss, total
from workers.predictions.stored_ridge import NewInputs, through_cross
from workers.solves.dense import load_dense
from workers.solves.predict import score
from workers.solves.source import TileSource


@dataclass(frozen=True)
class DynamicsAsked:
    """`steps` None: gradient flow at `times` (None: the end). Else descent after these numbers of
    steps with `rate` (None: half the limit)."""

    loss: Loss
    times: tuple[float | None, ...]
    steps: tuple[int, ...] | None
    rate: float | None
    ridge: float
    relative: bool


@dataclass(frozen=True)
class Outputs:
    """At time 0: `train` (m, k), `test` (n, k); None: zero."""

    train: Floats | None
    test: Floats | None


def stored_dynamics(
    source: TileSource,
    targets: Floats,
    classes: NDArray[np.int64] | None,
    asked: DynamicsAsked,
    start: Outputs,
    test: NewInputs | None,
    check_stop: CheckStop,
) -> Computed:
    """`train` (m, T, k) and with a test set `test` (n, T, k): outputs at the T times.

    Raises InvalidAnalysisError if the matrix is no Gram matrix, SolveFailedError if training
    diverges or would take too long.
    """
    matrix = load_dense(source, check_stop)
    system: Eigensystem | None = None
    if asked.loss == "squared":
        system = eigensystem(matrix)
        kernel, largest = system.kernel, float(system.values[-1])
    else:
        kernel = check_gram(matrix).values
        largest = largest_eigenvalue(kernel)
    del matrix
    check_stop()
    ridge = asked.ridge * (float(np.trace(kernel)) / len(kernel) if asked.relative else 1.0)
    zero = np.zeros_like(targets)
    training = Training(asked.loss, targets, zero if start.train is None else start.train, ridge)
    rates = Rates.of(asked, largest, ridge)
    duals = _duals(system, kernel, training, asked, rates.used, largest, check_stop)
    train = training.start[:, None, :] + _through(kernel, duals)
    outputs = None
    if test is not None:
        outputs = through_cross(test.cross, np.concatenate(duals, axis=1), check_stop)
    notes = [] if system is None else system.rounding_note(ridge)
    if None not in asked.times:
        notes = []  # finite times invert nothing
    moments = Moments(train, by_moment(outputs, start.test, len(duals)))
    return report(
        asked, training, moments, rates, classes, None if test is None else test.targets, notes
    )


@dataclass(frozen=True)
class Rates:
    """`largest` eigenvalue of the kernel, the learning rate that is stable, the one `used`."""

    largest: float
    limit: float
    used: float

    @classmethod
    def of(cls, asked: DynamicsAsked, largest: float, ridge: float) -> Rates:
        limit = rate_limit(asked.loss, largest, ridge)
        return cls(largest, limit, limit / 2 if asked.rate is None else asked.rate)


@dataclass(frozen=True)
class Moments:
    """Outputs at the T moments: `train` (m, T, k), `test` (n, T, k) or None."""

    train: Floats
    test: Floats | None


def by_moment(outputs: Floats | None, start: Floats | None, moments: int) -> Floats | None:
    """K(X*, X) times all duals side by side (n, T k) -> (n, T, k), plus the outputs at time 0."""
    if outputs is None:
        return None
    parted = outputs.reshape(len(outputs), moments, -1)
    return parted if start is None else parted + start[:, None, :]


def report(
    asked: DynamicsAsked,
    training: Training,
    moments: Moments,
    rates: Rates,
    classes: NDArray[np.int64] | None,
    test_targets: NDArray[Any] | None,
    notes: list[str],
) -> Computed:
    """The arrays and the summary of a training."""
    arrays = {"train": moments.train}
    if moments.test is not None:
        arrays["test"] = moments.test
    if asked.steps is not None and rates.used >= rates.limit:
        notes = [
            *notes,
            f"The learning rate {rates.used:.6g} is not below the limit {rates.limit:.6g}.",
        ]
    return Computed(
        {
            "rows": len(moments.train),
            "ridge": training.ridge,
            "largest_eigenvalue": rates.largest,
            "learning_rate_limit": rates.limit,
            "learning_rate": None if asked.steps is None else rates.used,
            "classes": None if classes is None else classes.tolist(),
            "curve": _curve(asked, training, arrays, classes, test_targets),
            "notes": notes,
        },
        arrays,
    )


def _duals(
    system: Eigensystem | None,
    kernel: Floats,
    training: Training,
    asked: DynamicsAsked,
    rate: float,
    largest: float,
    check_stop: CheckStop,
) -> list[Floats]:
    if system is not None:
        if asked.steps is not None:
            return exact_descent(system, training, asked.steps, rate)
        return exact_flow(system, training, asked.times)
    if asked.steps is not None:
        return stepped_descent(kernel, training, asked.steps, rate, check_stop)
    finite = [time for time in asked.times if time is not None]
    return integrated_flow(kernel, training, finite, largest, check_stop)


def _through(kernel: Floats, duals: Sequence[Floats]) -> Floats:
    outputs = kernel @ np.concatenate(duals, axis=1)
    return outputs.reshape(len(kernel), len(duals), -1)


def _curve(
    asked: DynamicsAsked,
    training: Training,
    arrays: dict[str, Floats],
    classes: NDArray[np.int64] | None,
    test_targets: NDArray[Any] | None,
) -> list[dict[str, Any]]:
    """Per time: the loss on the training set, and scores of both sets."""
    labels = None if classes is None else classes[_columns(training.targets).argmax(axis=1)]
    moments: Sequence[float | None] = asked.times if asked.steps is None else asked.steps
    curve = []
    for number, moment in enumerate(moments):
        train = arrays["train"][:, number]
        row: dict[str, Any] = {
            "time" if asked.steps is None else "steps": moment,
            "train_loss": total(asked.loss, train, training.targets),
        }
        if labels is not None:
            row["train_accuracy"] = score(_columns(train), labels, classes)["accuracy"]
        if "test" in arrays:
            found = arrays["test"][:, number]
            scores = score(_columns(found) if classes is not None else found, test_targets, classes)
            row |= {f"test_{name}": scores[name] for name in scores if name != "confusion"}
        curve.append(row)
    return curve


def _columns(outputs: Floats) -> Floats:
    """One column for each of two classes where a single output tells them apart.

    Targets 0 and 1 and outputs around 0 both choose the second class when positive.
    """
    if outputs.shape[1] > 1:
        return outputs
    return np.concatenate([np.zeros_like(outputs), outputs], axis=1)
