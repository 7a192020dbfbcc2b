"""The real clients open a stored symmetric matrix by its plain URL."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from storage.format import MatrixManifest
from support.server import LiveServer
from support.service_state import put_sealed_gram

Stored = tuple[MatrixManifest, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def stored(server: LiveServer) -> Stored:
    return put_sealed_gram(server, (50, 50), names=("nngp", "ntk"))


@pytest.fixture
def url(server: LiveServer, stored: Stored) -> str:
    with server.client() as client:
        return client.zarr_url(stored[0].id)


def test_zarr_open(url: str, stored: Stored) -> None:
    group = zarr.open(url, mode="r")
    assert isinstance(group, zarr.Group)
    assert sorted(group) == ["nngp", "ntk"]
    for name, values in stored[1].items():
        array = group[name]
        assert array.shape == (50, 50)
        np.testing.assert_array_equal(array[:], values)
        np.testing.assert_array_equal(array[33:50, 2:7], values[33:50, 2:7])


def test_zarr_open_of_one_array(url: str, stored: Stored) -> None:
    np.testing.assert_array_equal(zarr.open(f"{url}/ntk", mode="r")[:], stored[1]["ntk"])


def test_xarray_open_zarr(url: str, stored: Stored) -> None:
    with xr.open_zarr(url) as dataset:
        assert set(dataset.data_vars) == {"nngp", "ntk"}
        np.testing.assert_array_equal(dataset["ntk"].values, stored[1]["ntk"])


def test_dask_from_zarr(url: str, stored: Stored) -> None:
    array = da.from_zarr(url, component="ntk")
    assert array.chunks == ((16, 16, 16, 2), (16, 16, 16, 2))
    np.testing.assert_array_equal(array.compute(scheduler="threads"), stored[1]["ntk"])
    assert bool((array == array.T).all().compute(scheduler="threads"))


def test_a_rectangular_matrix_opens_the_same_way(server: LiveServer) -> None:
    manifest, arrays = put_sealed_gram(server, (23, 41), symmetric=False, dtype="float64")
    with server.client() as client:
        group = zarr.open(client.zarr_url(manifest.id), mode="r")
    np.testing.assert_array_equal(group["ntk"][:], arrays["ntk"])


def test_an_unknown_matrix_does_not_open(server: LiveServer) -> None:
    with server.client() as client, pytest.raises(FileNotFoundError):
        zarr.open(client.zarr_url("mx-" + "0" * 32), mode="r")
