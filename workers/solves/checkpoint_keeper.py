"""When block CG writes its state, and what watchers hear of its iterations."""

from __future__ import annotations

import time

from storage.blobs import BlobStore
from workers.solves import checkpoint
from workers.solves.cg_state import CGProgress, CGState
from workers.solves.history import thinned
from workers.solves.request import OnProgress, SolveRequest

EVENT_POINTS = 64  # of the residual history in one event


class CheckpointKeeper:
    """Writes the state now and then, and whenever the solve ends unfinished.

    system: the fingerprint (checkpoint.py) of the linear system. Without a checkpoint id in the
    request nothing is written.
    """

    def __init__(
        self, blobs: BlobStore, request: SolveRequest, system: str, on_progress: OnProgress
    ) -> None:
        self._blobs, self._system, self._on_progress = blobs, system, on_progress
        self._every_seconds = request.checkpoint_seconds
        self._key: str | None = None
        self._state: CGState | None = None
        self._saved = time.monotonic()
        if request.checkpoint_id is not None:
            self._key = checkpoint.checkpoint_key(request.checkpoint_id)

    def load(self) -> tuple[CGState | None, str | None]:
        """The state to go on from, and why there is none although there was a checkpoint."""
        if self._key is None:
            return None, None
        return checkpoint.load(self._blobs, self._key, self._system)

    def iterated(self, progress: CGProgress, state: CGState) -> None:
        self._state = state
        if time.monotonic() - self._saved >= self._every_seconds:
            self.save()
        self._on_progress(
            {
                "phase": "solve",
                "done": progress.applications,
                "total": None,
                "iteration": progress.iteration,
                "residual": progress.residual,
                "certified": progress.certified,
                "history": thinned(state.residual_history, EVENT_POINTS),
            }
        )

    def save(self) -> None:
        if self._key is not None and self._state is not None:
            checkpoint.save(self._blobs, self._key, self._system, self._state)
            self._saved = time.monotonic()

    def forget(self) -> None:
        """Called when nothing is left to do; a solve that can go on keeps its checkpoint."""
        if self._key is not None:
            self._blobs.delete(self._key)
