"""The ops that act on samples with pixels: convolutions, pools, readouts, equilibria."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from workers.kernels.duals.base import CatalogueModel

MAX_WINDOW = 256
"""Longest side of a filter or of a pooling window, pixels."""

LARGEST_EQUILIBRIUM_W_VAR = 0.999
"""Largest sigma_w^2 of a convolutional equilibrium network: rounding errors are multiplied by up
to 1/(1 - w_var), and steps by the square root of that."""

Side = Annotated[int, Field(ge=1, le=MAX_WINDOW, strict=True)]
Window = Annotated[tuple[Side, ...], Field(min_length=1, max_length=2)]
"""Pixels along each axis of the samples: [k] for sequences, [k, l] for images."""

Padding = Literal["SAME", "VALID", "CIRCULAR"]


class Conv(CatalogueModel):
    """Convolution: K'[s, s'] = w_std^2/F sum_r K[strides*s + r, strides*s' + r] + b_std^2.

    F is the number of filter positions (`fan`: `filter`, as in neural-tangents and Arora et al.)
    or 1 (`channels`, as in Golikov et al.). Padding as in TensorFlow; CIRCULAR wraps around.
    """

    summary: ClassVar[str] = "convolution of sequences ([k]) or images ([k, l])"
    source: ClassVar[str] = "Novak et al. 2019, eq. 8; Arora et al. 2019, section 4"

    op: Literal["conv"]
    filter: Window
    strides: Annotated[tuple[Side, ...], Field(max_length=2)] = Field(
        default=(), description="One per axis of the filter; empty: 1 along every axis."
    )
    padding: Padding = "SAME"
    w_std: float = Field(default=1.0, gt=0, strict=True, description="Weight deviation.")
    b_std: float = Field(default=0.0, ge=0, strict=True, description="Bias deviation; 0: none.")
    fan: Literal["filter", "channels"] = "filter"

    @model_validator(mode="before")
    @classmethod
    def _unit_strides(cls, value: Any) -> Any:
        """Strides default to 1 along every axis of the filter."""
        if isinstance(value, dict) and value.get("strides") in (None, (), []):
            shape = value.get("filter")
            if isinstance(shape, list | tuple):
                return {**value, "strides": [1] * len(shape)}
        return value

    @field_validator("b_std")
    @classmethod
    def _no_negative_zero(cls, value: float) -> float:
        return value + 0.0  # -0.0 and 0.0 are one kernel and must have one digest

    @model_validator(mode="after")
    def _one_rank(self) -> Conv:
        if len(self.strides) != len(self.filter):
            raise ValueError(
                f"the filter has {len(self.filter)} axes and strides {len(self.strides)}; "
                "give one stride per axis of the filter"
            )
        return self

    @property
    def gain(self) -> float:
        """Factor of each term of the sum: w_std^2/F."""
        size = 1
        if self.fan == "filter":
            for side in self.filter:
                size *= side
        return self.w_std**2 / size


class PoolModel(CatalogueModel):
    """Windows that tile the samples: each window becomes one pixel."""

    window: Window


class AvgPool(PoolModel):
    """Mean over non-overlapping windows, which must divide the samples."""

    summary: ClassVar[str] = "mean over non-overlapping windows"
    source: ClassVar[str] = "K -> A K A^T, A the pooling matrix"

    op: Literal["avg_pool"]


class SumPool(PoolModel):
    """Sum over non-overlapping windows, which must divide the samples."""

    summary: ClassVar[str] = "sum over non-overlapping windows"
    source: ClassVar[str] = "K -> A K A^T, A the pooling matrix"

    op: Literal["sum_pool"]


class GlobalAvgPool(CatalogueModel):
    """Mean over all pixels: K -> mean of K[s, s'] over all pixel pairs."""

    summary: ClassVar[str] = "mean over all pixels, before dense layers"
    source: ClassVar[str] = "Arora et al. 2019, section 4.2 (CNTK-GAP)"

    op: Literal["global_avg_pool"]


class Flatten(CatalogueModel):
    """All pixels side by side: K -> mean of K[s, s] over the pixels (fan-in normalised)."""

    summary: ClassVar[str] = "pixels side by side, before dense layers"
    source: ClassVar[str] = "Novak et al. 2019, section 3.1"

    op: Literal["flatten"]


class ConvEquilibrium(CatalogueModel):
    """A whole convolutional equilibrium network with its readout: infinitely many layers.

    The state z = [sqrt(w_var) W * phi(z) + sqrt(u_var) U * x]/S with zero padding, phi the ReLU
    with E[phi^2] = 1, and S(s)^2 the number of pixels of the window around s inside the image:
    `post` divides by S after the convolution (variances stay 1 for unit pixels and w_var + u_var
    = 1), `pre` divides phi(z) and x before it, as the paper's equations are printed. The readout
    takes phi(z) and x of every pixel and is part of the NTK; `trace` sums the kernel over equal
    pixels, `gap` is its mean over all pixel pairs. <x, y> is not divided by the channels.
    """

    summary: ClassVar[str] = "convolutional equilibrium network (CDEQ-NTK), readout included"
    source: ClassVar[str] = "Feng & Kolter 2020, theorem 3, eqs. 13-21"

    op: Literal["conv_equilibrium"]
    filter: Window
    w_var: float = Field(gt=0, strict=True, description="sigma_w^2, below 1.")
    u_var: float = Field(gt=0, strict=True, description="sigma_u^2.")
    normalization: Literal["post", "pre"] = "post"
    readout: Literal["trace", "gap"] = "trace"

    @field_validator("w_var")
    @classmethod
    def _contracts(cls, value: float) -> float:
        if value >= 1:
            raise ValueError(
                f"sigma_w^2 = {value} has no fixed point: every layer multiplies variances by "
                "w_var, which must be below 1"
            )
        if value > LARGEST_EQUILIBRIUM_W_VAR:
            raise ValueError(
                f"sigma_w^2 = {value} multiplies rounding errors by 1/(1 - w_var); use at most "
                f"{LARGEST_EQUILIBRIUM_W_VAR}"
            )
        return value

    @field_validator("filter")
    @classmethod
    def _centred(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(side % 2 == 0 for side in value):
            raise ValueError("the filter must have odd sides, so that it has a middle")
        return value


SPATIAL_OPS: tuple[type[CatalogueModel], ...] = (
    Conv,
    AvgPool,
    SumPool,
    GlobalAvgPool,
    Flatten,
    ConvEquilibrium,
)
"""In the order of the catalogue."""
