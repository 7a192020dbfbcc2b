"""The catalogue describes exactly what the parser accepts."""

from __future__ import annotations

import json

import pytest

from workers.kernels.duals import ACTIVATIONS
from workers.kernels.errors import InvalidKernelError
from workers.kernels.presets import presets
from workers.kernels.registry import catalogue, preset_entry
from workers.kernels.spec import parse_kernel


def test_every_part_is_listed_with_schema_and_source() -> None:
    listed = catalogue()
    json.dumps(listed, allow_nan=False)
    assert [entry["name"] for entry in listed["presets"]] == list(presets())
    assert len(listed["activations"]) == len(ACTIVATIONS)
    assert {entry["name"] for entry in listed["ops"]} >= {"dense", "normalize", "activation"}
    for entry in listed["activations"] + listed["presets"]:
        assert entry["summary"]
        assert entry["source"]
        assert entry["schema"]["additionalProperties"] is False


def test_expansion_of_a_preset_is_the_preset() -> None:
    for name in presets():
        assert parse_kernel(preset_entry(name)["expansion"]).digest == parse_kernel(name).digest


def test_unknown_preset() -> None:
    with pytest.raises(InvalidKernelError, match="no kernel preset"):
        preset_entry("nope")
