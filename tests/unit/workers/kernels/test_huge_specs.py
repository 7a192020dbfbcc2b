"""Small specs that ask for enormous networks are refused before anything is built from them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from storage.errors import GramianError
from workers.kernels import InvalidKernelError, cost, parse_kernel
from workers.kernels.layers import MAX_LAYERS
from workers.kernels.registry import catalogue

HUGE = (10**9, 2**63, 10**400, -(10**9))
CONV = {"op": "conv", "filter": [3, 3]}
GAP, DENSE = {"op": "global_avg_pool"}, {"op": "dense"}


def places(entry: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every field of an entry of the catalogue that takes an integer, and how to fill it."""
    schema = entry["schema"]
    definitions = schema.get("$defs", {})

    def variants(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in part:
            yield from variants(definitions[part["$ref"].rsplit("/", 1)[1]])
        for choice in part.get("anyOf", part.get("oneOf", ())):
            yield from variants(choice)
        yield part

    for name, part in schema["properties"].items():
        for variant in variants(part):
            if variant.get("type") == "integer":
                yield name, lambda number: number
            for item in (*variant.get("prefixItems", ()), variant.get("items") or {}):
                if isinstance(item, dict) and item.get("type") == "integer":
                    count = max(1, variant.get("minItems", 1))
                    yield name, lambda number, count=count: [number] * count


def fields(kind: str) -> list[Any]:
    return [
        pytest.param(entry["name"], field, fill, id=f"{entry['name']}-{field}-{n}")
        for entry in catalogue()[kind]
        if "properties" in entry["schema"]
        for n, (field, fill) in enumerate(places(entry))
    ]


PRESETS, OPS = fields("presets"), fields("ops")


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    started = time.process_time()
    yield
    # Thousands of layers take tenths of a second; what was to be built takes hours.
    assert time.process_time() - started < 10


def test_there_are_such_fields() -> None:
    assert {("fc", "depth"), ("resnet50-preact", "stages")} <= {p.values[:2] for p in PRESETS}
    assert ("conv", "filter") in {p.values[:2] for p in OPS}


@pytest.mark.parametrize(("preset", "field", "fill"), PRESETS)
def test_no_number_of_a_preset_makes_more_layers_than_there_may_be(
    preset: str, field: str, fill: Any
) -> None:
    for number in HUGE:
        try:
            spec = parse_kernel({"preset": preset, field: fill(number)})
        except InvalidKernelError:
            continue
        assert len(spec.layers) <= MAX_LAYERS


@pytest.mark.parametrize(
    "source",
    [
        {"preset": "wide_resnet", "w_std": 1e308},
        {"preset": "fc", "w_std": 1e100},
        {"layers": [DENSE, {"op": "activation", "fn": "exp", "rate": -1e308}, DENSE]},
        {"layers": [DENSE, {"op": "residual", "body": [DENSE], "scale": 1e200}, DENSE]},
    ],
)
def test_numbers_whose_powers_overflow_are_refused(source: dict[str, Any]) -> None:
    with pytest.raises(InvalidKernelError, match="too large for a parameter"):
        parse_kernel(source)


@pytest.mark.parametrize(("op", "field", "fill"), OPS)
def test_no_number_of_a_layer_makes_its_cost_endless(op: str, field: str, fill: Any) -> None:
    for number in HUGE:
        layer = {"op": op, field: fill(number)}
        for layers in ([layer, GAP, DENSE], [CONV, layer, GAP, DENSE], [layer, DENSE]):
            try:
                spec = parse_kernel({"layers": layers})
                shape = (8, 8, 3) if spec.spatial else (64,)
                found = cost.kernel_cost(spec, shape, "float32")
            except GramianError:
                continue
            assert found.flops_per_pair < 1e12
