"""Results of the papers' experiments over REST."""

from __future__ import annotations

from xml.etree import ElementTree

import httpx2

from support.experiments import EXPERIMENT, leave_result
from support.server import LiveServer


def test_results_of_experiments(server: LiveServer, http: httpx2.Client) -> None:
    before = http.get("/v1/experiments").json()
    assert {"unit-circle", "inpainting", "cdeq-small"} <= {one["name"] for one in before}
    assert all(one["finished_at"] is None and one["summary"] for one in before)
    missing = http.get(f"/v1/experiments/{EXPERIMENT}")
    assert missing.status_code == 404
    assert f"gramian paper {EXPERIMENT}" in missing.json()["advice"]

    report = leave_result(server.services.settings.data_dir)
    listed = {one["name"]: one for one in http.get("/v1/experiments").json()}
    assert [name for name, one in listed.items() if one["finished_at"]] == [EXPERIMENT]
    found = http.get(f"/v1/experiments/{EXPERIMENT}").json()
    assert found["title"] == report.title
    assert found["comparisons"] == [vars(one) for one in report.comparisons]
    assert found["table"] == report.table.records()
    assert found["differences"] == list(report.differences)
    picture = http.get(f"/v1/experiments/{EXPERIMENT}/picture.svg")
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert "sandbox" in picture.headers["content-security-policy"]
    assert ElementTree.fromstring(picture.content).tag.endswith("svg")


def test_only_names_of_the_catalogue_are_looked_for(http: httpx2.Client) -> None:
    for name in ("nothing", "..%2F..%2Fcatalog", "service", "unit-circle%00"):
        for suffix in ("", "/picture.svg"):
            answer = http.get(f"/v1/experiments/{name}{suffix}")
            assert answer.status_code == 404, name
            assert answer.json()["kind"] == "not-found"
