"""Keeping the leases of this service alive, and hearing of those that are lost."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storage.catalog import Catalog, LeaseRecord
from storage.errors import ConflictError

logger = logging.getLogger(__name__)

# A lease may miss two renewals in a row before it ends.
_RENEWALS_PER_LEASE = 3
_MAX_HOST_CHARACTERS = 40


def new_holder(catalog: Catalog) -> str:
    """What this process calls itself in leases.

    A catalog that is not shared has one service at a time (`lock.py`), which may take at once what
    the one before it had; else every process has a name of its own.
    """
    if not catalog.shared:
        return "service"
    host = socket.gethostname()[:_MAX_HOST_CHARACTERS]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass
class _Kept:
    lease: LeaseRecord
    on_lost: Callable[[], None]
    ends_at: float  # time.monotonic(), at the latest


class LeaseKeeper:
    """Renews the leases it was given until they are dropped. Thread-safe.

    `on_lost` is called once, from the keeper's thread, when a lease is somebody else's, or when it
    ended because the catalog could not be reached for so long: then somebody else may have it.
    """

    def __init__(self, catalog: Catalog, holder: str, lease_seconds: float) -> None:
        self.holder = holder
        self.lease_seconds = lease_seconds
        self._catalog = catalog
        self._changed = threading.Condition()
        self._closing = False
        self._kept: dict[str, _Kept] = {}
        self._thread = threading.Thread(target=self._renew_forever, name="gramian-leases")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops renewing and gives back what is still held."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        for kept in list(self._kept.values()):
            self.drop(kept.lease)

    def keep(self, lease: LeaseRecord, on_lost: Callable[[], None]) -> None:
        with self._changed:
            ends_at = time.monotonic() + self.lease_seconds
            self._kept[lease.name] = _Kept(lease, on_lost, ends_at)

    def drop(self, lease: LeaseRecord) -> None:
        """Give a lease back, so that others need not wait for its end."""
        with self._changed:
            self._kept.pop(lease.name, None)
        try:
            self._catalog.release_lease(lease)
        except Exception:
            # It ends by itself.
            logger.exception("The lease of %s could not be given back.", lease.name)

    @contextmanager
    def held(self, name: str, otherwise: ConflictError) -> Iterator[LeaseRecord]:
        """Hold a lease while something is done that only one service may do at a time.

        Raises `otherwise` if another service has it. What is written to the catalog meanwhile
        should be fenced with the lease (`Catalog.fenced`).
        """
        # A name of its own: two requests to one service exclude each other as well.
        holder = f"{self.holder[:55]}-{secrets.token_hex(4)}"
        lease = self._catalog.acquire_lease(name, holder, self.lease_seconds)
        if lease is None:
            raise otherwise
        self.keep(lease, lambda: logger.warning("The lease of %s is lost.", name))
        try:
            yield lease
        finally:
            self.drop(lease)

    def _renew_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing, self.lease_seconds / _RENEWALS_PER_LEASE
                )
                if self._closing:
                    return
                kept = list(self._kept.values())
            for each in kept:
                self._renew(each)

    def _renew(self, kept: _Kept) -> None:
        asked_at = time.monotonic()
        try:
            held = self._catalog.renew_lease(kept.lease, self.lease_seconds)
        except Exception:
            # The catalog may be away for a moment; the lease is not lost with the first question.
            logger.exception("The lease of %s could not be renewed.", kept.lease.name)
            held = asked_at < kept.ends_at
        else:
            kept.ends_at = asked_at + self.lease_seconds
        if held:
            return
        with self._changed:
            # Dropped meanwhile (its row is gone with the job), or replaced by a newer lease.
            if self._kept.get(kept.lease.name) is not kept:
                return
            del self._kept[kept.lease.name]
        kept.on_lost()
