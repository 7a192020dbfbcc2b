"""Errors of analyses and of mean-field theory."""

from __future__ import annotations

from storage.errors import GramianError


class InvalidAnalysisError(GramianError):
    """The numbers given do not define the quantity asked for: shape, range, rank, or phase."""

    kind = "invalid-analysis"
