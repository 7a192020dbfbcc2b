"""Reading a stored matrix again, in a worker, to find what is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from storage.blobs import open_blobs
from storage.format import MatrixManifest
from storage.verify import ChunkName, verify
from workers.one_worker import CheckStop, Computed


def verify_stored(
    store_url: str,
    manifest: MatrixManifest,
    recorded: Mapping[ChunkName, bytes],
    check_stop: CheckStop,
) -> Computed:
    """`problems`: what `storage.verify` finds, as dictionaries."""
    found = verify(open_blobs(store_url), manifest, recorded=recorded, check_stop=check_stop)
    return Computed({"problems": [asdict(problem) for problem in found]})
