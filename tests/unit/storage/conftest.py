"""Tests of storage that take `blobs` run on a folder; those where it may matter on a bucket too."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.blobs import BlobStore, open_blobs

ON_BOTH = ("test_blobs", "test_matrices", "test_verify", "test_previews", "test_kinds_of_stores")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "blobs" in metafunc.fixturenames:
        both = metafunc.module.__name__.rpartition(".")[2] in ON_BOTH
        kinds = ["folder", "s3"] if both else ["folder"]
        metafunc.parametrize("blobs", kinds, indirect=True)


@pytest.fixture
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """An empty store."""
    if request.param == "folder":
        return open_blobs(tmp_path / "store")
    return open_blobs(request.getfixturevalue("s3").store_url())
