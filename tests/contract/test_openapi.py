"""The OpenAPI document: complete, true, and its examples work on a real service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import numpy as np
import pytest

from service.app import create_app
from service.errors import STATUS_BY_KIND
from service.jobs.registry import task_examples
from service.schemas.common import (
    EXAMPLE_CROSS,
    EXAMPLE_DATASET,
    EXAMPLE_IMAGES,
    EXAMPLE_MATRIX,
    EXAMPLE_SOLUTION,
    EXAMPLE_TEST_GRAM,
    EXAMPLE_TEST_SET,
)
from service.settings import ServiceSettings
from storage.errors import GramianError
from support.server import LiveServer
from support.service_state import npy, put_sealed_gram, put_sealed_solution
from workers.kernels.spec import parse_kernel

ROUTES = {
    "get /healthz",
    "get /readyz",
    "get /metrics",
    "get /v1",
    "post /v1/datasets",
    "get /v1/datasets",
    "get /v1/datasets/{id}",
    "delete /v1/datasets/{id}",
    "get /v1/datasets/{id}/rows",
    "post /v1/jobs",
    "get /v1/jobs",
    "get /v1/jobs/{id}",
    "delete /v1/jobs/{id}",
    "get /v1/jobs/{id}/result",
    "get /v1/jobs/{id}/events",
    "get /v1/jobs/{id}/tiles",
    "get /v1/jobs/{id}/plot.svg",
    "get /v1/experiments",
    "get /v1/experiments/{name}",
    "get /v1/experiments/{name}/picture.svg",
    "get /v1/jobs/{id}/preview.png",
    "get /v1/cluster",
    "post /v1/estimates",
    "get /v1/matrices",
    "get /v1/matrices/{id}",
    "delete /v1/matrices/{id}",
    "get /v1/matrices/{id}/slice",
    "get /v1/matrices/{id}/preview",
    "get /v1/matrices/{id}/preview.png",
    "get /v1/matrices/{id}/statistics",
    "get /v1/matrices/{id}/zarr/{key}",
    "head /v1/matrices/{id}/zarr/{key}",
    "get /v1/me",
    "get /v1/access/{id}",
    "put /v1/access/{id}/{reader}",
    "delete /v1/access/{id}/{reader}",
    "post /v1/admin/keys",
    "get /v1/admin/keys",
    "get /v1/admin/keys/{id}",
    "delete /v1/admin/keys/{id}",
    "get /v1/admin/audit",
    "post /v1/admin/garbage",
    "get /v1/kernels",
    "get /v1/kernels/{preset}",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(ServiceSettings()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    return jsonschema_rs.validator_for({**schema, "components": document["components"]})


def test_building_the_application_touches_no_disk(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    create_app(ServiceSettings(data_dir=folder)).openapi()
    assert not folder.exists()


def test_it_describes_exactly_the_routes_of_the_design(document: dict[str, Any]) -> None:
    assert {name for name, _ in operations(document)} == ROUTES


def test_every_operation_is_explained(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"].strip(), name
        assert operation["tags"], name
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_error_is_a_problem_document_with_true_examples(document: dict[str, Any]) -> None:
    problem = validator(document, {"$ref": "#/components/schemas/Problem"})
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400 or (name, status) == ("get /readyz", "503"):
                continue
            assert list(response["content"]) == ["application/problem+json"], (name, status)
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content["examples"], (name, status)
            for kind, example in content["examples"].items():
                problem.validate(example["value"])
                assert example["value"]["kind"] == kind
                assert STATUS_BY_KIND[kind] == int(status)
                assert example["value"]["detail"] != "See `kind`.", f"no example text for {kind}"


def test_every_request_body_has_examples_that_fit_its_schema(document: dict[str, Any]) -> None:
    bodies = 0
    for name, operation in operations(document):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            bodies += 1
            assert content["examples"], name
            check = validator(document, content["schema"])
            for example in content["examples"].values():
                check.validate(example["value"])
            assert media_type in ("application/json", "multipart/form-data")
    assert bodies == 5


def test_examples_of_answers_fit_their_schemas(document: dict[str, Any]) -> None:
    checked = []
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            validator(document, {"$ref": f"#/components/schemas/{name}"}).validate(example)
            checked.append(name)
    assert {"DatasetOut", "JobOut", "JobResult", "EstimateOut", "MatrixOut", "SliceOut"} <= set(
        checked
    )


def test_the_document_is_served_and_keys_are_announced(http: httpx2.Client) -> None:
    served = http.get("/openapi.json").json()
    assert served["openapi"].startswith("3.")
    assert "security" not in served
    keyed = create_app(ServiceSettings(api_key_sha256=("0" * 64,))).openapi()
    assert keyed["security"] == [{"key": []}]
    assert keyed["paths"]["/healthz"]["get"]["security"] == []


@pytest.fixture(scope="module")
def real_ids(server: LiveServer, upload: Callable[..., str]) -> dict[str, str]:
    """What the ids in the examples stand for, on the running service."""
    rng = np.random.default_rng(0)
    train = upload(rng.standard_normal((600, 4)), np.arange(600) % 3)
    test = upload(rng.standard_normal((12, 4)), np.arange(12) % 3)
    kernel = parse_kernel({"preset": "fc", "depth": 1}).canonical()
    request = {"kernel": kernel, "x1": train}
    cross = {"kernel": kernel, "x1": test, "x2": train}
    kernels = {"names": ("ntk", "nngp")}
    gram = put_sealed_gram(server, (600, 600), provenance={"request": request}, **kernels)[0].id
    solve = {"task": "solve", "matrix": gram, "array": "ntk"}
    return {
        EXAMPLE_DATASET: train,
        EXAMPLE_TEST_SET: test,
        EXAMPLE_IMAGES: upload(rng.random((2, 6, 5, 3)).astype(np.float32)),
        EXAMPLE_MATRIX: gram,
        EXAMPLE_SOLUTION: put_sealed_solution(server, solve, (600, 3)),
        EXAMPLE_CROSS: put_sealed_gram(
            server, (12, 600), symmetric=False, provenance={"request": cross}, **kernels
        )[0].id,
        EXAMPLE_TEST_GRAM: put_sealed_gram(
            server, (12, 12), provenance={"request": {**request, "x1": test}}, **kernels
        )[0].id,
    }


@pytest.mark.parametrize("name", task_examples())
def test_the_examples_of_tasks_are_accepted(
    http: httpx2.Client, real_ids: dict[str, str], name: str
) -> None:
    text = json.dumps(task_examples()[name]["value"])
    for example, real in real_ids.items():
        text = text.replace(example, real)
    headers = {"Content-Type": "application/json"}
    estimate = http.post("/v1/estimates", content=text, headers=headers)
    assert estimate.status_code == 200, estimate.text
    assert estimate.json()["admitted"], estimate.text
    job = http.post("/v1/jobs", content=text, headers=headers)
    assert job.status_code == 202, job.text
    assert job.json()["matrix"] == estimate.json()["matrix"]


def test_the_upload_example_works(http: httpx2.Client, document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/datasets"]["post"]["requestBody"]["content"]
    example = content["multipart/form-data"]["examples"]["upload"]["value"]
    contents = {"@train.npy": npy(np.ones((3, 2))), "@labels.npy": npy(np.arange(3))}
    files = {k: (v[1:], contents[v]) for k, v in example.items() if v in contents}
    response = http.post("/v1/datasets", files=files, data={"name": example["name"]})
    assert response.status_code == 201
    assert response.json()["name"] == "train"


def test_every_kind_that_our_code_can_raise_has_a_status() -> None:
    """A kind without a row would be answered with 500."""
    import service.app  # noqa: F401 - imports everything that can raise

    def kinds(cls: type[GramianError]) -> Iterator[tuple[str, str]]:
        for sub in cls.__subclasses__():
            if "kind" in vars(sub) and sub.__module__.split(".")[0] in ("storage", "service"):
                yield sub.kind, sub.__qualname__
            yield from kinds(sub)

    missing = {k: name for k, name in kinds(GramianError) if k not in STATUS_BY_KIND}
    # What only ever ends up in the record of a job, the client or the demo has no status.
    never_answered = {
        *("solve-failed", "service-unreachable", "wait-timeout", "usage", "service-start"),
        *("data-missing", "demo-failed", "drawing-unavailable", "job-unsuccessful"),
        "no-result",
        *("unused-option", "repair-failed", "invalid-archive"),
        *("photograph-unavailable", "no-result"),
    }
    for kind in never_answered:
        missing.pop(kind, None)
    assert missing == {}
