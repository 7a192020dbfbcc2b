"""Named convolutional networks."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from workers.kernels.duals.relu_like import Relu
from workers.kernels.input_ops import Normalize
from workers.kernels.layers import Dense, Residual
from workers.kernels.presets import PresetModel
from workers.kernels.spatial.layers import (
    AvgPool,
    Conv,
    ConvEquilibrium,
    Flatten,
    GlobalAvgPool,
    Window,
)
from workers.kernels.spec import KernelSpec

MAX_CONV_DEPTH = 256
"""Most convolutions of the preset `cntk`."""

MAX_STAGE_BLOCKS = 64
"""Most residual blocks of a stage; each is half a dozen layers."""

Blocks = Annotated[int, Field(ge=1, le=MAX_STAGE_BLOCKS, strict=True)]

RELU = Relu(fn="relu")


class SpatialPreset(PresetModel):
    """A network on images (n, P, Q, C). `outputs`: what to compute when a request does not say."""

    normalize: Literal["none", "unit", "unit_pixel"] = "none"

    @abstractmethod
    def layers(self) -> tuple[Any, ...]:
        """The layers after the normalisation."""

    def expand(self) -> KernelSpec:
        first = (
            () if self.normalize == "none" else (Normalize(op="normalize", kind=self.normalize),)
        )
        return KernelSpec(layers=(*first, *self.layers()))


class Cntk(SpatialPreset):
    """`depth` times conv and ReLU, then flatten or global average pool, then the readout.

    Arora et al.'s Theta^(L) is this NTK times the number of channels (their inputs are not divided
    by it) and, with `flatten`, times the number of pixels (they sum, they do not average).
    """

    summary: ClassVar[str] = "convolutional NTK: `depth` conv + ReLU layers, flatten or GAP readout"
    source: ClassVar[str] = "Arora et al. 2019, section 4"

    preset: Literal["cntk"]
    depth: int = Field(default=5, ge=1, le=MAX_CONV_DEPTH, strict=True)
    readout: Literal["flatten", "gap"] = "gap"
    filter: Window = (3, 3)
    padding: Literal["SAME", "VALID", "CIRCULAR"] = "SAME"
    b_std: float = Field(default=0.0, ge=0, strict=True)

    def layers(self) -> tuple[Any, ...]:
        root2 = math.sqrt(2)
        body: list[Any] = []
        for index in range(self.depth):
            conv = Conv(
                op="conv",
                filter=self.filter,
                padding=self.padding,
                w_std=root2 if index else 1.0,
                b_std=self.b_std,
            )
            body += [conv, RELU]
        pool = (
            Flatten(op="flatten")
            if self.readout == "flatten"
            else GlobalAvgPool(op="global_avg_pool")
        )
        return (*body, pool, Dense(op="dense", w_std=root2, b_std=self.b_std))


class Cdeq(SpatialPreset):
    """The convolutional equilibrium network, for images whose pixels are scaled to unit norm.

    `setting` names the paper's (sigma_w^2, sigma_u^2); else the variances are given. There is no
    bias, as in the paper. Identical images have the NTK P Q/(1 - w_var) with `post` and `trace`
    where w_var + u_var = 1.
    """

    summary: ClassVar[str] = "convolutional deep equilibrium network (CDEQ-NTK)"
    source: ClassVar[str] = "Feng & Kolter 2020, theorem 3, eqs. 13-21, table 2"

    preset: Literal["cdeq"]
    setting: Literal["0.65-0.35"] | None = None
    w_var: float = Field(default=0.65, gt=0, strict=True, description="sigma_w^2, below 1.")
    u_var: float = Field(default=0.35, gt=0, strict=True, description="sigma_u^2.")
    filter: Window = (3, 3)
    normalization: Literal["post", "pre"] = "post"
    readout: Literal["trace", "gap"] = "trace"
    normalize: Literal["none", "unit", "unit_pixel"] = "unit_pixel"

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("setting"), str):
            return data
        given = {"w_var", "u_var"} & set(data)
        if given:
            raise ValueError(f"setting fixes the variances; remove {', '.join(sorted(given))}")
        values = CDEQ_SETTINGS.get(data["setting"])
        return data if values is None else data | dict(zip(("w_var", "u_var"), values, strict=True))

    def layers(self) -> tuple[Any, ...]:
        return (
            ConvEquilibrium(
                op="conv_equilibrium",
                filter=self.filter,
                w_var=self.w_var,
                u_var=self.u_var,
                normalization=self.normalization,
                readout=self.readout,
            ),
        )


CDEQ_SETTINGS: dict[str, tuple[float, float]] = {"0.65-0.35": (0.65, 0.35)}
"""(sigma_w^2, sigma_u^2) of the equilibrium paper's convolutional experiment."""


class MyrtleModel(SpatialPreset):
    """Groups of 3 x 3 conv and ReLU with 2 x 2 average pools between them, pooled to one pixel."""

    source: ClassVar[str] = (
        "Shankar et al. 2020, figure 1; neural-tangents, examples/myrtle_network"
    )
    groups: ClassVar[tuple[int, int, int]]

    w_std: float = Field(default=math.sqrt(2), gt=0, strict=True)
    b_std: float = Field(default=0.0, ge=0, strict=True)

    def layers(self) -> tuple[Any, ...]:
        conv = Conv(op="conv", filter=(3, 3), w_std=self.w_std, b_std=self.b_std)
        pool = AvgPool(op="avg_pool", window=(2, 2))
        first, second, third = ((conv, RELU) * count for count in self.groups)
        # The pools that are left take the mean over all pixels: one pixel remains.
        return (
            *first,
            pool,
            *second,
            pool,
            *third,
            GlobalAvgPool(op="global_avg_pool"),
            Dense(op="dense", w_std=self.w_std, b_std=self.b_std),
        )


