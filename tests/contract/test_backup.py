"""The backup of OPERATIONS.md, taken beside a running service and put back somewhere else."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from support.server import live_server, offline_settings
from support.service_state import put_sealed_gram
from workers.kernels.spec import parse_kernel

KERNEL = parse_kernel({"preset": "fc", "depth": 1}).canonical()


def back_up(data: Path, copy: Path) -> None:
    """First the catalog, then the store: whatever the catalog calls sealed is in the copy."""
    copy.mkdir()
    with (
        closing(sqlite3.connect(data / "catalog.sqlite")) as source,
        closing(sqlite3.connect(copy / "catalog.sqlite")) as target,
    ):
        source.backup(target)
    for _ in range(2):  # the second pass is short
        shutil.copytree(data / "store", copy / "store", dirs_exist_ok=True)


def test_a_backup_of_a_running_service_is_restored(tmp_path: Path) -> None:
    settings = offline_settings(tmp_path / "first", compute_block_rows=64)
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    with live_server(settings) as server, server.client() as client:
        data = client.upload(x, np.arange(40) % 3, name="train").id
        request = {"kernel": KERNEL, "x1": data}
        manifest, arrays = put_sealed_gram(server, (40, 40), provenance={"request": request})
        job = client.gram(data, kernel="fc")  # queued: there is no cluster
        back_up(settings.data_dir, tmp_path / "copy")
        late = client.upload(x + 1).id  # after the backup
        digest = client.matrix(manifest.id).digest
        # Deleted after the backup of the catalog would be a record without files; this is one
        # that was deleted after both.
        client.delete_matrix(manifest.id)

    (tmp_path / "copy").rename(tmp_path / "data")
    restored = offline_settings(tmp_path, compute_block_rows=64)
    with live_server(restored) as server, server.client() as client:
        assert client.dataset(data).document["name"] == "train"
        assert client.matrix(manifest.id).digest == digest
        np.testing.assert_array_equal(client.slice(manifest.id), arrays["ntk"])
        assert client.job(job.id).state == "queued"
        assert next(client.watch(job.id)).data["state"] == "queued"
        assert late not in [dataset.id for dataset in client.datasets()]
        # The same requests find what is there.
        assert client.upload(x, np.arange(40) % 3).id == data
        assert client.gram(data, kernel="fc").id == job.id


def test_a_matrix_whose_files_are_not_in_the_backup_is_an_error_until_deleted(
    tmp_path: Path,
) -> None:
    settings = offline_settings(tmp_path, compute_block_rows=64)
    with live_server(settings) as server, server.client() as client, server.http() as http:
        lost = put_sealed_gram(server, (40, 40))[0].id
        shutil.rmtree(settings.store_dir / "matrices" / lost)
        answer = http.get(f"/v1/matrices/{lost}/zarr/ntk/c/0/0")
        assert answer.status_code in (409, 500)  # 404 would mean fill values to a Zarr client
        client.delete_matrix(lost)
        assert list(client.matrices()) == []
