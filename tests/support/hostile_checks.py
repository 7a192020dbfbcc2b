"""What must hold whatever bytes an upload has and whatever a kernel spec says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from storage import datasets
from storage.blobs import open_blobs
from storage.errors import GramianError, InvalidArrayError, TooLargeError
from storage.uploads import UploadLimits, read_upload
from workers.kernels import InvalidKernelError, cost, parse_kernel
from workers.kernels.layers import MAX_LAYERS

LIMITS = UploadLimits(file_bytes=1 << 16, array_bytes=1 << 16)


def attempt(work: Callable[[], Any], *expected: type[GramianError]) -> tuple[Any, bool]:
    """What `work` returns, and True; or its error, which must be one of `expected`, and False."""
    try:
        return work(), True
    except expected as error:
        return error, False


def check_upload(data: bytes) -> None:
    """A file becomes a data set with its numbers, or is refused and leaves nothing behind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, scratch = folder / "upload", folder / "scratch"
        scratch.mkdir()
        file.write_bytes(data)
        found, fine = attempt(
            lambda: read_upload(file, filename="x.npy", limits=LIMITS, scratch=scratch),
            *(InvalidArrayError, TooLargeError),
        )
        assert {path.name for path in folder.iterdir()} == {"scratch", "upload"}
        assert sum(path.stat().st_size for path in scratch.iterdir()) <= 2 * LIMITS.array_bytes
        if not fine:
            assert found.advice
            assert len(str(found)) < 1000
            return
        assert set(found) in ({"x"}, {"x", "y"})
        assert sum(array.nbytes for array in found.values()) <= 2 * LIMITS.array_bytes
        blobs = open_blobs(folder / "store")
        info, fine = attempt(
            lambda: datasets.ingest(blobs, found["x"], found.get("y"), limits=LIMITS), GramianError
        )
        if fine:
            rows = datasets.read_rows(blobs, info, 0, info.shape[0])
            np.testing.assert_array_equal(rows, found["x"].astype(info.dtype))
        else:
            assert list(blobs.list("datasets")) == []


def check_spec(source: Any) -> None:
    """A spec becomes a network within bounds, or is refused with advice."""
    spec, fine = attempt(lambda: parse_kernel(source), InvalidKernelError)
    if not fine:
        json.dumps(spec.details)
        assert spec.advice
        return
    assert len(spec.layers) <= MAX_LAYERS
    assert parse_kernel(spec.canonical()).digest == spec.digest
    shape = (6, 6, 3) if spec.spatial else (8,)
    found, fine = attempt(lambda: cost.kernel_cost(spec, shape, "float32"), GramianError)
    assert not fine or found.flops_per_pair < 1e13