class Myrtle5(MyrtleModel):
    """Myrtle-5: four convolutions (2, 1, 1)."""

    summary: ClassVar[str] = "Myrtle-5: convolutions (2, 1, 1), average pools between"
    groups: ClassVar[tuple[int, int, int]] = (2, 1, 1)
    preset: Literal["myrtle5"]


class Myrtle7(MyrtleModel):
    """Myrtle-7: six convolutions (2, 2, 2)."""

    summary: ClassVar[str] = "Myrtle-7: convolutions (2, 2, 2), average pools between"
    groups: ClassVar[tuple[int, int, int]] = (2, 2, 2)
    preset: Literal["myrtle7"]


class Myrtle10(MyrtleModel):
    """Myrtle-10: nine convolutions (3, 3, 3)."""

    summary: ClassVar[str] = "Myrtle-10: convolutions (3, 3, 3), average pools between"
    groups: ClassVar[tuple[int, int, int]] = (3, 3, 3)
    preset: Literal["myrtle10"]


class ResNet50(SpatialPreset):
    """Pre-activation bottleneck ResNet without batch norm, average pools instead of max pools.

    7 x 7 conv of stride 2, 2 x 2 average pool, stages of bottlenecks [ReLU 1x1, ReLU 3x3(stride),
    ReLU 1x1]; the first block of a stage has a 1 x 1 projection of the activated input, and the
    stages after the first one halve the pixels. Every sum adds variances: w_std = 1 and
    `scale` < 1 keep deep ones in range.
    """

    summary: ClassVar[str] = "ResNet-50 without batch norm, pre-activation, average pools"
    source: ClassVar[str] = "He et al. 2016 (identity mappings); Golikov et al. 2022, section 9"

    preset: Literal["resnet50-preact"]
    stages: tuple[Blocks, ...] = Field(default=(3, 4, 6, 3), min_length=1, max_length=8)
    w_std: float = Field(default=1.0, gt=0, strict=True)
    scale: float = Field(default=1.0, gt=0, strict=True, description="Factor of every branch.")

    def layers(self) -> tuple[Any, ...]:
        w_std = self.w_std
        blocks: list[Any] = []
        for stage, count in enumerate(self.stages):
            for block in range(count):
                stride = 2 if stage and not block else 1
                narrow = Conv(op="conv", filter=(1, 1), w_std=w_std)
                middle = Conv(op="conv", filter=(3, 3), strides=(stride, stride), w_std=w_std)
                body = (RELU, narrow, RELU, middle, RELU, narrow)
                blocks.append(_block(body, stride, w_std, self.scale, projected=not block))
        stem = Conv(op="conv", filter=(7, 7), strides=(2, 2), w_std=w_std)
        pool = AvgPool(op="avg_pool", window=(2, 2))
        return (stem, pool, *blocks, *_readout(w_std))


class WideResNet(SpatialPreset):
    """Wide ResNet: 3 x 3 conv, three stages of `blocks` pre-activation blocks [ReLU 3x3, ReLU 3x3],
    strides 1, 2, 2. Widths do not matter to the kernel."""

    summary: ClassVar[str] = "wide ResNet (pre-activation), three stages of `blocks` blocks"
    source: ClassVar[str] = "Zagoruyko & Komodakis 2016; neural-tangents, README"

    preset: Literal["wide_resnet"]
    blocks: Blocks = Field(default=4, description="Blocks per stage.")
    w_std: float = Field(default=1.0, gt=0, strict=True)
    scale: float = Field(default=1.0, gt=0, strict=True, description="Factor of every branch.")

    def layers(self) -> tuple[Any, ...]:
        w_std = self.w_std
        layers: list[Any] = [Conv(op="conv", filter=(3, 3), w_std=w_std)]
        for stage in range(3):
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                first = Conv(op="conv", filter=(3, 3), strides=(stride, stride), w_std=w_std)
                body = (RELU, first, RELU, Conv(op="conv", filter=(3, 3), w_std=w_std))
                layers.append(_block(body, stride, w_std, self.scale, projected=not block))
        return (*layers, *_readout(w_std))


def _block(
    body: tuple[Any, ...], stride: int, w_std: float, scale: float, *, projected: bool
) -> Residual:
    """A residual; `projected`: its shortcut is a 1 x 1 convolution of the activated input."""
    projection = Conv(op="conv", filter=(1, 1), strides=(stride, stride), w_std=w_std)
    shortcut = (RELU, projection) if projected else ()
    return Residual(op="residual", body=body, shortcut=shortcut, scale=scale)


def _readout(w_std: float) -> tuple[Any, ...]:
    return RELU, GlobalAvgPool(op="global_avg_pool"), Dense(op="dense", w_std=w_std)


SpatialPresets = Cntk | Cdeq | Myrtle5 | Myrtle7 | Myrtle10 | ResNet50 | WideResNet

SPATIAL_PRESETS: dict[str, type[SpatialPreset]] = {
    "cntk": Cntk,
    "cdeq": Cdeq,
    "myrtle5": Myrtle5,
    "myrtle7": Myrtle7,
    "myrtle10": Myrtle10,
    "resnet50-preact": ResNet50,
    "wide_resnet": WideResNet,
}
"""By name, in the order of the catalogue."""
