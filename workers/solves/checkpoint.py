"""Checkpoints in a blob store: arrays in .npy members of a zip, nothing pickled. Those of block CG
here; of training during which a kernel is followed in workers/predictions/kernel_series.py.

A checkpoint belongs to one system (a fingerprint of matrix, ridge and right-hand sides) and is
replaced atomically, so a solve killed at any moment goes on from the last whole iteration.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.blobs import BlobStore
from storage.errors import NotFoundError
from workers.solves.cg_state import CGState
from workers.solves.solution import Float64

CHECKPOINT_VERSION = 2
_BLOCKS = ("x", "q", "c", "p", "anchor")
_HEADER = "header"


def checkpoint_key(solve_id: str) -> str:
    return f"solves/{solve_id}/checkpoint"


def fingerprint(
    matrix_digest: str, array: str, ridge: float, rhs: Float64, *, method: str = "cg"
) -> str:
    """Hex digest of the linear system and of the method, whose state is no use to another.

    Tolerances and limits may change between runs.
    """
    system = [CHECKPOINT_VERSION, matrix_digest, array, ridge.hex(), rhs.shape, method]
    header = json.dumps(system)
    digest = hashlib.sha256(header.encode())
    digest.update(np.ascontiguousarray(rhs, dtype="<f8").data)
    return digest.hexdigest()


def save(blobs: BlobStore, key: str, system: str, state: CGState) -> None:
    """Replace the checkpoint at `key`."""
    facts = {k: v for k, v in vars(state).items() if k not in _BLOCKS}
    write(blobs, key, system, facts, {name: getattr(state, name) for name in _BLOCKS})


def load(blobs: BlobStore, key: str, system: str) -> tuple[CGState | None, str | None]:
    """The state to go on from, or None and, unless there is no checkpoint, why it is not used."""
    found, reason = read(blobs, key, system)
    if found is None:
        return None, reason
    facts: Facts = found[0]
    blocks: dict[str, Any] = {**found[1]}
    facts["certified_history"] = [(int(i), float(r)) for i, r in facts["certified_history"]]
    return CGState(**blocks, **facts), None


Facts = dict[str, Any]  # JSON-able
Arrays = dict[str, NDArray[Any]]


def write(blobs: BlobStore, key: str, system: str, facts: Facts, arrays: Arrays) -> None:
    """Replace the checkpoint at `key` by a state of any kind."""
    header = json.dumps({"version": CHECKPOINT_VERSION, "system": system, "facts": facts})
    members = {**arrays, _HEADER: np.frombuffer(header.encode(), dtype=np.uint8)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **members)
    blobs.put(key, buffer.getbuffer())


def read(blobs: BlobStore, key: str, system: str) -> tuple[tuple[Facts, Arrays] | None, str | None]:
    """What `write` was given, or None and, unless there is no checkpoint, why it is not used.

    A damaged checkpoint or one of another system costs iterations, never correctness, so neither
    is an error; the reason belongs in the warnings of the result.
    """
    try:
        data = blobs.get(key)
    except NotFoundError:
        return None, None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as members:
            header = json.loads(members[_HEADER].tobytes())
            arrays = {name: members[name] for name in members.files if name != _HEADER}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        return None, f"The checkpoint could not be read ({error}); the solve started afresh."
    if header.get("version") != CHECKPOINT_VERSION or header.get("system") != system:
        return None, "The checkpoint belongs to another system; the solve started afresh."
    return (header["facts"], arrays), None
