"""The activations of the kernel language. To add one: a file here, and a name in this union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from workers.kernels.duals.base import ActivationModel
from workers.kernels.duals.combination import Combination
from workers.kernels.duals.elu import Elu, Selu
from workers.kernels.duals.erf import Erf
from workers.kernels.duals.exponential import Exp, Gaussian
from workers.kernels.duals.gelu import Gelu
from workers.kernels.duals.polynomial import Hermite, Polynomial
from workers.kernels.duals.powers import RectifiedPower, Sign, Step
from workers.kernels.duals.relu_like import Abs, LeakyRelu, Linear, Relu, ReluLike
from workers.kernels.duals.sigmoid_like import SigmoidLike
from workers.kernels.duals.sigmoidal import Sigmoid, Tanh
from workers.kernels.duals.smooth_rectifiers import GeluTanh, Mish, Silu, Softplus
from workers.kernels.duals.trigonometric import Cos, Rbf, Sin

Activation = Annotated[
    Relu
    | LeakyRelu
    | ReluLike
    | Abs
    | Linear
    | Erf
    | SigmoidLike
    | Gelu
    | Elu
    | Selu
    | Tanh
    | Sigmoid
    | Softplus
    | Silu
    | Mish
    | GeluTanh
    | Sin
    | Cos
    | Rbf
    | Exp
    | Gaussian
    | Polynomial
    | Hermite
    | RectifiedPower
    | Sign
    | Step
    | Combination,
    Field(discriminator="fn"),
]

ACTIVATIONS: tuple[type[ActivationModel], ...] = (
    Relu,
    LeakyRelu,
    ReluLike,
    Abs,
    Linear,
    Erf,
    SigmoidLike,
    Gelu,
    Elu,
    Selu,
    Tanh,
    Sigmoid,
    Softplus,
    Silu,
    Mish,
    GeluTanh,
    Sin,
    Cos,
    Rbf,
    Exp,
    Gaussian,
    Polynomial,
    Hermite,
    RectifiedPower,
    Sign,
    Step,
    Combination,
)
"""The members of `Activation`, in the order of the catalogue."""

__all__ = ["ACTIVATIONS", "Activation"]
