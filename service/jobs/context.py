"""What planning and running jobs need, as one value."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from service.jobs.compute import Compute
from service.jobs.shares import Shares
from service.settings import ServiceSettings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from storage.blobs import BlobStore
from storage.catalog import Catalog, LeaseRecord


@dataclass(frozen=True)
class JobContext:
    """The open services that jobs work with."""

    settings: ServiceSettings
    catalog: Catalog
    blobs: BlobStore
    compute: Compute
    metrics: Metrics = field(default_factory=Metrics)
    shares: Shares = field(default_factory=Shares)
    tracing: Tracing = field(default_factory=Tracing)

    @property
    def names(self) -> AbstractContextManager[None]:
        """Held while something is published under an id or deleted by it, in store and catalog:
        so a deletion never takes away what somebody, here or at another service, has just put
        there again."""
        return self.catalog.mutex("names")

    def fenced(self, lease: LeaseRecord) -> JobContext:
        """The same services for whoever holds `lease`, and only while it does."""
        return replace(self, catalog=self.catalog.fenced(lease))
