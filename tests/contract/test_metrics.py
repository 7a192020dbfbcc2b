"""What Prometheus is told is true, bounded in series, and named by the dashboard and the alerts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import Metrics
from storage.catalog.records import TileRecord
from support.server import LiveServer
from workers.tiles import TileResult

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(http: httpx2.Client) -> Samples:
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def requests(samples: Samples, **labels: str) -> float:
    return sum(
        value
        for (name, found), value in samples.items()
        if name == "gramian_http_requests_total" and labels.items() <= dict(found).items()
    )


def test_requests_are_counted_by_template_and_status(http: httpx2.Client) -> None:
    before = scrape(http)
    for n in range(3):
        assert http.get(f"/v1/jobs/job-{n:032x}").status_code == 404
    http.get("/v1/jobs/../../etc/passwd")
    http.get("/no/such/place")
    http.request("BREW", "/v1/jobs")
    http.get("/v1/kernels", headers={"Host": "evil.example"})
    after = scrape(http)

    def more(**labels: str) -> float:
        return requests(after, **labels) - requests(before, **labels)

    assert more(route="/v1/jobs/{id}", status="404", method="GET") == 3
    assert more(route="other", method="GET", status="404") == 2
    assert more(status="403", route="other") == 1
    assert more(method="other") == 1
    # No caller can make new series by inventing paths.
    assert {dict(found).get("route", "").count("job-") for _, found in after} == {0}
    duration = ("gramian_http_request_seconds_count", (("method", "GET"), ("route", "/metrics")))
    assert after[duration] >= 1


def test_gauges_are_read_from_the_catalog_and_the_disk(
    http: httpx2.Client, server: LiveServer, upload: Callable[..., str]
) -> None:
    data = upload(np.eye(3, dtype=np.float32))
    with server.client() as client:
        job = client.gram(data, kernel={"preset": "fc", "depth": 1}).id
    server.services.catalog.save_progress(job, {"residual": 1e-5, "fraction": 0.25})
    found = scrape(http)
    assert found["gramian_jobs", (("state", "queued"),)] == 1
    assert found["gramian_jobs", (("state", "failed"),)] == 0
    assert found["gramian_solve_residual", (("job", job),)] == 1e-5
    assert found["gramian_job_progress_ratio", (("job", job),)] == 0.25
    assert found["gramian_workers", ()] == 0
    assert found["gramian_store_free_bytes", ()] > 0


def test_tiles_and_their_bytes_are_counted_once() -> None:
    metrics = Metrics()
    record = TileRecord("ntk", 0, 0, bytes(32), 2.0, 0.0, 1.0, 0, 1000)
    metrics.count_tiles(
        [
            TileResult((0, 0), (record, record), computed=True, seconds=2.0),
            TileResult((0, 1), (record,), computed=False, seconds=0.5),
        ]
    )
    value = metrics.registry.get_sample_value
    assert value("gramian_tiles_total", {"how": "computed"}) == 1
    assert value("gramian_tiles_total", {"how": "found"}) == 1
    assert value("gramian_tile_bytes_total") == 2000
    assert value("gramian_tile_seconds_total") == 2.5


def test_every_metric_that_dashboard_and_alerts_name_exists(http: httpx2.Client) -> None:
    text = http.get("/metrics").text
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    known = {n for name, kind in families.items() for n in _series(name, kind)}
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    alerts = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    expressions = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    expressions += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    named = {name for text in expressions for name in re.findall(r"gramian_[a-z_]+", text)}
    assert len(named) >= 12
    assert named <= known
    shown = {name.removesuffix("_bucket") for name in named}
    # And the other way round: whatever is measured can be seen.
    measured = {name for name in families if not name.endswith("_created")}
    assert measured == shown
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def _series(name: str, kind: str) -> list[str]:
    return [f"{name}_bucket", f"{name}_count", f"{name}_sum"] if kind == "histogram" else [name]


def test_the_scrape_configuration_reads_the_key_from_a_file() -> None:
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    job = configuration["scrape_configs"][0]
    assert job["metrics_path"] == "/metrics"
    assert "credentials" not in job["authorization"]
    assert configuration["rule_files"] == ["alerts.yml"]
