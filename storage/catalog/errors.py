"""Errors of the catalog, in the vocabulary of `storage.errors`."""

from __future__ import annotations

from storage.errors import ConflictError, GramianError, InvalidKeyError


class CatalogUnavailableError(GramianError):
    """The catalog's database cannot be opened or used now, or its schema is not the one that this
    library needs."""

    kind = "catalog-unavailable"


class IdempotencyConflictError(ConflictError):
    """An idempotency key was used before, with another request body."""

    kind = "idempotency-conflict"


class InvalidCursorError(InvalidKeyError):
    """A page cursor that this listing has not handed out."""

    kind = "invalid-cursor"


class LeaseLostError(ConflictError):
    """What the writer held a lease for is in other hands by now; nothing was written."""

    kind = "lease-lost"


class NotOwnerError(GramianError):
    """Only an owner may do this; readers may look."""

    kind = "forbidden"
