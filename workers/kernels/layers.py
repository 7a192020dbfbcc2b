"""The ops of the kernel language: what one entry of `layers` may be."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from workers.kernels.duals import Activation
from workers.kernels.duals.base import CatalogueModel

MAX_WIDTH = 2**40
"""Largest width of a dense layer (units), beyond which fan-in times kernel loses meaning."""


class Dense(CatalogueModel):
    """Affine layer: K -> w_std^2 K/fan_in + b_std^2, fan-in normalised.

    `b_std = 0` means that the layer has no bias. `width` (units) matters only to the `standard`
    parametrisation, where every dense layer but the last must have it.
    """

    summary: ClassVar[str] = "fully connected layer: K -> w_std^2 K + b_std^2"
    source: ClassVar[str] = "Lee et al. 2018, eq. 4; Jacot et al. 2018, proposition 1, theorem 1"

    op: Literal["dense"]
    w_std: float = Field(default=1.0, gt=0, strict=True, description="Weight deviation.")
    b_std: float = Field(default=0.0, ge=0, strict=True, description="Bias deviation; 0: none.")
    width: int | None = Field(default=None, ge=1, le=MAX_WIDTH, strict=True)

    @field_validator("b_std")
    @classmethod
    def _no_negative_zero(cls, value: float) -> float:
        return value + 0.0  # -0.0 and 0.0 are one kernel and must have one digest


class Normalize(CatalogueModel):
    """Scale every input row to unit Euclidean norm (`unit`), or leave it (`none`).

    Zero rows stay zero. Only allowed as the first layer.
    """

    summary: ClassVar[str] = "input rows scaled to unit Euclidean norm"
    source: ClassVar[str] = "x -> x/|x|"

    op: Literal["normalize"]
    kind: Literal["unit", "none"] = "unit"


OPS: tuple[type[CatalogueModel], ...] = (Normalize, Dense)
"""Ops other than activations, in the order of the catalogue."""

Layer = Annotated[Normalize | Dense | Activation, Field(discriminator="op")]
