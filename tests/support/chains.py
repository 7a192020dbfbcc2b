"""Chains of requests along the links of the OpenAPI document, made by schemathesis."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis
import numpy as np
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from service.app import create_app
from service.settings import ServiceSettings
from support.hostile import saved

FILE = saved(np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32))


def chains(url: str, examples: int, steps: int, seen: list[tuple[str, int]]) -> None:
    """Run `examples` chains of up to `steps` requests; `seen` gets (method and path, status)."""
    document = create_app(ServiceSettings()).openapi()
    schema = schemathesis.openapi.from_dict(document)
    # A stream ends with its job, and no job ends where nothing computes.
    schema = schema.exclude(path_regex="/events$").exclude(path="/readyz")
    schema.config.update(base_url=url)

    class Chains(schema.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: schemathesis.Case) -> None:
            valid = case.meta is None or not case.meta.generation.mode.is_negative
            if valid and isinstance(case.body, dict) and case.media_type == "multipart/form-data":
                case.body = {**case.body, "x": FILE}
                case.body.pop("y", None)

        def after_call(self, response: Any, case: schemathesis.Case) -> None:
            seen.append((f"{case.method} {case.path}", response.status_code))

        def validate_response(self, response: Any, case: schemathesis.Case, **options: Any) -> None:
            # The schema cannot say that an id must have been handed out.
            case.validate_response(
                response, excluded_checks=[positive_data_acceptance, negative_data_rejection]
            )

    # What can follow depends on answers, and these on ids and on time: when the same beginning
    # leads elsewhere, hypothesis gives up. What was seen until then counts.
    with contextlib.suppress(hypothesis.errors.FlakyStrategyDefinition):
        Chains.run(
            settings=hypothesis.settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
        )
