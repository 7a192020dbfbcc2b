"""One function, run in one worker, that leaves its arrays in the store.

For work on matrices that fit one process: spectra, posteriors, analyses. The arrays never pass
through the process that owns the job; it gets their digests and a summary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from storage import previews
from storage.blobs import open_blobs
from storage.format import MatrixManifest
from storage.matrices import write_array
from workers.solves.dask_tasks import run_to_end
from workers.solves.errors import SolveInterrupted
from workers.solves.holder import cancellation_check

CheckStop = Callable[[], None]


@dataclass(frozen=True)
class Computed:
    """What such a function returns: `arrays` by the names and shapes of the manifest, and a
    JSON-able `summary`."""

    summary: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """`function(*arguments, check_stop)`; `function` is importable and may call `check_stop`
    (raises SolveInterrupted) between long steps. `manifest`: of the matrix that takes the arrays;
    it has been created. None: there are no arrays. `stop_key`: a flag in the store that is looked
    for before arrays are written (workers.stops); "": none."""

    function: Callable[..., Computed]
    arguments: tuple[Any, ...]
    store_url: str
    manifest: MatrixManifest | None
    stop_key: str = ""


@dataclass(frozen=True)
class Written:
    """Digests of the arrays that are now in the store, and the summary with its seconds."""

    summary: dict[str, Any]
    digests: dict[str, str]


def perform(call: Call, check_stop: CheckStop | None = None) -> Written:
    """Run the call in this process. Raises what its function raises."""
    check = check_stop or cancellation_check()
    started = time.monotonic()
    computed = call.function(*call.arguments, check)
    check()
    digests: dict[str, str] = {}
    if call.manifest is not None:
        blobs = open_blobs(call.store_url)
        for layout in call.manifest.arrays:
            if call.stop_key and blobs.size(call.stop_key) is not None:
                raise SolveInterrupted
            values = np.ascontiguousarray(computed.arrays[layout.name], dtype=layout.dtype)
            digests[layout.name] = write_array(blobs, call.manifest, layout.name, values)
            previews.write_array(blobs, call.manifest, layout.name, values)
            check()
    return Written({**computed.summary, "seconds": time.monotonic() - started}, digests)


def run_in_one_worker(
    client: Client | None, call: Call, *, should_stop: Callable[[], bool]
) -> Written | None:
    """Run the call in a worker (in this process without a client); None when told to stop.

    Raises what the function raises, WorkerMemoryError when it keeps killing its worker, and
    ClusterUnavailableError.
    """

    def check_here() -> None:
        if should_stop():
            raise SolveInterrupted

    try:
        if client is None:
            return perform(call, check_here)
        future = client.submit(perform, call, pure=False)
        written: Written = run_to_end(client, [future], should_stop=should_stop)
        return written
    except SolveInterrupted:
        return None
