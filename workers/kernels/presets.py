"""Named networks with a few parameters, which expand into layers."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from workers.kernels.duals import Activation
from workers.kernels.duals.base import CatalogueModel
from workers.kernels.errors import InvalidKernelError
from workers.kernels.layers import MAX_LAYERS, MAX_WIDTH, Dense, Normalize
from workers.kernels.spec import KernelSpec, invalid_kernel
from workers.kernels.structure import Parameterization

MAX_DEPTH = (MAX_LAYERS - 2) // 2
"""Most hidden layers of a preset, so that its layers fit in MAX_LAYERS."""


def _named_activation(value: Any) -> Any:
    """A bare name stands for the activation with its default parameters."""
    return {"fn": value} if isinstance(value, str) else value


ActivationOrName = Annotated[
    Activation,
    BeforeValidator(_named_activation, json_schema_input_type=str | dict[str, Any]),
]


class FullyConnectedModel(CatalogueModel):
    """`depth` hidden layers of one activation and one (w_std, b_std), then the readout.

    `outputs`: what to compute when a request does not say.
    """

    outputs: ClassVar[tuple[str, ...]]

    depth: int = Field(default=3, ge=1, le=MAX_DEPTH, strict=True, description="Hidden layers.")
    activation: ActivationOrName = Field(
        default_factory=lambda: TypeAdapter(Activation).validate_python({"fn": "relu"}),
        description="Name, or object with parameters such as {'fn': 'leaky_relu', 'slope': 0.1}.",
    )
    w_std: float = Field(default=math.sqrt(2), gt=0, strict=True)
    b_std: float = Field(default=0.0, ge=0, strict=True)
    normalize: Literal["none", "unit"] = "none"
    parameterization: Parameterization = "ntk"
    width: int | None = Field(
        default=None,
        ge=1,
        le=MAX_WIDTH,
        strict=True,
        description="Units per hidden layer; for the standard parameterization only.",
    )

    def expand(self) -> KernelSpec:
        hidden = Dense(op="dense", w_std=self.w_std, b_std=self.b_std, width=self.width)
        readout = Dense(op="dense", w_std=self.w_std, b_std=self.b_std)
        normalize = (Normalize(op="normalize"),) if self.normalize == "unit" else ()
        body = (hidden, self.activation) * self.depth
        return KernelSpec(
            layers=(*normalize, *body, readout), parameterization=self.parameterization
        )


class FullyConnected(FullyConnectedModel):
    """The network for NTK regression."""

    summary: ClassVar[str] = "fully connected network: `depth` hidden layers and a readout (NTK)"
    source: ClassVar[str] = "Jacot et al. 2018, theorem 1"
    outputs: ClassVar[tuple[str, ...]] = ("ntk",)

    preset: Literal["fc"]


class NngpFullyConnected(FullyConnectedModel):
    """The same network for Gaussian-process regression: only its NNGP is asked for."""

    summary: ClassVar[str] = "the network of `fc`, for Gaussian-process regression (NNGP)"
    source: ClassVar[str] = "Lee et al. 2018, eqs. 4-5"
    outputs: ClassVar[tuple[str, ...]] = ("nngp",)

    preset: Literal["nngp-fc"]


Preset = Annotated[FullyConnected | NngpFullyConnected, Field(discriminator="preset")]

PRESETS: dict[str, type[FullyConnectedModel]] = {
    "fc": FullyConnected,
    "nngp-fc": NngpFullyConnected,
}
"""The members of `Preset` by name, in the order of the catalogue."""


def preset_model(name: object) -> type[FullyConnectedModel]:
    """The parameters of the preset called `name`. Raises InvalidKernelError if there is none."""
    if not isinstance(name, str) or name not in PRESETS:
        raise InvalidKernelError(
            f"There is no kernel preset {str(name)[:64]!r}.",
            advice=f"Presets: {', '.join(PRESETS)}. Or list the network's layers.",
        )
    return PRESETS[name]


def expand_preset(source: dict[str, Any]) -> KernelSpec:
    """The layers of the preset that `source["preset"]` names, with its parameters.

    Raises InvalidKernelError for an unknown name, an unknown field, or a value out of range.
    """
    preset = _parse_preset(source)
    try:
        return preset.expand()
    except ValidationError as error:
        raise invalid_kernel(error) from None


def default_outputs(source: str | dict[str, Any] | KernelSpec) -> tuple[str, ...]:
    """Outputs to compute when a request names none: the preset's own, else `("ntk",)`."""
    if isinstance(source, str):
        return type(_parse_preset({"preset": source})).outputs
    if isinstance(source, dict) and "preset" in source:
        return type(_parse_preset(source)).outputs
    return ("ntk",)


def _parse_preset(source: dict[str, Any]) -> FullyConnectedModel:
    model = preset_model(source.get("preset"))
    try:
        return model.model_validate(source)
    except ValidationError as error:
        raise invalid_kernel(error) from None
