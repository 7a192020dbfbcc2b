"""The activations of the kernel language. To add one: a file here, and a name in this union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from workers.kernels.duals.base import ActivationModel
from workers.kernels.duals.erf import Erf
from workers.kernels.duals.relu_like import Abs, LeakyRelu, Linear, Relu, ReluLike

Activation = Annotated[Relu | LeakyRelu | ReluLike | Abs | Linear | Erf, Field(discriminator="fn")]

ACTIVATIONS: tuple[type[ActivationModel], ...] = (Relu, LeakyRelu, ReluLike, Abs, Linear, Erf)
"""The members of `Activation`, in the order of the catalogue."""

__all__ = ["ACTIVATIONS", "Activation"]
