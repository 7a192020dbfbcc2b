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
    """Keeps the latest state of one iteration at a time, under `prefix`.

    An iteration is told from others by its fingerprint `system`, which is given first. `warnings`:
    of states that could not be read; that costs work, never correctness.
    """

    def __init__(
        self, blobs: BlobStore, prefix: str, *, every_seconds: float = CHECKPOINT_SECONDS
    ) -> None:
        self._blobs, self._prefix, self._every_seconds = blobs, prefix, every_seconds
        self._system = ""
        self._state: State | None = None
        self._saved = time.monotonic()
        self.warnings: list[str] = []

    @property
    def _key(self) -> str:
        return f"{self._prefix}-{self._system[:16]}"

    def resume(self, system: str) -> State | None:
        """The state to go on from, or None. The iteration before this one is over."""
        if self._system not in ("", system):
            self._blobs.delete(self._key)
        self._system, self._state, self._saved = system, None, time.monotonic()
        found, reason = checkpoint.read(self._blobs, self._key, system)
        if reason is not None:
            self.warnings.append(reason)
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
