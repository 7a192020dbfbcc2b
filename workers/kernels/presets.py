"""Named networks with a few parameters, which expand into layers."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from workers.kernels.duals import Activation
from workers.kernels.duals.base import CatalogueModel
from workers.kernels.duals.relu_like import Relu
from workers.kernels.errors import InvalidKernelError
from workers.kernels.input_ops import Normalize
from workers.kernels.layers import MAX_LAYERS, MAX_WIDTH, Dense, Trained
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


def relu() -> Activation:
    """The activation of a preset that names none."""
    return Relu(fn="relu")


class PresetModel(CatalogueModel):
    """Base of presets. `outputs`: what to compute when a request does not say."""

    outputs: ClassVar[tuple[str, ...]] = ("ntk",)

    @abstractmethod
    def expand(self) -> KernelSpec:
        """The network in layers. Raises pydantic's ValidationError where it is not one."""


Deviation = Annotated[float, Field(gt=0, strict=True)]
BiasDeviation = Annotated[float, Field(ge=0, strict=True)]


class FullyConnectedModel(PresetModel):
    """`depth` hidden layers of one activation, then the readout.

    `w_std`, `b_std` and `trained` are shared by the `depth + 1` affine layers, or lists with one
    value per layer, readout last. `trained`: "last" means the readout only.
    """

    depth: int = Field(default=3, ge=1, le=MAX_DEPTH, strict=True, description="Hidden layers.")
    activation: ActivationOrName = Field(
        default_factory=relu,
        description="Name, or object with parameters such as {'fn': 'leaky_relu', 'slope': 0.1}.",
    )
    w_std: Deviation | tuple[Deviation, ...] = math.sqrt(2)
    b_std: BiasDeviation | tuple[BiasDeviation, ...] = 0.0
    normalize: Literal["none", "unit"] = "none"
    parameterization: Parameterization = "ntk"
    width: int | None = Field(
        default=None,
        ge=1,
        le=MAX_WIDTH,
        strict=True,
        description="Units per hidden layer; for the standard parameterization only.",
    )
    trained: Literal["all", "last"] | tuple[Trained, ...] = "all"

    @model_validator(mode="after")
    def _one_per_layer(self) -> FullyConnectedModel:
        for name in ("w_std", "b_std", "trained"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.depth + 1:
                raise ValueError(
                    f"{name} lists {len(value)} values for {self.depth + 1} affine layers (hidden "
                    "layers and readout); give one value, or one per layer"
                )
        return self

    def expand(self) -> KernelSpec:
        count = self.depth + 1
        w_std, b_std = _per_layer(self.w_std, count), _per_layer(self.b_std, count)
        layers: list[Any] = []
        for index in range(count):
            hidden = index < self.depth
            layers.append(
                Dense(
                    op="dense",
                    w_std=w_std[index],
                    b_std=b_std[index],
                    width=self.width if hidden else None,
                    trained=self._trained()[index],
                )
            )
            layers += [self.activation] * hidden
        normalize = (Normalize(op="normalize"),) if self.normalize == "unit" else ()
        return KernelSpec(layers=(*normalize, *layers), parameterization=self.parameterization)

    def _trained(self) -> tuple[Trained, ...]:
        everything: tuple[Trained, ...] = ("all",)
        if self.trained == "last":
            nothing: tuple[Trained, ...] = ("none",)
            return nothing * self.depth + everything
        return everything * (self.depth + 1) if self.trained == "all" else self.trained


def _per_layer(value: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * count


class FullyConnected(FullyConnectedModel):
    """The network for NTK regression."""

    summary: ClassVar[str] = "fully connected network: `depth` hidden layers and a readout (NTK)"
    source: ClassVar[str] = "Jacot et al. 2018, theorem 1"

    preset: Literal["fc"]


class NngpFullyConnected(FullyConnectedModel):
    """The same network for Gaussian-process regression: only its NNGP is asked for."""

    summary: ClassVar[str] = "the network of `fc`, for Gaussian-process regression (NNGP)"
    source: ClassVar[str] = "Lee et al. 2018, eqs. 4-5"
    outputs: ClassVar[tuple[str, ...]] = ("nngp",)

    preset: Literal["nngp-fc"]


def presets() -> dict[str, type[PresetModel]]:
    """Every preset by name, in the order of the catalogue."""
    from workers.kernels.paper_presets import PAPER_PRESETS
    from workers.kernels.spatial.presets import SPATIAL_PRESETS

    return {"fc": FullyConnected, "nngp-fc": NngpFullyConnected, **PAPER_PRESETS, **SPATIAL_PRESETS}


def preset_model(name: object) -> type[PresetModel]:
    """The parameters of the preset called `name`. Raises InvalidKernelError if there is none."""
    known = presets()
    if not isinstance(name, str) or name not in known:
        raise InvalidKernelError(
            f"There is no kernel preset {str(name)[:64]!r}.",
            advice=f"Presets: {', '.join(known)}. Or list the network's layers.",
        )
    return known[name]


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


def _parse_preset(source: dict[str, Any]) -> PresetModel:
    model = preset_model(source.get("preset"))
    try:
        return model.model_validate(source)
    except ValidationError as error:
        raise invalid_kernel(error) from None
