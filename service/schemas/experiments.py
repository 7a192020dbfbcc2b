"""Wire models of the papers' experiments and their results."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from service.schemas.common import Wire

EXAMPLE_EXPERIMENT = "unit-circle"


class ExperimentOut(Wire):
    """One experiment that `gramian paper` knows."""

    name: str
    summary: str
    finished_at: datetime | None = Field(
        description="When its result was written into the data folder of this service; null: never."
    )


class ComparisonOut(Wire):
    """One published number or statement, and what came out here."""

    quantity: str
    published: str
    here: str


class ExperimentResult(Wire):
    """The result of one experiment, as `gramian paper` writes it."""

    experiment: str
    title: str
    source: str
    comparisons: list[ComparisonOut]
    differences: list[str] = Field(
        description="In which ways this is not the published experiment."
    )
    table: list[dict[str, str | int | float | None]] = Field(description="Rows by column.")
    settings: dict[str, Any] = Field(description="Enough to repeat it.")
