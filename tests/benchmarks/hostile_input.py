"""How many hostile requests were tried, and what came back: only success or a clean 4xx.

    PYTHONPATH=tests python tests/benchmarks/hostile_input.py [--examples 1000]

Uploads, kernel specs, every operation of the OpenAPI document alone, and chains of operations, made
by hypothesis and schemathesis (`tests/support/hostile.py`), sent to a real server. New examples
every time, unlike in the tests. An answer of 500, one that is no problem document, or none at all
ends the run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import numpy as np
import schemathesis
from hypothesis import strategies as st
from measure import host, table, write_results

from service.app import create_app
from service.settings import ServiceSettings
from support.chains import chains
from support.hostile import specs, uploads
from support.server import LiveServer, live_server, offline_settings

Answers = Counter[int]


def explored(examples: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def check(answer: Any, *, ready: bool = False) -> int:
    """The status of a clean answer. Raises AssertionError for any other."""
    status = int(answer.status_code)
    if ready and status == 503:
        return status
    assert status < 500, (status, answer.text)
    if status >= 400 and answer.text:
        assert answer.json()["kind"], answer.text
    return status


def hostile_uploads(http: httpx2.Client, examples: int) -> Answers:
    seen: Answers = Counter()

    @explored(examples)
    @hypothesis.given(uploads(), st.one_of(st.none(), uploads()))
    def send(x: bytes, y: bytes | None) -> None:
        parts = {"x": ("x.npy", x), **({} if y is None else {"y": ("y.npy", y)})}
        seen[check(http.post("/v1/datasets", files=parts))] += 1

    send()
    return seen


def hostile_specs(http: httpx2.Client, examples: int, dataset: str) -> Answers:
    seen: Answers = Counter()
    headers = {"Content-Type": "application/json"}

    @explored(examples)
    @hypothesis.given(specs())
    def send(kernel: Any) -> None:
        body = json.dumps({"task": {"type": "gram", "kernel": kernel, "x1": dataset}})
        # Lone surrogates are what Python writes and UTF-8 does not have.
        data = body.encode("utf-8", "surrogatepass")
        seen[check(http.post("/v1/estimates", content=data, headers=headers))] += 1

    send()
    return seen


def every_operation(server: LiveServer, examples: int) -> Answers:
    seen: Answers = Counter()
    schema = schemathesis.openapi.from_dict(create_app(ServiceSettings()).openapi())
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/events"):
            continue  # a stream of a job that never runs does not end
        for mode in (
            schemathesis.GenerationMode.POSITIVE,
            schemathesis.GenerationMode.NEGATIVE,
        ):

            @explored(examples)
            @hypothesis.given(operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case) -> None:
                answer = case.call(base_url=server.url)
                seen[check(answer, ready=case.path == "/readyz")] += 1

            try:
                send()
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing about it can be wrong
    return seen


def measure(examples: int) -> dict[str, Answers]:
    with tempfile.TemporaryDirectory() as name:
        settings = offline_settings(
            Path(name), max_upload_bytes=1 << 20, max_dataset_bytes=1 << 20, max_open_jobs=10_000
        )
        # An idle connection may be closed by the server just as the next example is sent on it.
        fresh = httpx2.Limits(max_keepalive_connections=0)
        with (
            live_server(settings) as server,
            server.http(limits=fresh) as http,
            server.client() as client,
        ):
            images = np.random.default_rng(0).random((6, 8, 8, 3)).astype(np.float32)
            dataset = client.upload(images).id
            sent: list[tuple[str, int]] = []
            found = {
                "uploads": hostile_uploads(http, examples),
                "kernel specs": hostile_specs(http, examples, dataset),
                "each operation": every_operation(server, max(10, examples // 50)),
            }
            for _ in range(max(1, examples // 100)):
                # What the service has by now is no input of hypothesis', which may notice.
                with suppress(hypothesis.errors.FlakyStrategyDefinition):
                    chains(server.url, 10, 10, sent)
            assert all(status < 500 for _, status in sent)
            assert http.get("/healthz").status_code == 200
            return {**found, "chains of operations": Counter(status for _, status in sent)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=1000)
    given = parser.parse_args()
    about = host()
    found = measure(given.examples)
    rows = [
        [
            what,
            str(sum(seen.values())),
            ", ".join(f"{status}: {count}" for status, count in sorted(seen.items())),
        ]
        for what, seen in found.items()
    ]
    total = sum(sum(seen.values()) for seen in found.values())
    text = "\n".join(
        [
            "# Hostile input",
            "",
            "`PYTHONPATH=tests python tests/benchmarks/hostile_input.py"
            f" --examples {given.examples}`, {about['cpu']}, {about['cores']} cores,"
            f" Python {about['python']}, {about['date']}.",
            "",
            table(["input", "requests", "answers by status"], rows),
            "",
            f"{total} requests; nothing but success and 4xx came back (503 is how `/readyz` says"
            " that there is no cluster here), each refusal with a problem document.",
        ]
    )
    print(text)
    document = {"host": about, **{what: dict(seen) for what, seen in found.items()}}
    for path in write_results("hostile-input", document, text):
        print(path)


if __name__ == "__main__":
    main()
