"""The list of task types is complete, and what it says about analyses is true of their code."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, get_args

import pytest

from service.jobs.registry import KINDS, TASK_TYPES, Task, task_examples
from service.jobs.results import tall_layout
from service.jobs.tasks.analysis import (
    _INPUTS,
    ANALYSES,
    Analysis,
    AnyAnalysis,
    OnGram,
    OnPair,
    OnTargets,
)
from service.jobs.tasks.theory import OnSamples
from storage.digest import check_blocks


def members(annotated: Any) -> set[type]:
    union = get_args(annotated)[0]
    return set(get_args(union))


def test_every_task_type_is_in_the_schema_and_the_other_way_round() -> None:
    assert {kind.schema for kind in TASK_TYPES} == members(Task)
    assert [*KINDS] == [kind.name for kind in TASK_TYPES]
    for kind in TASK_TYPES:
        assert kind.schema.model_json_schema()["properties"]["type"]["const"] == kind.name
        assert kind.examples, kind.name
    names = [name for kind in TASK_TYPES for name in kind.examples]
    assert len(names) == len(set(names)) == len(task_examples())


def test_every_analysis_is_in_the_schema() -> None:
    assert {analysis.schema for analysis in ANALYSES} == members(AnyAnalysis)
    assert len({analysis.name for analysis in ANALYSES}) == len(ANALYSES)


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda a: a.name)
def test_the_function_of_an_analysis_takes_what_its_schema_offers(analysis: Analysis) -> None:
    module, _, name = analysis.function.partition(":")
    signature = inspect.signature(getattr(import_module(module), name))
    schema = analysis.schema
    inputs = sum(issubclass(schema, kind) for kind in (OnGram, OnPair, OnTargets, OnSamples))
    parameters = set(schema.model_fields) - _INPUTS
    bound = signature.bind(*[None] * inputs, **dict.fromkeys(parameters))
    assert set(bound.arguments) == set(signature.parameters)
    for field in parameters:
        default = schema.model_fields[field].default
        ours = signature.parameters[field].default
        if ours is not inspect.Parameter.empty:
            assert default == ours, f"{analysis.name}.{field}"


@pytest.mark.parametrize(
    "shape", [(1,), (5,), (513, 1), (100_000, 10), (3, 4, 5), (2000, 2000), (600, 512)]
)
def test_layouts_of_results_are_whole_rows_in_blocks(shape: tuple[int, ...]) -> None:
    layout = tall_layout("a", shape)
    check_blocks(layout, 512)
    assert layout.chunk_shape[1:] == shape[1:]
    assert layout.stored_chunks == 1 or layout.chunk_shape[0] < shape[0]
