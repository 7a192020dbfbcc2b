"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from distributed import Client

from storage.blobs import BlobStore, open_blobs
from support.s3 import S3Server, s3_server
from workers.cluster import (
    ClusterSettings,
    compilation_cache_environment,
    connect,
    start_local,
)

# Examples that start I/O or compile are slow the first time; whether a test hangs is judged by
# pytest's timeout, not by hypothesis' deadline per example. The same examples every time: a change
# is judged by what it changes. `GRAMIAN_TEST_PROFILE=explore make test` looks for new ones.
hypothesis.settings.register_profile("gramian", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("GRAMIAN_TEST_PROFILE", "gramian"))


CACHE = pytest.StashKey[Path]()


@pytest.hookimpl(trylast=True)  # pytest's own cache is there then
def pytest_configure(config: pytest.Config) -> None:
    """One folder of compiled kernels for the tests and every process that any of them starts: many
    compile the same ones. JAX reads the variables when the first test module imports it."""
    kept = getattr(config, "cache", None)  # absent under `-p no:cacheprovider`
    folder = kept.mkdir("xla") if kept else Path(tempfile.mkdtemp(prefix="gramian-xla-"))
    if not kept:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.stash[CACHE] = folder
    os.environ["GRAMIAN_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.update(compilation_cache_environment(folder))


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.stash[CACHE]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server that speaks S3."""
    with s3_server() as server:
        yield server


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """An empty store in a temporary folder."""
    return open_blobs(tmp_path / "store")


@pytest.fixture(scope="session")
def shared_client(
    tmp_path_factory: pytest.TempPathFactory, compilation_cache: Path
) -> Iterator[Client]:
    """A client of a two-process cluster that tests must leave unharmed."""
    settings = ClusterSettings(
        n_workers=2,
        scratch_dir=tmp_path_factory.mktemp("dask"),
        compilation_cache_dir=compilation_cache,
    )
    with start_local(settings) as cluster, connect(settings, cluster) as client:
        yield client


@pytest.fixture
def own_client(tmp_path: Path, compilation_cache: Path) -> Iterator[Client]:
    """A client of a two-process cluster of the test's own, to do violence to."""
    settings = ClusterSettings(
        n_workers=2,
        scratch_dir=tmp_path / "dask",
        compilation_cache_dir=compilation_cache,
    )
    with start_local(settings) as cluster, connect(settings, cluster) as client:
        yield client
