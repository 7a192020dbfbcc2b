"""The ops of the kernel language: what one entry of `layers` may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from workers.kernels.duals import Activation
from workers.kernels.duals.base import ActivationModel, CatalogueModel
from workers.kernels.input_ops import FourierFeatures, InputOp, Normalize, Rescale
from workers.kernels.spatial.layers import (
    SPATIAL_OPS,
    AvgPool,
    Conv,
    ConvEquilibrium,
    Flatten,
    GlobalAvgPool,
    SumPool,
)

MAX_WIDTH = 2**40
"""Largest width of a dense layer (units), beyond which fan-in times kernel loses meaning."""

MAX_LAYERS = 4096
"""Most layers that a network may have, those inside combinators included."""

MAX_NESTING = 8
"""Deepest nesting of combinators (a residual inside a residual counts 2)."""

MAX_PARAMETER = 1e75
"""Largest magnitude of a deviation, rate or scale: its fourth power is still a float64."""

Trained = Literal["all", "weights", "biases", "none"]


class Dense(CatalogueModel):
    """Affine layer: K -> w_std^2 K/fan_in + b_std^2, fan-in normalised.

    `b_std = 0` means that the layer has no bias. `width` (units) matters only to the `standard`
    parametrisation, where every dense layer but the last must have it. `trained` says which of
    its parameters the NTK counts; frozen ones stay in the NNGP.
    """

    summary: ClassVar[str] = "fully connected layer: K -> w_std^2 K + b_std^2"
    source: ClassVar[str] = "Lee et al. 2018, eq. 4; Jacot et al. 2018, proposition 1, theorem 1"

    op: Literal["dense"]
    w_std: float = Field(default=1.0, gt=0, strict=True, description="Weight deviation.")
    b_std: float = Field(default=0.0, ge=0, strict=True, description="Bias deviation; 0: none.")
    width: int | None = Field(default=None, ge=1, le=MAX_WIDTH, strict=True)
    trained: Trained = Field(default="all", description="Parameters that the NTK counts.")

    @field_validator("b_std")
    @classmethod
    def _no_negative_zero(cls, value: float) -> float:
        return value + 0.0  # -0.0 and 0.0 are one kernel and must have one digest

    @field_validator("trained")
    @classmethod
    def _absent_bias(cls, value: Trained, info: ValidationInfo) -> Trained:
        """Without a bias, two spellings of `trained` mean the same layer: keep one of them."""
        if info.data.get("b_std") != 0:
            return value
        return "all" if value in ("all", "weights") else "none"

    @property
    def trains_weights(self) -> bool:
        return self.trained in ("all", "weights")

    @property
    def trains_biases(self) -> bool:
        return self.b_std > 0 and self.trained in ("all", "biases")

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _leave_out(handler(self), trained="all")


class InputInjection(CatalogueModel):
    """Add a linear map of the network's input: K -> K + w_std^2 <x, y>/d.

    Its weights are its own: of no other injection. It keeps a Gaussian state Gaussian.
    """

    summary: ClassVar[str] = "h + w_std U x/sqrt(d): K and NTK gain w_std^2 <x, y>/d"
    source: ClassVar[str] = "Feng & Kolter 2020, theorem 1, eqs. 2-6"

    op: Literal["input_injection"]
    w_std: float = Field(default=1.0, gt=0, strict=True, description="Weight deviation.")
    trained: Literal["all", "none"] = "all"

    @property
    def trains_weights(self) -> bool:
        return self.trained == "all"


class Residual(CatalogueModel):
    """Sum of two paths: shortcut(h) + scale * body(h), with independent weights.

    An empty `shortcut` is the identity. Both K and the NTK of the paths add, the branch's times
    scale^2. The body must have weights of its own on the way (a dense layer that is not inside
    another combinator), or the two paths would be correlated.
    """

    summary: ClassVar[str] = "shortcut(h) + scale*body(h): K and NTK of the paths add"
    source: ClassVar[str] = "Hayou et al. 2019, proposition 3; Tirer et al. 2020, sec. 3"

    op: Literal["residual"]
    body: tuple[Layer, ...] = Field(max_length=MAX_LAYERS, json_schema_extra={"minItems": 1})
    shortcut: tuple[Layer, ...] = Field(
        default=(), max_length=MAX_LAYERS, description="Empty: identity."
    )
    scale: float = Field(default=1.0, gt=0, strict=True, description="Factor of the branch.")


class FixedPoint(CatalogueModel):
    """The state h = body(h) of an equilibrium network: infinitely many layers, weights tied or not.

    The first layer after the input ops (a contraction forgets where it starts), and its body
    needs an `input_injection`, or the state would not depend on the inputs. For one ReLU-like
    activation and one dense layer the kernel is exact, by Newton's method on 1 - rho; other
    bodies are iterated until nothing moves.
    """

    summary: ClassVar[str] = "equilibrium network: the fixed point of its body (DEQ-NTK)"
    source: ClassVar[str] = "Feng & Kolter 2020, theorem 2, eqs. 7-9"

    op: Literal["fixed_point"]
    body: tuple[Layer, ...] = Field(max_length=MAX_LAYERS, json_schema_extra={"minItems": 1})


OPS: tuple[type[CatalogueModel], ...] = (
    Normalize,
    Rescale,
    FourierFeatures,
    Dense,
    InputInjection,
    Residual,
    FixedPoint,
    *SPATIAL_OPS,
)
"""Ops other than activations, in the order of the catalogue."""

Layer = Annotated[
    Normalize
    | Rescale
    | FourierFeatures
    | Dense
    | InputInjection
    | Residual
    | FixedPoint
    | Conv
    | AvgPool
    | SumPool
    | GlobalAvgPool
    | Flatten
    | ConvEquilibrium
    | Activation,
    Field(discriminator="op"),
]

AnyLayer = (
    InputOp
    | Dense
    | InputInjection
    | Residual
    | FixedPoint
    | Conv
    | AvgPool
    | SumPool
    | GlobalAvgPool
    | Flatten
    | ConvEquilibrium
    | ActivationModel
)
"""The members of `Layer`, for annotations."""

for _combinator in (Residual, FixedPoint):
    _combinator.model_rebuild()


def inner_layers(layer: AnyLayer) -> tuple[AnyLayer, ...]:
    """The layers inside a combinator; none for any other layer."""
    if isinstance(layer, Residual):
        return (*layer.body, *layer.shortcut)
    return layer.body if isinstance(layer, FixedPoint) else ()


def walk(layers: Iterable[AnyLayer]) -> Iterator[AnyLayer]:
    """Every layer, those inside combinators after the combinator."""
    for layer in layers:
        yield layer
        yield from walk(inner_layers(layer))


def _leave_out(data: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """`data` without the fields that have these values: fields that were added to the language
    later do not change the digests of networks that do not use them."""
    return {
        key: value for key, value in data.items() if key not in defaults or value != defaults[key]
    }
