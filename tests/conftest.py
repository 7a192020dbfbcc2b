"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from storage.blobs import BlobStore, open_blobs
from workers.cluster import ClusterSettings, connect, start_local


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """An empty store in a temporary folder."""
    return open_blobs(tmp_path / "store")


@pytest.fixture(scope="session")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a two-process cluster that tests must leave unharmed."""
    settings = ClusterSettings(
        n_workers=2,
        scratch_dir=tmp_path_factory.mktemp("dask"),
        compilation_cache_dir=tmp_path_factory.mktemp("xla"),
    )
    with start_local(settings) as cluster, connect(settings, cluster) as client:
        yield client


@pytest.fixture
def own_client(tmp_path: Path) -> Iterator[Client]:
    """A client of a two-process cluster of the test's own, to do violence to."""
    settings = ClusterSettings(
        n_workers=2,
        scratch_dir=tmp_path / "dask",
        compilation_cache_dir=tmp_path / "xla",
    )
    with start_local(settings) as cluster, connect(settings, cluster) as client:
        yield client
