"""The kernel of pixel pairs through the front door: two workers, damage, repair, a solve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from service.cli.app import build
from service.client import ApiError, Client
from support.server import ServiceProcess
from workers.kernels import parse_kernel
from workers.kernels.pixels import PixelKernel

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CONV = {"op": "conv", "filter": [3, 3], "w_std": 2**0.5, "padding": "CIRCULAR"}
KERNEL = {"layers": [CONV, {"op": "activation", "fn": "relu"}, CONV]}
SHAPE = (50, 50)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("pixels")
    with ServiceProcess(folder, n_workers=2, reserved_disk_bytes=0) as process:
        process.start()
        yield process


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).random((1, *SHAPE, 2)).astype(np.float32)


def test_from_an_image_to_a_solve(
    service: ServiceProcess, image: np.ndarray, tmp_path: Path
) -> None:
    pixels = SHAPE[0] * SHAPE[1]
    with service.client() as client:
        data = client.upload(image, name="image").id
        job = client.wait(client.pixel_gram(KERNEL, data).id, timeout_seconds=120)
        assert job.state == "succeeded", job.error
        assert job.matrix is not None
        summary = client.result(job.id)["summary"]
        assert (summary["tiles"], summary["pixel_shape"]) == (3, [*SHAPE])
        expected = PixelKernel(parse_kernel(KERNEL))(image[0], outputs=("ntk",))["ntk"]
        np.testing.assert_array_equal(client.pixel_tensor(job.matrix), expected)
        group = zarr.open_group(client.zarr_url(job.matrix), mode="r")
        shape = group.attrs["gramian"]["provenance"]["pixel_shape"]
        assert shape == [*SHAPE]
        np.testing.assert_array_equal(group["ntk"][:7], expected.reshape(pixels, pixels)[:7])

        _damage_and_repair(service, client, job.matrix, summary["digest"])
        _solve(client, job.matrix, expected.reshape(pixels, pixels))

        # The same through the command line is the same job.
        np.save(tmp_path / "image.npy", image)
        options = ["--x", str(tmp_path / "image.npy"), "--kernel", json.dumps(KERNEL)]
        said = CliRunner().invoke(
            build(),
            ["submit", "pixel-gram", *options, "--json"],
            env={"GRAMIAN_URL": service.url},
            catch_exceptions=False,
        )
        assert json.loads(said.stdout)["id"] == job.id


def _damage_and_repair(service: ServiceProcess, client: Client, matrix: str, digest: str) -> None:
    folder = service.folder / "data" / "store" / "matrices" / matrix / "ntk" / "c"
    flipped = folder / "0" / "1"
    whole = flipped.read_bytes()
    flipped.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    (folder / "1" / "1").unlink()
    job = client.wait(client.verify(matrix, repair=True).id, timeout_seconds=120)
    assert job.state == "succeeded", job.error
    summary = client.result(job.id)["summary"]
    assert (summary["intact"], summary["repaired_tiles"]) == (True, 2)
    assert (summary["digest"], flipped.read_bytes()) == (digest, whole)


def _solve(client: Client, matrix: str, k: np.ndarray) -> None:
    """Stored blocks of pixels solve like any others."""
    y = np.random.default_rng(1).standard_normal((len(k), 1))
    targets = client.upload(np.zeros((len(k), 1), np.float32), y).id
    job = client.wait(client.solve(matrix, targets=targets, ridge=1e-2).id, timeout_seconds=120)
    answer = client.answer(job)
    full = k.astype(np.float64)
    ridge = 1e-2 * np.trace(full) / len(k)
    residual = full @ answer.arrays["dual"] + ridge * answer.arrays["dual"] - y
    assert np.linalg.norm(residual) / np.linalg.norm(y) < 2e-6
    assert job.matrix is not None
    with pytest.raises(ApiError, match="not pixels"):
        client.pixel_tensor(job.matrix)
