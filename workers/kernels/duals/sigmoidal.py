"""Saturating activations without closed form: tanh and the logistic sigmoid (tabulated.py)."""

from __future__ import annotations

from typing import ClassVar, Literal

from workers.kernels.duals.base import ActivationModel, Dual
from workers.kernels.duals.pointwise import SigmoidFunction, TanhFunction
from workers.kernels.duals.tabulated import SOURCE, TabulatedDual


class Tanh(ActivationModel):
    """tanh(x)."""

    summary: ClassVar[str] = "tanh(x)"
    source: ClassVar[str] = SOURCE

    fn: Literal["tanh"]

    def dual(self) -> Dual:
        return TabulatedDual(TanhFunction())


class Sigmoid(ActivationModel):
    """1/(1 + exp(-x))."""

    summary: ClassVar[str] = "1/(1 + exp(-x))"
    source: ClassVar[str] = SOURCE

    fn: Literal["sigmoid"]

    def dual(self) -> Dual:
        return TabulatedDual(SigmoidFunction())
