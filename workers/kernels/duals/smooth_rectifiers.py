"""Smooth relatives of ReLU without closed form (tabulated.py)."""

from __future__ import annotations

from typing import ClassVar, Literal

from workers.kernels.duals.base import ActivationModel, Dual
from workers.kernels.duals.pointwise import (
    GeluTanhFunction,
    MishFunction,
    SiluFunction,
    SoftplusFunction,
)
from workers.kernels.duals.tabulated import SOURCE, TabulatedDual


class Softplus(ActivationModel):
    """log(1 + exp(x))."""

    summary: ClassVar[str] = "log(1 + exp(x))"
    source: ClassVar[str] = SOURCE

    fn: Literal["softplus"]

    def dual(self) -> Dual:
        return TabulatedDual(SoftplusFunction())


class Silu(ActivationModel):
    """x/(1 + exp(-x)), also called swish."""

    summary: ClassVar[str] = "x/(1 + exp(-x)), also called swish"
    source: ClassVar[str] = SOURCE

    fn: Literal["silu"]

    def dual(self) -> Dual:
        return TabulatedDual(SiluFunction())


class Mish(ActivationModel):
    """x tanh(log(1 + exp(x)))."""

    summary: ClassVar[str] = "x*tanh(log(1 + exp(x)))"
    source: ClassVar[str] = SOURCE

    fn: Literal["mish"]

    def dual(self) -> Dual:
        return TabulatedDual(MishFunction())


class GeluTanh(ActivationModel):
    """The approximation of GELU by tanh; `gelu` is the exact one."""

    summary: ClassVar[str] = "x*(1 + tanh(sqrt(2/pi)*(x + 0.044715*x^3)))/2"
    source: ClassVar[str] = SOURCE

    fn: Literal["gelu_tanh"]

    def dual(self) -> Dual:
        return TabulatedDual(GeluTanhFunction())
