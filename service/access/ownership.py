"""What callers may do to things that they can see."""

from __future__ import annotations

from collections.abc import Iterable

from service.access.identity import Caller
from storage.catalog import Catalog
from storage.errors import NotFoundError


def give_up(catalog: Catalog, caller: Caller, thing_id: str, *, keep_reading: bool = False) -> bool:
    """Whether a thing that `caller` no longer wants may go.

    False: others own it too; it stays for them, and `caller` is no longer an owner (but a reader,
    if `keep_reading`). Administrators decide for all. Raises NotOwnerError for readers.
    """
    if caller.is_admin:
        return True
    return not catalog.leave(thing_id, caller.owner, keep_reading=keep_reading)


def check_readable(catalog: Catalog, caller: Caller, thing_ids: Iterable[str]) -> None:
    """Raises NotFoundError, as for things that do not exist."""
    if caller.is_admin:
        return
    hidden = catalog.unreadable(thing_ids, caller.owner)
    if hidden:
        raise NotFoundError(
            f"There is no {', '.join(hidden)}.",
            advice="GET /v1/datasets and /v1/matrices list what you may read.",
            missing=hidden,
        )
