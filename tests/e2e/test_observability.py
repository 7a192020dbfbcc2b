"""A service with one worker, seen from outside: its log lines, its metrics, `gramian doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.app import build
from support.server import ServiceProcess

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("observed")
    with ServiceProcess(
        folder, n_workers=1, compute_block_rows=64, reserved_disk_bytes=0, log_format="json"
    ) as process:
        process.start()
        yield process


def test_lines_of_service_and_worker_name_the_job_and_metrics_count_it(
    service: ServiceProcess,
) -> None:
    x = np.random.default_rng(0).standard_normal((150, 4)).astype(np.float32)
    with service.client() as client:
        data = client.upload(x).id
        body = {"task": {"type": "gram", "kernel": {"preset": "fc", "depth": 1}, "x1": data}}
        with httpx2.Client(base_url=service.url) as http:
            answer = http.post("/v1/jobs", json=body, headers={"X-Request-ID": "trace-7"})
            job = answer.json()["id"]
            assert client.wait(job, timeout_seconds=120).state == "succeeded"
            text = http.get("/metrics").text
    lines = [line for line in service.log.read_text().splitlines() if line.strip()]
    parsed: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    about = [line for line in parsed if line.get("job") == job]
    assert [line["message"] for line in about if line.get("request") == "trace-7"] == [
        "Accepted for local."
    ]
    assert "The job is succeeded." in {line["message"] for line in about}
    assert service.process.pid in {line["process"] for line in about}
    # The worker is another process, and its lines about the job say so too.
    elsewhere = [line for line in about if line["process"] != service.process.pid]
    assert any(line["logger"] == "workers.tiles" for line in elsewhere)
    access = [line for line in parsed if line["logger"] == "uvicorn.access"]
    assert any(line.get("request") == "trace-7" for line in access)
    values = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }
    assert values['gramian_tiles_total{how="computed"}'] >= 1
    assert values["gramian_tile_bytes_total"] > 0
    assert values['gramian_jobs_ended_total{state="succeeded",type="gram"}'] == 1
    assert values["gramian_workers"] == 1
    memory = [v for name, v in values.items() if name.startswith("gramian_worker_memory_bytes{")]
    assert len(memory) == 1
    assert memory[0] > 50e6


def test_doctor_finds_everything_well_and_what_is_not(
    service: ServiceProcess, tmp_path: Path
) -> None:
    def doctor(*options: str, code: int = 0) -> dict[str, dict[str, str]]:
        result = CliRunner().invoke(build(), ["doctor", "--json", *options])
        assert result.exit_code == code, result.output
        return {finding["name"]: finding for finding in json.loads(result.stdout)}

    well = doctor("--url", service.url, "--data-dir", str(service.folder / "data"))
    names = {"python", "jax", "settings", "disk", "catalog", "service", "scheduler", "runner"}
    assert names <= well.keys()
    assert {finding["outcome"] for finding in well.values()} <= {"ok", "warning"}
    ill = doctor("--url", "http://127.0.0.1:1", "--data-dir", str(tmp_path / "none"), code=1)
    assert ill["service"]["outcome"] == ill["disk"]["outcome"] == "failed"
    assert ill["catalog"]["outcome"] == "failed"
    assert not (tmp_path / "none").exists()
