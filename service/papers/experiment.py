"""What an experiment is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.papers.lab import Lab
from service.papers.report import Report

Size = TypeVar("Size")


@dataclass(frozen=True)
class Experiment(Generic[Size]):
    """One experiment of a paper.

    `small` takes minutes on two cores, `full` is the published size; `measure` does the work.
    `takes_data`: whether it uses images that the user can choose.
    """

    name: str
    summary: str
    small: Size
    full: Size
    measure: Callable[[Lab, Size], Report]
    takes_data: bool
