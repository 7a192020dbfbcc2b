"""What the service answers with, as plain values that tolerate newer fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Json = dict[str, Any]

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Dataset:
    """A stored data set. `document` holds all that the service said, also newer fields."""

    id: str
    shape: tuple[int, ...]
    dtype: str
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        return cls(document["id"], tuple(document["shape"]), document["dtype"], document)


@dataclass(frozen=True)
class Job:
    """A job as it was when it was asked for."""

    id: str
    type: str
    state: str
    matrix: str | None
    error: Json | None
    progress: Json | None
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        d = document
        return cls(d["id"], d["type"], d["state"], d["matrix"], d["error"], d["progress"], document)

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class Matrix:
    """A stored matrix; `arrays` maps names to what the service says about them."""

    id: str
    kind: str
    state: str
    digest: str | None
    arrays: dict[str, Json]
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        arrays = {array["name"]: array for array in document["arrays"]}
        d = document
        return cls(d["id"], d["kind"], d["state"], d["digest"], arrays, document)


@dataclass(frozen=True)
class Answer:
    """What a finished job has made: the numbers of its summary, and its stored arrays by name
    (read `arrays` for their shapes: it depends on the task)."""

    summary: Json
    arrays: dict[str, NDArray[np.floating]] = field(repr=False)


@dataclass(frozen=True)
class Event:
    """One event of a job: `state`, `progress` or `cancelling`. Newer services may send others."""

    id: int
    type: str
    data: Json
