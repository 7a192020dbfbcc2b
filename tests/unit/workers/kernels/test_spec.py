"""The kernel language accepts what it documents, and says what to change in what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest

from workers.kernels.errors import InvalidKernelError
from workers.kernels.layers import MAX_LAYERS, MAX_NESTING
from workers.kernels.outputs import check_outputs
from workers.kernels.presets import MAX_DEPTH, default_outputs, presets
from workers.kernels.spec import KernelSpec, parse_kernel

DENSE = {"op": "dense"}
RELU = {"op": "activation", "fn": "relu"}


def residual(*body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"op": "residual", "body": list(body), **fields}


def nested(depth: int) -> dict[str, Any]:
    """Residual blocks inside each other, `depth` of them."""
    inner = residual(DENSE)
    for _ in range(depth - 1):
        inner = residual(inner, DENSE)
    return inner


WIDE = {"op": "dense", "width": 8}


def layers(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"layers": list(items), **fields}


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("nope", "Presets: fc"),
        (3, "not int"),
        ({}, "layers: Field required"),
        ({"preset": ["fc"]}, "no kernel preset"),
        ({"preset": "fc", "dept": 3}, "dept: Extra inputs"),
        ({"preset": "fc", "depth": 0}, "depth"),
        ({"preset": "fc", "depth": 2.5}, "depth"),
        ({"preset": "fc", "depth": MAX_DEPTH + 1}, "depth"),
        ({"preset": "fc", "depth": 10**9}, "depth"),
        ({"preset": "fc", "activation": "no-such"}, "activation"),
        ({"preset": "fc", "activation": {"fn": "relu", "slope": 1.0}}, "activation.slope"),
        ({"preset": "fc", "parameterization": "standard"}, "width"),
        ({"preset": "fc", "width": 64}, "width has no effect"),
        (layers(), "at least its readout"),
        (layers(*[DENSE] * (MAX_LAYERS + 1)), "layers"),
        (layers(RELU, DENSE), "must start with a dense layer"),
        (layers(DENSE, RELU), "must end with its readout"),
        (layers(DENSE, RELU, RELU, DENSE), "layers[2] is an activation directly after"),
        (layers(DENSE, {"op": "normalize"}, DENSE), "layers[1] is a normalize"),
        (layers({"op": "normalize"}), "must start with a dense layer"),
        (layers({"op": "dens"}), "layers[0]"),
        (layers({"op": "dense", "w_std": 0}), "layers[0].w_std"),
        (layers({"op": "dense", "w_std": -1.0}), "layers[0].w_std"),
        (layers({"op": "dense", "w_std": math.inf}), "layers[0].w_std"),
        (layers({"op": "dense", "w_std": "1.0"}), "layers[0].w_std"),
        (layers({"op": "dense", "w_std": True}), "layers[0].w_std"),
        (layers({"op": "dense", "b_std": -0.1}), "layers[0].b_std"),
        (layers({"op": "dense", "b_std": math.nan}), "layers[0].b_std"),
        (layers({"op": "dense", "width": 3}), "readout"),
        (layers(DENSE, parameterization="mup"), "parameterization"),
        (
            layers(
                DENSE,
                {"op": "activation", "fn": "relu_like", "positive_slope": 0, "negative_slope": 0},
                DENSE,
            ),
            "both slopes are 0",
        ),
        (layers(DENSE, {"op": "activation", "fn": "erf", "scale": 0}, DENSE), "layers[1].scale"),
        (layers(residual(RELU, DENSE), DENSE), "must start with a dense layer"),
        (layers(DENSE, residual(), DENSE), "empty body"),
        (layers(DENSE, residual(RELU), DENSE), "layers[1].body must end in a layer with weights"),
        (layers(DENSE, residual(DENSE, RELU), DENSE), "layers[1].body must end in a layer"),
        (layers(DENSE, residual(residual(RELU, DENSE)), DENSE), "layers[1].body must end in"),
        (layers(DENSE, residual(RELU, RELU, DENSE), DENSE), "layers[1].body[1] is an activation"),
        (
            layers(DENSE, residual(DENSE, shortcut=[RELU, RELU]), DENSE),
            "layers[1].shortcut[1] is an activation directly after an activation",
        ),
        (
            layers(DENSE, RELU, residual(DENSE, RELU, DENSE), RELU, DENSE),
            "layers[3] is an activation directly after a skip of an activation's output",
        ),
        (layers(DENSE, residual({"op": "normalize"}, DENSE), DENSE), "layers[1].body[0] is a norm"),
        (layers(DENSE, residual(DENSE, scale=0.0), DENSE), "layers[1].scale"),
        (layers(DENSE, residual(DENSE, scale=math.inf), DENSE), "layers[1].scale"),
        (layers(DENSE, residual({"op": "dense", "w_std": 0.0}), DENSE), "layers[1].body[0].w_std"),
        (layers(DENSE, residual(DENSE, shortcut="x"), DENSE), "layers[1].shortcut"),
        (layers(DENSE, nested(MAX_NESTING + 1), DENSE), f"nested more than {MAX_NESTING} deep"),
        (layers(DENSE, nested(20000), DENSE), "nested more than"),
        (layers(DENSE, residual(*[DENSE] * MAX_LAYERS)), f"more than {MAX_LAYERS} layers"),
        (layers(WIDE, residual(RELU, DENSE), DENSE, parameterization="standard"), "needs"),
        (
            layers(
                WIDE,
                residual(RELU, {"op": "dense", "width": 9}),
                DENSE,
                parameterization="standard",
            ),
            "adds a branch of width 9 to a shortcut of width 8",
        ),
        (layers({"op": "dense", "trained": "some"}), "layers[0].trained"),
        (layers({"op": "dense", "trained": True}), "layers[0].trained"),
    ],
)
def test_refuses_and_names_the_place(source: Any, part: str) -> None:
    with pytest.raises(InvalidKernelError) as caught:
        parse_kernel(source)
    assert part in str(caught.value)
    assert caught.value.kind == "invalid-kernel"
    json.dumps(caught.value.details)


def test_preset_and_its_layers_are_one_kernel() -> None:
    preset = parse_kernel(
        {"preset": "fc", "depth": 2, "activation": "erf", "w_std": 1.5, "b_std": 0.05}
    )
    dense = {"op": "dense", "w_std": 1.5, "b_std": 0.05}
    written = parse_kernel(
        layers(
            dense,
            {"op": "activation", "fn": "erf"},
            dense,
            {"op": "activation", "fn": "erf", "amplitude": 1, "scale": 1.0},
            dense,
        )
    )
    assert preset.digest == written.digest
    assert len(preset.digest) == 64


def test_digest_separates_kernels_and_ignores_spelling() -> None:
    root2 = {"op": "dense", "w_std": math.sqrt(2)}
    plain = parse_kernel("fc")
    assert plain.digest == parse_kernel({"preset": "fc", "normalize": "none"}).digest
    assert plain.digest == parse_kernel(layers(root2, RELU, root2, RELU, root2, RELU, root2)).digest
    assert (
        parse_kernel(
            layers({"op": "normalize", "kind": "none"}, {"op": "dense", "b_std": -0.0})
        ).digest
        == parse_kernel(layers(DENSE)).digest
    )
    others = [
        parse_kernel({"preset": "fc", "normalize": "unit"}),
        parse_kernel({"preset": "fc", "depth": 4}),
        parse_kernel({"preset": "fc", "b_std": 1e-9}),
        parse_kernel({"preset": "fc", "parameterization": "standard", "width": 64}),
        parse_kernel({"preset": "fc", "parameterization": "standard", "width": 65}),
    ]
    assert len({plain.digest, *(kernel.digest for kernel in others)}) == len(others) + 1


def test_residual_blocks_have_one_canonical_form() -> None:
    short = parse_kernel(layers(DENSE, residual(RELU, DENSE), DENSE))
    spelled = layers(
        {"op": "dense", "trained": "all"},
        residual(RELU, {"op": "dense", "trained": "weights"}, shortcut=[], scale=1),
        DENSE,
    )
    assert short.digest == parse_kernel(spelled).digest
    assert short.digest == parse_kernel(json.loads(json.dumps(short.canonical()))).digest
    assert parse_kernel(layers(DENSE, nested(MAX_NESTING), DENSE)).canonical()
    others = [
        layers(DENSE, residual(RELU, DENSE, scale=0.5), DENSE),
        layers(DENSE, residual(RELU, DENSE, shortcut=[DENSE]), DENSE),
        layers(DENSE, residual(residual(RELU, DENSE), DENSE), DENSE),
        layers(DENSE, residual(RELU, DENSE), {"op": "dense", "trained": "none"}),
    ]
    assert len({short.digest, *(parse_kernel(other).digest for other in others)}) == 5


def test_what_is_trained_has_one_spelling() -> None:
    """Without a bias only the weights are left to train."""

    def digest(**fields: Any) -> str:
        return parse_kernel(layers({"op": "dense", **fields})).digest

    assert digest(trained="weights") == digest(trained="all") == digest()
    assert digest(trained="biases") == digest(trained="none")
    with_bias = {digest(b_std=0.1, trained=x) for x in ("all", "weights", "biases", "none")}
    assert len(with_bias) == 4


def test_a_network_that_is_not_trained_has_no_ntk() -> None:
    spec = parse_kernel(layers({"op": "dense", "trained": "none"}))
    check_outputs(spec, ("nngp",))
    with pytest.raises(InvalidKernelError, match="No layer of this network is trained"):
        check_outputs(spec, ("nngp", "ntk"))


def test_digest_is_stable_across_versions() -> None:
    """Stored matrices are named by it: changing the canonical form is a format change."""
    assert (
        parse_kernel("fc").digest
        == "7b1edbae6d91ed0046a80536f640b070de53f766208e5f5fdf2b9bb55bb93b1d"
    )


@pytest.mark.parametrize("name", list(presets()))
def test_presets_expand_and_round_trip(name: str) -> None:
    spec = parse_kernel(name)
    assert parse_kernel(spec.canonical()) == spec
    assert parse_kernel(spec) is spec
    assert set(default_outputs(name)) <= {"nngp", "ntk"}


def test_nngp_preset_is_the_same_network_asked_for_its_nngp() -> None:
    assert parse_kernel("nngp-fc").digest == parse_kernel("fc").digest
    assert default_outputs({"preset": "nngp-fc", "depth": 1}) == ("nngp",)
    assert default_outputs("fc") == default_outputs(layers(DENSE)) == ("ntk",)


def test_specs_are_immutable() -> None:
    spec = parse_kernel("fc")
    with pytest.raises(ValueError, match="frozen"):
        spec.parameterization = "standard"  # type: ignore[misc]
    assert isinstance(spec, KernelSpec)


def test_reading_specs_does_not_import_jax() -> None:
    """The service validates, describes and prices kernels; it must never load JAX."""
    script = (
        "import sys, json\n"
        "from workers.kernels import parse_kernel\n"
        "from workers.kernels.registry import catalogue\n"
        "from workers.kernels import cost\n"
        "spec = parse_kernel('fc'); json.dumps(catalogue())\n"
        "cost.nanoseconds_per_pair(spec, 10, 'float32')\n"
        "cost.block_bytes(spec, 64, 10, 'float32')\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0
