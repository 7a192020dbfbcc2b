"""What it takes to judge one ridge of a matrix of any size, whoever does it.

`large_ridge.py` tries the ridges of a request; folded_ridge.py and left_out_ridge.py know how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.predictions.stored_ridge import RidgeAsked
from workers.solves.scratch import Scratch
from workers.solves.solution import Float64
from workers.solves.source import StoredTiles
from workers.solves.tiled_cholesky import BLOCK_ROWS


@dataclass(frozen=True)
class LargeRidge:
    """A request: (K + ridge·I) A = Y for each ridge of `asked`.

    classes (k,): of the columns, if the targets encode labels. cross: K(X*, X) for predictions.
    name: of this request, unique; what is kept of it lies under that name.
    block_rows: least edge of a block of the factors of leave-one-out.
    """

    source: StoredTiles
    targets: Float64  # (m, k)
    classes: NDArray[np.int64] | None
    asked: RidgeAsked
    cross: StoredTiles | None
    test_targets: NDArray[Any] | None
    name: str
    block_rows: int = BLOCK_ROWS


@dataclass(frozen=True)
class Fit:
    """`dual` (m, k) of all samples, its certified relative residuals per column, and estimates of
    the extreme eigenvalues of K + ridge·I, from inside the spectrum."""

    dual: Float64
    residuals: list[float]
    smallest: float
    largest: float


@dataclass(frozen=True)
class Trial:
    """`held_out` (m, k): what models without the sample predict. `fit`: None if nobody has solved
    for all samples on the way."""

    held_out: Float64
    fit: Fit | None = None


class Trials(Protocol):
    """How ridges of one request are tried."""

    def __call__(self, ridge: float, place: dict[str, Any]) -> Trial | None:
        """None where K + ridge·I is not positive definite. `place`: for reports of progress.

        Raises SolveInterrupted, and SolveFailedError where the answer would have no digits.
        """
        ...

    def close(self) -> None: ...


def keep(kept: Scratch, ridge: float, trial: Trial) -> None:
    """Store a finished trial, its held-out predictions last: with them, all is there."""
    if trial.fit is not None:
        facts = [trial.fit.smallest, trial.fit.largest, *trial.fit.residuals]
        kept.write(f"{name_of(ridge)}-facts", np.asarray(facts, dtype=np.float64))
        kept.write(f"{name_of(ridge)}-dual", trial.fit.dual)
    kept.write(name_of(ridge), trial.held_out)


def found(kept: Scratch, ridge: float, shape: tuple[int, int], *, with_fit: bool) -> Trial | None:
    """A trial that was kept; None if it must be made again."""
    held_out = kept.found(name_of(ridge), shape, "float64")
    if held_out is None or not with_fit:
        return None if held_out is None else Trial(held_out)
    facts = kept.found(f"{name_of(ridge)}-facts", (2 + shape[1],), "float64")
    dual = kept.found(f"{name_of(ridge)}-dual", shape, "float64")
    if facts is None or dual is None:
        return None
    return Trial(held_out, Fit(dual, facts[2:].tolist(), float(facts[0]), float(facts[1])))


def name_of(ridge: float) -> str:
    """Of what is kept for a ridge, in the store."""
    return ridge.hex().replace("+", "")
