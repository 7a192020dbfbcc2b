"""Page cursors: opaque to callers, stable while rows are inserted.

Listings run from the newest row to the oldest. A cursor names the last row of a page by its
(created_at, id), not by an offset, so rows that arrive meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime

from storage.catalog.errors import InvalidCursorError

_MAX_CURSOR_CHARACTERS = 256


def encode_cursor(listing: str, created_at: datetime, row_id: str) -> str:
    """`listing` names what is listed, so that a cursor of one listing is refused by another."""
    position = [listing, created_at.astimezone(UTC).isoformat(), row_id]
    text = json.dumps(position, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(listing: str, cursor: str) -> tuple[datetime, str]:
    """(created_at, id) of the row after which the page starts. Raises InvalidCursorError."""
    try:
        if len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError("too long")
        padded = cursor + "=" * (-len(cursor) % 4)
        position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        name, moment, row_id = position
        created_at = datetime.fromisoformat(moment).astimezone(UTC)
        # Only what we have written ourselves decodes to something that encodes back to it.
        if name != listing or encode_cursor(name, created_at, row_id) != cursor:
            raise ValueError("not canonical")
        if "\x00" in row_id:
            raise ValueError("not an id")
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError) as error:
        raise InvalidCursorError(
            "The page cursor is not one that this listing has handed out.",
            advice="Use `next` of the previous page unchanged, or start without a cursor.",
        ) from error
    return created_at, row_id
