"""Errors of solves that reach users, and the one signal that does not."""

from __future__ import annotations

from storage.errors import GramianError
from workers.solves.solution import Outcome


class InvalidSolveError(GramianError):
    """The request contradicts itself or the stored matrices it names. Raised before any work."""

    kind = "invalid-solve"


class SolveFailedError(GramianError):
    """The solve ended without an answer that may be used; the advice says what to change."""

    kind = "solve-failed"


class SolveInterrupted(Exception):  # noqa: N818 - a signal between layers, not a failure
    """`should_stop` became true inside an application. Never leaves this package."""


def require_usable(outcome: Outcome, what: str, advice: str | None = None) -> None:
    """Raises SolveInterrupted for an outcome that was cancelled, SolveFailedError for any other
    without a usable value; `what` begins the sentence."""
    if outcome is Outcome.CANCELLED:
        raise SolveInterrupted
    if not outcome.usable:
        raise SolveFailedError(
            f"{what} ended as {outcome.value}.",
            advice=advice or outcome.advice,
            outcome=outcome.value,
        )
