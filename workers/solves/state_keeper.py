"""When a long iteration writes its state: now and then, and when it is interrupted."""

from __future__ import annotations

import time
from dataclasses import dataclass

from storage.blobs import BlobStore
from workers.solves import checkpoint
from workers.solves.checkpoint import Arrays, Facts

CHECKPOINT_SECONDS = 30.0  # at most this much work is lost


@dataclass(frozen=True)
class State:
    """After a whole step: JSON-able `facts`, and `arrays` that nobody changes any more."""

    facts: Facts
    arrays: Arrays


class StateKeeper:
    """Keeps the latest state of one iteration at a time at `key`.

    An iteration is told from others by its fingerprint `system`, which is given first.
    """

    def __init__(
        self, blobs: BlobStore, key: str, *, every_seconds: float = CHECKPOINT_SECONDS
    ) -> None:
        self._blobs, self._key, self._every_seconds = blobs, key, every_seconds
        self._system = ""
        self._state: State | None = None
        self._saved = time.monotonic()

    def resume(self, system: str) -> State | None:
        """The state to go on from. What another iteration has left is not one."""
        self._system, self._state, self._saved = system, None, time.monotonic()
        found, _ = checkpoint.read(self._blobs, self._key, system)
        return None if found is None else State(*found)

    def offer(self, state: State) -> None:
        """After each step; written if the last time is long enough ago."""
        self._state = state
        if time.monotonic() - self._saved >= self._every_seconds:
            self.save()

    def save(self) -> None:
        """Write the last state that was offered, unless it is written."""
        if self._state is not None:
            checkpoint.write(
                self._blobs, self._key, self._system, self._state.facts, self._state.arrays
            )
            self._state, self._saved = None, time.monotonic()
