"""Any network that the language can write has one canonical form, and nothing else parses."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.kernels import InvalidKernelError, parse_kernel

positive = st.floats(1e-3, 1e3)
dense = st.fixed_dictionaries(
    {"op": st.just("dense"), "w_std": positive}, optional={"b_std": st.floats(0, 10)}
)
slope = st.floats(-3, 3)
activation = st.one_of(
    st.sampled_from(
        [
            {"op": "activation", "fn": "relu"},
            {"op": "activation", "fn": "abs"},
            {"op": "activation", "fn": "linear"},
        ]
    ),
    st.builds(lambda s: {"op": "activation", "fn": "leaky_relu", "slope": s}, slope),
    st.builds(
        lambda a, b: {
            "op": "activation",
            "fn": "relu_like",
            "positive_slope": 1 + a * a,
            "negative_slope": b,
        },
        slope,
        slope,
    ),
    st.builds(
        lambda a, s: {"op": "activation", "fn": "erf", "amplitude": a, "scale": s},
        positive,
        positive,
    ),
)


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    layers: list[dict[str, Any]] = draw(
        st.sampled_from([[], [{"op": "normalize"}], [{"op": "normalize", "kind": "none"}]])
    ).copy()
    for _ in range(draw(st.integers(0, 5))):
        layers.append(draw(dense))
        if draw(st.booleans()):
            layers.append(draw(activation))
    return {"layers": [*layers, draw(dense)]}


@given(networks())
def test_canonical_form_is_a_fixed_point(source: dict[str, Any]) -> None:
    spec = parse_kernel(source)
    canonical = spec.canonical()
    again = parse_kernel(json.loads(json.dumps(canonical)))
    assert again.canonical() == canonical
    assert again.digest == spec.digest


@given(networks(), st.data())
def test_unknown_fields_are_errors_anywhere(source: dict[str, Any], data: st.DataObject) -> None:
    source = copy.deepcopy(source)
    place = data.draw(st.sampled_from([source, *source["layers"]]))
    place["unknown_field"] = 1
    with pytest.raises(InvalidKernelError, match="unknown_field"):
        parse_kernel(source)


@given(
    st.integers(1, 40),
    activation,
    positive,
    st.floats(0, 10),
    st.sampled_from(["none", "unit"]),
)
def test_a_preset_is_its_layers(
    depth: int, phi: dict[str, Any], w_std: float, b_std: float, normalize: str
) -> None:
    preset = parse_kernel(
        {
            "preset": "fc",
            "depth": depth,
            "activation": {key: value for key, value in phi.items() if key != "op"},
            "w_std": w_std,
            "b_std": b_std,
            "normalize": normalize,
        }
    )
    affine = {"op": "dense", "w_std": w_std, "b_std": b_std}
    written = [{"op": "normalize", "kind": normalize}, *[affine, phi] * depth, affine]
    assert preset.digest == parse_kernel({"layers": written}).digest


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), st.lists))
def test_arbitrary_json_is_refused_with_a_reason(source: Any) -> None:
    with pytest.raises(InvalidKernelError):
        parse_kernel({"layers": source})
