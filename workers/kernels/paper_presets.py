"""Networks as papers write them: their parameters, their way to count depth, their input scale.

What each count means in layers is in README.md. Papers whose inner product of inputs is not
divided by the dimension get it through the op `rescale`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from workers.kernels.duals.base import ActivationModel
from workers.kernels.duals.relu_like import Relu
from workers.kernels.input_ops import Normalize, Rescale
from workers.kernels.layers import MAX_LAYERS, Dense, FixedPoint, InputInjection, Residual
from workers.kernels.presets import MAX_DEPTH, ActivationOrName, PresetModel, relu
from workers.kernels.spec import KernelSpec

MAX_BLOCKS = (MAX_LAYERS - 2) // 4
"""Most residual blocks or injected layers of a preset, so that its layers fit in MAX_LAYERS."""


class Jacot(PresetModel):
    """L affine layers with weights of deviation 1 and biases of deviation beta."""

    summary: ClassVar[str] = "L affine layers, w_std 1, b_std beta; depth L - 1 of `fc`"
    source: ClassVar[str] = "Jacot et al. 2018, section 2 and remark 1"

    preset: Literal["jacot"]
    affine_layers: int = Field(default=4, ge=1, le=MAX_DEPTH + 1, strict=True, description="L.")
    beta: float = Field(default=0.1, ge=0, strict=True, description="Deviation of the biases.")
    activation: ActivationOrName = Field(default_factory=relu)

    def expand(self) -> KernelSpec:
        return _affine_layers(self.affine_layers, self.activation, 1.0, self.beta)


class Survey(PresetModel):
    """L affine layers with weights of deviation 1 and no biases.

    `input_scaling` false is eq. 58 as printed, which does not divide <x, x'> by the dimension.
    """

    summary: ClassVar[str] = "L affine layers, w_std 1, no bias; depth L - 1 of `fc`"
    source: ClassVar[str] = "Golikov et al. 2022, eqs. 53-61"

    preset: Literal["survey"]
    affine_layers: int = Field(default=3, ge=1, le=MAX_DEPTH + 1, strict=True, description="L.")
    activation: ActivationOrName = Field(default_factory=relu)
    input_scaling: bool = Field(default=True, strict=True)

    def expand(self) -> KernelSpec:
        inputs = () if self.input_scaling else (_undivided(),)
        return _affine_layers(self.affine_layers, self.activation, 1.0, 0.0, inputs)


class Hayou(PresetModel):
    """L affine layers y^1, ..., y^L with (w_std, b_std); the defaults are ReLU's edge of chaos."""

    summary: ClassVar[str] = "L affine layers with (w_std, b_std); depth L - 1 of `fc`"
    source: ClassVar[str] = "Hayou et al. 2019, section 2"

    preset: Literal["hayou"]
    affine_layers: int = Field(default=3, ge=1, le=MAX_DEPTH + 1, strict=True, description="L.")
    activation: ActivationOrName = Field(default_factory=relu)
    w_std: float = Field(default=math.sqrt(2), gt=0, strict=True)
    b_std: float = Field(default=0.0, ge=0, strict=True)

    def expand(self) -> KernelSpec:
        return _affine_layers(self.affine_layers, self.activation, self.w_std, self.b_std)


class TirerMlp(PresetModel):
    """L hidden layers and a readout, all with w_std and no biases."""

    summary: ClassVar[str] = "L hidden layers, no bias; depth L of `fc`"
    source: ClassVar[str] = "Tirer et al. 2020, section 2"

    preset: Literal["tirer_mlp"]
    hidden_layers: int = Field(default=3, ge=1, le=MAX_DEPTH, strict=True, description="L.")
    activation: ActivationOrName = Field(default_factory=relu)
    w_std: float = Field(default=1.0, gt=0, strict=True)

    def expand(self) -> KernelSpec:
        return _affine_layers(self.hidden_layers + 1, self.activation, self.w_std, 0.0)


class TirerResnet(PresetModel):
    """x + alpha V phi(W x) in every block, after an input layer with weights of deviation 1."""

    summary: ClassVar[str] = "L blocks x + alpha v_std V phi(w_std W x), and a readout with w_std"
    source: ClassVar[str] = "Tirer et al. 2020, section 3"

    preset: Literal["tirer_resnet"]
    blocks: int = Field(default=3, ge=0, le=MAX_BLOCKS, strict=True, description="L.")
    activation: ActivationOrName = Field(default_factory=relu)
    alpha: float = Field(default=1.0, gt=0, strict=True, description="Factor of the branch.")
    v_std: float = Field(default=1.0, gt=0, strict=True)
    w_std: float = Field(default=1.0, gt=0, strict=True)

    def expand(self) -> KernelSpec:
        inner, outer = Dense(op="dense", w_std=self.w_std), Dense(op="dense", w_std=self.v_std)
        block = Residual(op="residual", body=(inner, self.activation, outer), scale=self.alpha)
        return KernelSpec(layers=(Dense(op="dense"), *[block] * self.blocks, inner))


