"""Schemathesis: whatever the OpenAPI document allows (and forbids) gets an answer it describes.

In valid requests the ids in the document's examples are replaced by ids of things that exist, so
that they get past the first look-up; invalid ones must not get that far.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from service.app import create_app
from service.schemas.common import (
    EXAMPLE_CROSS,
    EXAMPLE_DATASET,
    EXAMPLE_JOB,
    EXAMPLE_MATRIX,
    EXAMPLE_TEST_SET,
)
from service.settings import ServiceSettings
from support.server import LiveServer
from support.service_state import put_sealed_gram

# Building the application opens nothing, so the operations are known at collection.
schema = schemathesis.openapi.from_dict(create_app(ServiceSettings()).openapi())


@pytest.fixture(scope="module")
def real_ids(server: LiveServer, upload: Callable[..., str]) -> dict[str, str]:
    rng = np.random.default_rng(0)
    train = upload(rng.standard_normal((30, 4)), np.arange(30) % 3)
    test = upload(rng.standard_normal((12, 4)), np.arange(12) % 3)
    request = {"kernel": {"layers": []}, "x1": train}
    cross = {"kernel": {"layers": []}, "x1": test, "x2": train}
    with server.client() as client:
        job = client.gram(train, kernel="fc")
        client.cancel(job.id)
        client.wait(job.id, timeout_seconds=30)
    return {
        EXAMPLE_DATASET: train,
        EXAMPLE_TEST_SET: test,
        EXAMPLE_MATRIX: put_sealed_gram(server, (30, 30), provenance={"request": request})[0].id,
        EXAMPLE_CROSS: put_sealed_gram(
            server, (12, 30), symmetric=False, provenance={"request": cross}
        )[0].id,
        EXAMPLE_JOB: job.id,
    }


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@schema.parametrize()
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_conform(
    case: schemathesis.Case, server: LiveServer, real_ids: dict[str, str]
) -> None:
    valid = case.meta is None or not case.meta.generation.mode.is_negative
    if valid and case.method != "DELETE":
        case.path_parameters = _with_real_ids(case.path_parameters, real_ids)
        if isinstance(case.body, dict) and case.media_type == "application/json":
            case.body = _with_real_ids(case.body, real_ids)
    # The schema cannot say that a cursor must have been handed out, or a file be an array.
    excluded: list[Any] = [positive_data_acceptance]
    if valid:
        # Set by hand, "%2A" is judged as it is written on the wire, not as the "*" it stands for.
        excluded.append(negative_data_rejection)
    if case.path == "/readyz":
        excluded.append(not_a_server_error)  # 503 is its way to say no: there is no cluster
    case.call_and_validate(base_url=server.url, excluded_checks=excluded)


def _with_real_ids(value: Any, real_ids: dict[str, str]) -> Any:
    text = json.dumps(value)
    for example, real in real_ids.items():
        text = text.replace(example, real)
    return json.loads(text)
