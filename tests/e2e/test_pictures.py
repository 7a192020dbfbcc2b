"""Pictures of real jobs on a real cluster, and the report that puts them together."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from service.cli.app import build
from service.client import Client
from support.pages import Page
from support.server import ServiceProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROWS = 300
EVIL = "<script>alert('name')</script>\"&"


@dataclass(frozen=True)
class Bench:
    client: Client
    http: httpx2.Client
    folder: Path
    gram_job: str
    gram: str


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((ROWS, 6)).astype(np.float32), rng.integers(0, 2, ROWS)
    with ServiceProcess(folder, compute_block_rows=64, event_throttle_seconds=0.0) as service:
        service.start()
        with service.client() as client, httpx2.Client(base_url=service.url) as http:
            data = client.upload(x, y, name=EVIL)
            task = {
                "type": "gram",
                "kernel": {"preset": "fc", "depth": 1},
                "x1": data.id,
                "outputs": ["nngp", "ntk"],
            }
            job = client.wait(client.submit(task).id)
            assert job.state == "succeeded", job.error
            yield Bench(client, http, folder, job.id, str(job.matrix))


def report(bench: Bench, job: str, tmp_path: Path) -> Page:
    target = tmp_path / "report.html"
    arguments = ["report", job, "--output", str(target), "--url", bench.client.base_url, "--json"]
    result = CliRunner().invoke(build(), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["path"] == str(target.resolve())
    again = CliRunner().invoke(build(), arguments, catch_exceptions=False)
    assert again.exit_code == 2  # the file is there already
    page = Page(target.read_text())
    assert (page.open, page.handlers, page.fetched) == ([], [], [])
    return page


def test_previews_were_written_by_the_workers(bench: Bench) -> None:
    ntk = zarr.open(bench.client.zarr_url(bench.gram), mode="r")["ntk"][:].astype(np.float64)
    for array in ("nngp", "ntk"):
        stored = list((bench.folder / "data/store/matrices" / bench.gram).rglob(f"{array}/c/*/*"))
        chunks = [path for path in stored if "_preview" not in path.parts]
        assert len(chunks) * 2 == len(stored) > 0
        sizes = [sum(p.stat().st_size for p in group) for group in (chunks, stored)]
        assert sizes[1] < 1.04 * sizes[0]
    response = bench.http.get(f"/v1/matrices/{bench.gram}/preview?array=ntk&size=40")
    values = np.load(io.BytesIO(response.content))
    starts = range(0, ROWS, 8)
    expected = [[ntk[i : i + 8, j : j + 8].mean() for j in starts] for i in starts]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    found = bench.client.statistics(bench.gram, array="ntk")
    assert found["range_of"] == "all entries"
    assert found["tiles"]["count"] == 15
    assert found["maximum"] == pytest.approx(ntk.max())
    assert found["diagonal"]["trace"] == pytest.approx(np.trace(ntk))


def test_the_map_of_a_finished_job_names_its_workers(bench: Bench) -> None:
    tiles = bench.client.tiles(bench.gram_job)
    assert (tiles["state"], tiles["tiles_done"], tiles["tiles_total"]) == ("succeeded", 15, 15)
    assert tiles["done"] == tiles["total"] == np.triu(np.ones((5, 5), int)).tolist()
    assert sum(worker["tiles"] for worker in tiles["workers"]) == 15
    cluster = bench.client.cluster()
    assert cluster["scheduler"]
    assert len(cluster["workers"]) == cluster["threads"] == 2
    addresses = {worker["address"] for worker in cluster["workers"]}
    assert {worker["worker"] for worker in tiles["workers"]} <= addresses
    assert all(worker["memory_bytes"] > 0 for worker in cluster["workers"])
    assert all(worker["state"] == "running" for worker in cluster["workers"])


def test_the_report_of_a_gram_job(bench: Bench, tmp_path: Path) -> None:
    page = report(bench, bench.gram_job, tmp_path)
    assert EVIL in page.text
    images = [str(image["src"]) for image in page.named("img")]
    assert len(images) == 2  # nngp and ntk
    assert all(image.startswith("data:image/png;base64,iVBOR") for image in images)
    matrix = bench.client.matrix(bench.gram)
    for fact in (bench.gram, str(matrix.digest), "15 of 15", '"preset": "fc"', "zarr.open"):
        assert fact in page.text


def test_solves_and_spectra_are_plotted(bench: Bench, tmp_path: Path) -> None:
    solve = bench.client.submit(
        {"type": "solve", "matrix": bench.gram, "array": "ntk", "method": "cg", "ridge": 1e-2}
    )
    spectrum = bench.client.submit({"type": "spectrum", "matrix": bench.gram, "array": "ntk"})
    for job, word in ((solve, "residual"), (spectrum, "Eigenvalues (300")):
        assert bench.client.wait(job.id).state == "succeeded"
        response = bench.http.get(f"/v1/jobs/{job.id}/plot.svg")
        assert response.status_code == 200, response.text
        assert word in response.text
        assert "immutable" in response.headers["cache-control"]
        same = {"If-None-Match": response.headers["etag"]}
        assert bench.http.get(f"/v1/jobs/{job.id}/plot.svg", headers=same).status_code == 304
        folder = tmp_path / job.id
        folder.mkdir()
        page = report(bench, job.id, folder)
        assert word in page.text
        assert page.named("polyline")


def test_tiles_that_fail_say_why(bench: Bench, tmp_path: Path) -> None:
    data = bench.client.upload(np.random.default_rng(5).standard_normal((100, 6)))
    for path in (bench.folder / "data/store/datasets" / data.id / "samples/c").rglob("0"):
        if path.is_file():
            path.unlink()
    task = {"type": "gram", "kernel": {"preset": "fc", "depth": 1}, "x1": data.id}
    job = bench.client.submit(task)
    kinds = [event.type for event in bench.client.watch(job.id)]
    assert kinds.count("tile-failed") >= 3  # each attempt is told
    assert bench.client.job(job.id).state == "failed"
    tiles = bench.client.tiles(job.id)
    assert (tiles["tiles_done"], tiles["tiles_total"]) == (0, 3)
    assert {failure["kind"] for failure in tiles["failures"]} == {"missing-chunk"}
    holes = bench.client.job_picture(job.id)
    assert int(holes.about["holes"]) == 13**2
    assert holes.about["scale"] == ""
    page = report(bench, job.id, tmp_path)
    assert "missing-chunk" in page.text
    assert "The matrix is not complete." in page.text