class HayouResnet(PresetModel):
    """y^1 affine, then y^l = y^(l-1) + an affine layer of phi(y^(l-1)); the output is y^L."""

    summary: ClassVar[str] = "y + (w_std W phi(y) + b_std b) in each of L - 1 blocks"
    source: ClassVar[str] = "Hayou et al. 2019, proposition 3"

    preset: Literal["hayou_resnet"]
    affine_layers: int = Field(default=3, ge=1, le=MAX_BLOCKS, strict=True, description="L.")
    activation: ActivationOrName = Field(default_factory=relu)
    w_std: float = Field(default=1.0, gt=0, strict=True)
    b_std: float = Field(default=0.0, ge=0, strict=True)

    def expand(self) -> KernelSpec:
        dense = Dense(op="dense", w_std=self.w_std, b_std=self.b_std)
        block = Residual(op="residual", body=(self.activation, dense))
        return KernelSpec(layers=(dense, *[block] * (self.affine_layers - 1)))


class InjectedModel(PresetModel):
    """Networks h = w W phi(h) + u U x + b, in variances as the paper writes them.

    `relu` is the paper's sqrt(2) max(0, x): `w_var` is its sigma_w^2. Other activations are taken
    as they are. The inner product of the inputs is not divided by their dimension.
    """

    w_var: float = Field(default=0.25, gt=0, strict=True, description="sigma_w^2.")
    u_var: float = Field(default=0.25, gt=0, strict=True, description="sigma_u^2.")
    b_var: float = Field(default=0.5, ge=0, strict=True, description="sigma_b^2.")
    activation: ActivationOrName = Field(default_factory=relu)
    normalize: Literal["none", "unit"] = "unit"

    def _inputs(self) -> tuple[Normalize | Rescale, ...]:
        unit = (Normalize(op="normalize"),) if self.normalize == "unit" else ()
        return (*unit, _undivided())

    def _layer(self) -> tuple[Any, ...]:
        gain = 2.0 if isinstance(self.activation, Relu) else 1.0
        return (
            self.activation,
            Dense(op="dense", w_std=math.sqrt(gain * self.w_var), b_std=math.sqrt(self.b_var)),
            InputInjection(op="input_injection", w_std=math.sqrt(self.u_var)),
        )


class Injected(InjectedModel):
    """L nonlinearities, each followed by a layer with input injection; output f^L.

    It starts from f^0 = W^0 x with covariance <x, y>, as theorem 1 does; `literal_first_layer` is
    the printed network, which starts from its first layer with g^0 = x.
    """

    summary: ClassVar[str] = "fully connected network with input injection, L nonlinearities"
    source: ClassVar[str] = "Feng & Kolter 2020, theorem 1, eqs. 2-6"

    preset: Literal["fcnn_ij"]
    depth: int = Field(default=3, ge=0, le=MAX_BLOCKS, strict=True, description="L.")
    literal_first_layer: bool = Field(default=False, strict=True)

    def expand(self) -> KernelSpec:
        _, dense, injection = self._layer()
        first: tuple[Any, ...]
        if self.literal_first_layer:
            weights = math.sqrt(self.w_var)  # g^0 = x does not pass the activation
            first = (Dense(op="dense", w_std=weights, b_std=dense.b_std), injection)
        else:
            first = (Dense(op="dense"),)
        return KernelSpec(layers=(*self._inputs(), *first, *self._layer() * self.depth))


class Equilibrium(InjectedModel):
    """The limit of `fcnn_ij` at infinite depth; weights may be tied: the kernel is the same.

    `setting` names one of the paper's, e.g. "0.6-0.4-0" for (sigma_w^2, sigma_u^2, sigma_b^2);
    else the variances are given.
    """

    summary: ClassVar[str] = "deep equilibrium network (DEQ-NTK); settings of the paper by name"
    source: ClassVar[str] = "Feng & Kolter 2020, theorem 2, eqs. 7-9"

    preset: Literal["deq"]
    setting: Literal["0.25-0.25-0.5", "0.6-0.4-0", "0.8-0.2-0"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("setting"), str):
            return data
        values = SETTINGS.get(data["setting"])
        given = {"w_var", "u_var", "b_var"} & set(data)
        if given:
            raise ValueError(f"setting fixes the variances; remove {', '.join(sorted(given))}")
        return data if values is None else data | dict(zip(_VARIANCES, values, strict=True))

    def expand(self) -> KernelSpec:
        fixed_point = FixedPoint(op="fixed_point", body=self._layer())
        return KernelSpec(layers=(*self._inputs(), fixed_point))


_VARIANCES = ("w_var", "u_var", "b_var")

SETTINGS: dict[str, tuple[float, float, float]] = {
    "0.25-0.25-0.5": (0.25, 0.25, 0.5),
    "0.6-0.4-0": (0.6, 0.4, 0.0),
    "0.8-0.2-0": (0.8, 0.2, 0.0),
}
"""(sigma_w^2, sigma_u^2, sigma_b^2) of the equilibrium paper's experiments."""


def _undivided() -> Rescale:
    """Makes layers see <x, y> instead of <x, y>/d."""
    return Rescale(op="rescale", factor="sqrt_features")


def _affine_layers(
    count: int,
    activation: ActivationModel,
    w_std: float,
    b_std: float,
    inputs: Sequence[Rescale] = (),
) -> KernelSpec:
    dense = Dense(op="dense", w_std=w_std, b_std=b_std)
    body: tuple[Any, ...] = (dense, activation) * (count - 1)
    return KernelSpec(layers=(*inputs, *body, dense))


PAPER_PRESETS: dict[str, type[PresetModel]] = {
    "jacot": Jacot,
    "survey": Survey,
    "hayou": Hayou,
    "hayou_resnet": HayouResnet,
    "tirer_mlp": TirerMlp,
    "tirer_resnet": TirerResnet,
    "fcnn_ij": Injected,
    "deq": Equilibrium,
}
