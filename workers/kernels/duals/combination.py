"""Weighted sums of activations, named by the user: phi = sum of coefficient * part(x).

The kernels of a sum hold the cross kernels of its parts, which are not in the parts' own duals:
they come from the sum as one function, by tabulated.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from workers.kernels.duals.base import ActivationModel, Dual, StrictModel
from workers.kernels.duals.elu import SELU_ALPHA, SELU_SCALE
from workers.kernels.duals.pointwise import (
    CombinedFunction,
    ConstantFunction,
    EluFunction,
    ErfFunction,
    Function,
    GeluFunction,
    GeluTanhFunction,
    LinearFunction,
    MishFunction,
    ReluLikeFunction,
    SigmoidFunction,
    SiluFunction,
    SoftplusFunction,
    TanhFunction,
)
from workers.kernels.duals.tabulated import SOURCE, TabulatedDual

Part = Literal[
    "constant",
    "linear",
    "relu",
    "abs",
    "elu",
    "selu",
    "erf",
    "tanh",
    "sigmoid",
    "softplus",
    "silu",
    "mish",
    "gelu",
    "gelu_tanh",
]

PARTS: dict[Part, Callable[[], Function]] = {
    "constant": ConstantFunction,
    "linear": LinearFunction,
    "relu": lambda: ReluLikeFunction(1.0, 0.0),
    "abs": lambda: ReluLikeFunction(1.0, -1.0),
    "elu": lambda: EluFunction(1.0, 1.0),
    "selu": lambda: EluFunction(SELU_ALPHA, SELU_SCALE),
    "erf": lambda: ErfFunction(1.0, 1.0),
    "tanh": TanhFunction,
    "sigmoid": SigmoidFunction,
    "softplus": SoftplusFunction,
    "silu": SiluFunction,
    "mish": MishFunction,
    "gelu": GeluFunction,
    "gelu_tanh": GeluTanhFunction,
}
"""Activations that may be combined: no jumps, at most linear growth, no oscillation."""

MAX_TERMS = 16
"""Most terms of a combination."""

SAMPLES = (-3.0, -1.0, -0.3, 0.3, 1.0, 3.0)


class Term(StrictModel):
    """coefficient * part(x)."""

    part: Part
    coefficient: float = Field(strict=True)


class Combination(ActivationModel):
    """Sum of coefficient * part(x)."""

    summary: ClassVar[str] = "sum of coefficient*part(x)"
    source: ClassVar[str] = SOURCE

    fn: Literal["combination"]
    terms: tuple[Term, ...] = Field(min_length=1, max_length=MAX_TERMS)

    @model_validator(mode="after")
    def _depends_on_x(self) -> Combination:
        import numpy as np

        names = [term.part for term in self.terms]
        if len(set(names)) < len(names):
            raise ValueError("a part is named twice; add its coefficients")
        slopes = self.function().slope(np.array(SAMPLES), np)
        if not np.max(np.abs(slopes)) > 1e-6 * max(abs(t.coefficient) for t in self.terms):
            raise ValueError("the combination is constant, or its terms cancel; change a term")
        return self

    def function(self) -> CombinedFunction:
        return CombinedFunction(
            tuple(term.coefficient for term in self.terms),
            tuple(PARTS[term.part]() for term in self.terms),
        )

    def dual(self) -> Dual:
        return TabulatedDual(self.function())
