"""What planning and running jobs need, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from service.jobs.compute import Compute
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
