"""What planning and running jobs need, as one value."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from service.jobs.compute import Compute
from service.jobs.shares import Shares
from service.metrics import Metrics
from service.settings import ServiceSettings
from storage.blobs import BlobStore
from storage.catalog import Catalog


@dataclass(frozen=True)
class JobContext:
    """The open services that jobs work with."""

    settings: ServiceSettings
    catalog: Catalog
    blobs: BlobStore
    compute: Compute
    # Held while something is published under an id or deleted by it, in store and catalog: so a
    # deletion never takes away what somebody has just put there again.
    names: threading.Lock = field(default_factory=threading.Lock)
    metrics: Metrics = field(default_factory=Metrics)
    shares: Shares = field(default_factory=Shares)
