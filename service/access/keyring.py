"""From the key in a request to who is asking.

Keys of the settings (by SHA-256) are for operators; all others are in the catalog. Both are known
only by digest. A key is 256 random bits, so a fast hash protects it and looking its digest up in
an index tells nobody how near a guess was.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from service.access.identity import Caller, Scope, operator
from storage.catalog import Catalog, KeyRecord

_KEY = re.compile(r"(gk_[0-9a-f]{8})_[A-Za-z0-9_-]{43}")
SECRET_BYTES = 32  # far beyond guessing


@dataclass(frozen=True)
class NewKey:
    """`id` may be shown and logged; `key` is for its holder only; `digest` is what is stored."""

    id: str
    key: str
    digest: str


def new_key() -> NewKey:
    # The id has random bits of its own: showing it tells nothing of the secret.
    key_id = f"gk_{secrets.token_hex(4)}"
    key = f"{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return NewKey(key_id, key, hash_key(key))


def hash_key(key: str) -> str:
    """SHA-256 hex digest under which a key is stored or configured."""
    return hashlib.sha256(key.encode()).hexdigest()


def presented_key(authorization: str) -> str:
    """The key in an `Authorization` value; empty if it carries none."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


class Keyring:
    """Finds the caller of a key. Thread-safe.

    A key that was found is believed for `cache_seconds`, so that clients which poll do not ask the
    catalog each time. `forget` ends that at once for keys revoked through this process.
    """

    def __init__(
        self, catalog: Catalog, operator_digests: tuple[str, ...], *, cache_seconds: float
    ) -> None:
        self._catalog = catalog
        self._operators = operator_digests
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[KeyRecord, float]] = {}

    def operator(self, key: str) -> Caller | None:
        """The caller if `key` is one of the settings'; asks nobody."""
        presented = hash_key(key)
        # No short cut: every digest is compared, so the time does not tell which one is near.
        matches = [d for d in self._operators if secrets.compare_digest(presented, d)]
        return operator(matches[0]) if key and matches else None

    def cached(self, key: str) -> Caller | None:
        """The caller of a key that was looked up a moment ago."""
        with self._lock:
            record, until = self._known.get(hash_key(key), (None, 0.0))
        return _caller(record) if record is not None and time.monotonic() < until else None

    def look_up(self, key: str) -> Caller | None:
        """The caller of a key in the catalog, or None. Blocking."""
        if not _KEY.fullmatch(key):
            return None
        digest = hash_key(key)
        record = self._catalog.key_by_digest(digest)
        with self._lock:
            if record is None:
                self._known.pop(digest, None)
                return None
            self._known[digest] = (record, time.monotonic() + self._cache_seconds)
        return _caller(record)

    def forget(self, key_id: str) -> None:
        with self._lock:
            self._known = {d: e for d, e in self._known.items() if e[0].id != key_id}


def _caller(record: KeyRecord) -> Caller | None:
    if not record.active(datetime.now(UTC)):
        return None
    return Caller(record.owner, record.id, Scope(record.scope), record.quota)
