"""Errors of the compute room that reach users (kinds are append-only, see storage/errors.py)."""

from __future__ import annotations

from storage.errors import GramianError


class RepairMismatchError(GramianError):
    """A recomputed tile has another digest than it had; nothing was written."""

    kind = "repair-mismatch"


class TileFailedError(GramianError):
    """A tile failed on every attempt; the tiles already computed are kept."""

    kind = "tile-failed"


class NonFiniteKernelError(GramianError):
    """A tile holds Inf or NaN although its inputs are finite. Kernels refuse to overflow, so this
    is the last line of defence, against a tile stored by something else."""

    kind = "non-finite-kernel"


class WorkerMemoryError(GramianError):
    """A worker process died repeatedly on the same tile, most often out of memory."""

    kind = "worker-died"
    ADVICE = (
        "Most often the worker is out of memory: submit with a smaller tile_rows or give workers"
        " more memory. Stored tiles are kept."
    )


class ClusterUnavailableError(GramianError):
    """No Dask scheduler or no workers could be reached."""

    kind = "cluster-unavailable"
