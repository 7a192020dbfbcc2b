"""Kernel specs: a network architecture as data, its canonical form and its digest.

    {"layers": [{"op": "dense", "w_std": 1.4142135623730951},
                {"op": "activation", "fn": "relu"},
                {"op": "dense"}],
     "parameterization": "ntk"}

No JAX here: the service validates and hashes specs without computing anything.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from workers.kernels.duals.base import ActivationModel, StrictModel
from workers.kernels.errors import InvalidKernelError
from workers.kernels.input_ops import InputOp, does_nothing
from workers.kernels.layers import MAX_LAYERS, Dense, Layer, walk
from workers.kernels.spatial.structure import check_spatial, is_spatial, pixel_outputs
from workers.kernels.structure import Parameterization, check_numbers, check_size, check_structure

MAX_PROBLEMS_SHOWN = 5
"""Validation problems spelled out in one error message; `details` holds all of them."""


class KernelSpec(StrictModel):
    """A validated network. The final dense layer is the readout and is part of the NTK.

    `parameterization`: `ntk` writes the factor w_std/sqrt(fan_in) in the forward pass; `standard`
    puts it in the initial weights, which multiplies each layer's part of the NTK by
    fan_in/w_std^2 (weights) and 1/b_std^2 (bias). The NNGP is the same.
    """

    layers: tuple[Layer, ...] = Field(max_length=MAX_LAYERS, json_schema_extra={"minItems": 1})
    parameterization: Parameterization = "ntk"

    @field_validator("layers", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        check_size(value)
        return value

    @model_validator(mode="after")
    def _structure(self) -> KernelSpec:
        check_numbers(self.layers)
        if is_spatial(self.layers):
            check_spatial(self.layers, self.parameterization)
        else:
            check_structure(self.layers, self.parameterization)
        return self

    def canonical(self) -> dict[str, Any]:
        """The spec as JSON-serialisable data with every default filled in.

        Input ops that do nothing (`normalize` of kind `none`) are left out, so that two spellings
        of one network have one canonical form. `parse_kernel(spec.canonical()) == spec` up to
        such layers.
        """
        return {
            "layers": [
                layer.model_dump(mode="json", exclude_none=True)
                for layer in self.layers
                if not does_nothing(layer)
            ],
            "parameterization": self.parameterization,
        }

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the canonical JSON: the identity of the kernel."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def input_ops(self) -> tuple[InputOp, ...]:
        """What happens to the inputs before the first layer with weights."""
        return tuple(x for x in self.layers if isinstance(x, InputOp) and not does_nothing(x))

    @property
    def spatial(self) -> bool:
        """Whether the network acts on images or sequences: samples then keep their axes."""
        return is_spatial(self.layers)

    @property
    def pixel_outputs(self) -> bool:
        """Whether the network ends without a readout: its kernel is one of pixels."""
        return pixel_outputs(self.layers)

    @property
    def dense_layers(self) -> tuple[Dense, ...]:
        """All of them, those inside combinators included."""
        return tuple(layer for layer in walk(self.layers) if isinstance(layer, Dense))

    @property
    def activations(self) -> tuple[ActivationModel, ...]:
        """All of them, those inside combinators included."""
        return tuple(layer for layer in walk(self.layers) if isinstance(layer, ActivationModel))


def parse_kernel(source: str | dict[str, Any] | KernelSpec) -> KernelSpec:
    """The spec that `source` describes: a preset's name, a JSON object, or a spec itself.

    An object either names a preset (`{"preset": "fc", "depth": 3}`) or lists layers.
    Raises InvalidKernelError (kind `invalid-kernel`) that says what to change.
    """
    from workers.kernels.presets import expand_preset

    if isinstance(source, KernelSpec):
        return source
    if isinstance(source, str):
        return expand_preset({"preset": source})
    if not isinstance(source, dict):
        raise InvalidKernelError(
            f"A kernel is a preset name or an object, not {type(source).__name__}.",
            advice='Examples: "fc", {"preset": "fc", "depth": 3}, {"layers": [...]}.',
        )
    if "preset" in source:
        return expand_preset(source)
    try:
        return KernelSpec.model_validate(source)
    except ValidationError as error:
        raise invalid_kernel(error) from None


def invalid_kernel(error: ValidationError) -> InvalidKernelError:
    """The user-facing error for a failed validation: where, what, and what to change."""
    problems = [
        {
            "where": _where(item["loc"]),
            "problem": item["msg"].removeprefix("Value error, "),
        }
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    shown = "; ".join(
        f"{item['where']}: {item['problem']}" if item["where"] else item["problem"]
        for item in problems[:MAX_PROBLEMS_SHOWN]
    )
    more = len(problems) - MAX_PROBLEMS_SHOWN
    tail = f"; and {more} more" if more > 0 else ""
    return InvalidKernelError(
        f"This kernel is not valid: {shown}{tail}.",
        advice="GET /v1/kernels (or workers.kernels.registry.catalogue()) lists ops and presets.",
        problems=problems,
    )


def _where(location: tuple[int | str, ...]) -> str:
    """`layers[2].w_std` from pydantic's location, which also names the members of unions."""
    text = ""
    before: int | str = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not isinstance(before, int) and before != "activation":  # else a union's member
            text += f".{part}" if text else part
        before = part
    return text
