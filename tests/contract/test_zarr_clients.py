"""Plain zarr, dask.array and xarray read sealed matrices as whole arrays, or raise."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import dask
import dask.array
import numpy as np
import pytest
import xarray
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

from storage import datasets, open_matrix
from storage.blobs import BlobStore
from storage.errors import CorruptChunkError, InvalidKeyError, MissingChunkError
from storage.format import MatrixManifest
from storage.view import MatrixStore
from support.matrices import sealed_gram

SHAPES = [((40, 40), True), ((40, 40), False), ((37, 53), False), ((5, 5), True), ((64, 64), True)]


@pytest.mark.parametrize(("shape", "symmetric"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zarr_equals_numpy(
    blobs: BlobStore, shape: tuple[int, int], symmetric: bool, dtype: str
) -> None:
    manifest, arrays = sealed_gram(
        blobs, shape, symmetric=symmetric, names=("nngp", "ntk"), dtype=dtype
    )
    group = open_matrix(blobs.url, manifest.id)
    assert sorted(group.array_keys()) == ["nngp", "ntk"]
    for name, values in arrays.items():
        array = group[name]
        assert isinstance(array, zarr.Array)
        assert array.dtype == values.dtype
        np.testing.assert_array_equal(array[...], values)
        np.testing.assert_array_equal(array[3:-1, 2], values[3:-1, 2])
        np.testing.assert_array_equal(array.oindex[[4, 0], [1, 3]], values[np.ix_([4, 0], [1, 3])])
        assert array.nchunks == np.prod(manifest.arrays[0].grid)
    assert group.attrs["gramian"]["id"] == manifest.id


def test_a_sealed_matrix_cannot_be_written(blobs: BlobStore) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    before = dict(blobs.scan("matrices"))
    group = open_matrix(blobs.url, manifest.id)
    with pytest.raises(ValueError, match="read-only"):
        group["ntk"][0, 0] = 1.0
    with pytest.raises(ValueError):
        zarr.open_group(MatrixStore(blobs, manifest.id), mode="a").attrs["x"] = 1
    with pytest.raises(ValueError):
        MatrixStore(blobs, manifest.id).with_read_only(read_only=False)
    assert dict(blobs.scan("matrices")) == before


def test_dask_array_equals_numpy(blobs: BlobStore) -> None:
    manifest, arrays = sealed_gram(blobs, (40, 40))
    store = MatrixStore(blobs, manifest.id)
    assert pickle.loads(pickle.dumps(store)) == store
    lazy = dask.array.from_zarr(zarr.open_array(store, path="ntk", mode="r"))
    assert lazy.chunksize == (16, 16)
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(lazy.compute(), arrays["ntk"])
        np.testing.assert_array_equal(lazy.T.compute(), arrays["ntk"])


@pytest.mark.parametrize(("shape", "symmetric"), SHAPES)
def test_xarray_equals_numpy(blobs: BlobStore, shape: tuple[int, int], symmetric: bool) -> None:
    manifest, arrays = sealed_gram(blobs, shape, symmetric=symmetric, names=("nngp", "ntk"))
    with xarray.open_zarr(MatrixStore(blobs, manifest.id)) as dataset:
        assert set(dataset.data_vars) == {"nngp", "ntk"}
        assert dataset["ntk"].dims == ("row", "column")
        for name, values in arrays.items():
            np.testing.assert_array_equal(dataset[name].values, values)


def chunk_path(blobs: BlobStore, manifest: MatrixManifest) -> Path:
    path = blobs.path(f"matrices/{manifest.id}/ntk/c/0/1")
    assert path is not None
    return path


@pytest.mark.parametrize("part", [np.s_[0:2, 20:22], np.s_[20:22, 0:2], np.s_[:, :]])
def test_a_deleted_chunk_raises_instead_of_reading_nan(
    blobs: BlobStore, part: tuple[slice, slice]
) -> None:
    manifest, arrays = sealed_gram(blobs, (40, 40))
    array = open_matrix(blobs.url, manifest.id)["ntk"]
    chunk_path(blobs, manifest).unlink()
    with pytest.raises(MissingChunkError):
        array[part]
    np.testing.assert_array_equal(array[:16, :16], arrays["ntk"][:16, :16])
    with (
        xarray.open_zarr(MatrixStore(blobs, manifest.id)) as dataset,
        pytest.raises(MissingChunkError),
    ):
        dataset["ntk"].load()


@pytest.mark.parametrize("position", [0, 500, -5, -1])
def test_a_flipped_bit_raises_in_both_triangles(blobs: BlobStore, position: int) -> None:
    manifest, _ = sealed_gram(blobs, (40, 40))
    array = open_matrix(blobs.url, manifest.id)["ntk"]
    path = chunk_path(blobs, manifest)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    for part in (np.s_[0, 20], np.s_[20, 0]):
        with pytest.raises(CorruptChunkError):
            array[part]
    path.write_bytes(data[:300])
    for part in (np.s_[0, 20], np.s_[20, 0]):
        with pytest.raises(CorruptChunkError):
            array[part]


def test_store_interface(blobs: BlobStore) -> None:
    """Listing, sizes and byte ranges, which some zarr code paths and stores on top use."""
    manifest, _ = sealed_gram(blobs, (40, 40))
    store = MatrixStore(blobs, manifest.id)
    prototype = default_buffer_prototype()

    async def check() -> None:
        keys = [key async for key in store.list()]
        chunks = [f"ntk/c/{i}/{j}" for i in range(3) for j in range(3)]
        assert sorted(keys) == sorted(["zarr.json", "ntk/zarr.json", *chunks])
        assert {k async for k in store.list_prefix("ntk/c/1")} == {f"ntk/c/1/{j}" for j in range(3)}
        assert [k async for k in store.list_dir("")] == ["zarr.json", "ntk"]
        assert [k async for k in store.list_dir("ntk/")] == ["c", "zarr.json"]
        for key in keys:
            whole = await store.get(key, prototype)
            assert whole is not None
            data = whole.to_bytes()
            assert await store.getsize(key) == len(data)
            for request, expected in [
                (RangeByteRequest(2, 9), data[2:9]),
                (OffsetByteRequest(5), data[5:]),
                (SuffixByteRequest(6), data[-6:]),
            ]:
                part = await store.get(key, prototype, request)
                assert part is not None
                assert part.to_bytes() == expected
            (again,) = await store.get_partial_values(prototype, [(key, None)])
            assert again is not None
            assert again.to_bytes() == data
        assert await store.exists("ntk/c/2/0")
        for absent in (".zgroup", "ntk/.zarray", "nngp/zarr.json", "Some Name/zarr.json"):
            assert await store.get(absent, prototype) is None
            assert not await store.exists(absent)
        for outside in ("ntk/c/3/0", "ntk/c/00/0", "ntk/c/0"):
            with pytest.raises(InvalidKeyError):
                await store.get(outside, prototype)
        with pytest.raises(ValueError, match="read-only"):
            await store.delete("ntk/c/0/0")

    asyncio.run(check())


def test_data_sets_open_as_plain_zarr(blobs: BlobStore) -> None:
    x = np.random.default_rng(0).standard_normal((50, 4, 3)).astype(np.float32)
    y = np.arange(50) % 7
    info = datasets.ingest(blobs, x, y)
    path = blobs.path(f"datasets/{info.id}")
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["samples"][...], x)
    np.testing.assert_array_equal(group["targets"][...], y)
    with xarray.open_zarr(path) as dataset:
        np.testing.assert_array_equal(dataset["samples"].values, x)


def test_unmirrored_matrices_open_as_plain_zarr(blobs: BlobStore) -> None:
    """A cross-Gram needs no Gramian to be read; a symmetric one shows NaN below the diagonal."""
    manifest, arrays = sealed_gram(blobs, (37, 53), symmetric=False)
    group = zarr.open_group(blobs.path(f"matrices/{manifest.id}"), mode="r")
    np.testing.assert_array_equal(group["ntk"][...], arrays["ntk"])
    manifest, arrays = sealed_gram(blobs, (37, 37))
    array = zarr.open_group(blobs.path(f"matrices/{manifest.id}"), mode="r")["ntk"]
    np.testing.assert_array_equal(array[:16], arrays["ntk"][:16])
    assert np.isnan(array[16:, :16]).all()
    assert array.attrs["symmetric"] is True
