"""ELU and SELU: x for x > 0, alpha (exp(x) - 1) otherwise, times a scale.

Their kernels have a closed form in the bivariate normal distribution function, which loses digits
near |rho| = 1 and overflows at large variances. The tables of tabulated.py, exact for a kink at 0,
lose none and cost less; the tests compare with the closed form in many digits.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from workers.kernels.duals.base import ActivationModel, Dual
from workers.kernels.duals.pointwise import EluFunction
from workers.kernels.duals.tabulated import SOURCE, TabulatedDual

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
"""Klambauer et al. 2017 (Self-normalizing neural networks), eq. 14."""


class Elu(ActivationModel):
    """x for x > 0, alpha (exp(x) - 1) otherwise."""

    summary: ClassVar[str] = "x for x > 0, alpha*(exp(x) - 1) otherwise"
    source: ClassVar[str] = SOURCE

    fn: Literal["elu"]
    alpha: float = Field(default=1.0, ge=-100, le=100, strict=True)

    def dual(self) -> Dual:
        return TabulatedDual(EluFunction(self.alpha, 1.0))


class Selu(ActivationModel):
    """ELU with the alpha and scale of self-normalising networks."""

    summary: ClassVar[str] = "1.05070099*elu(x) with alpha 1.67326324"
    source: ClassVar[str] = "Klambauer et al. 2017, eq. 14; " + SOURCE

    fn: Literal["selu"]

    def dual(self) -> Dual:
        return TabulatedDual(EluFunction(SELU_ALPHA, SELU_SCALE))
