"""What an activation must provide: its parameters as data, and its dual kernels.

One file of this package per family of activations holds both. The dual kernels of phi are

    E(q, q', c)    = E[phi(u) phi(v)],     (u, v) ~ N(0, [[q, c], [c, q']])
    Edot(q, q', c) = E[phi'(u) phi'(v)] = dE/dc   (Price's theorem)

Kernels are carried in normalised form, so that nothing overflows with depth and nothing cancels
near equal or opposite rows. Per row: the standard deviation s = sqrt(q), float64. Per pair:

    rho = c / (s s'),   t = sqrt(1 - |rho|)   (t keeps its digits near +-1, where rho cannot)

An activation maps (rho, t) to the same numbers of (E, sqrt(E(q,q)), sqrt(E(q',q'))).
JAX is imported when a dual is evaluated, not when a spec is read: specs are also read by
processes that never compute.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import jax


class StrictModel(BaseModel):
    """Base of every part of the kernel language: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CatalogueModel(StrictModel):
    """A part of the language that the catalogue lists: one line, and where its formula is from."""

    summary: ClassVar[str]
    source: ClassVar[str]


class ActivationModel(CatalogueModel):
    """Base of activation ops."""

    op: Literal["activation"] = "activation"

    @abstractmethod
    def dual(self) -> Dual:
        """The dual kernels of this activation."""


class Correlation(NamedTuple):
    """Normalised covariance of one pair per entry; arrays of one shape and dtype.

    The root is carried, not 1 - |rho|, because kernels with a kink are functions of it and a
    layer then costs one square root. `rho` is None where it is known to be >= 0 in *every*
    entry (after ReLU, for example); it is then 1 - root^2.
    """

    root: jax.Array  # sqrt(1 - |rho|), in [0, 1], relative accuracy
    rho: jax.Array | None  # in [-1, 1]; None: rho >= 0 everywhere

    @property
    def w(self) -> jax.Array:
        """1 - |rho|, in [0, 1], relative accuracy."""
        return self.root * self.root

    def signed(self) -> jax.Array:
        """rho in [-1, 1], absolute accuracy of one rounding."""
        return 1 - self.w if self.rho is None else self.rho

    def below(self) -> jax.Array:
        """1 - rho in [0, 2], relative accuracy."""
        import jax.numpy as jnp

        return self.w if self.rho is None else jnp.where(self.rho >= 0, self.w, 1 - self.rho)

    def above(self) -> jax.Array:
        """1 + rho in [0, 2], relative accuracy."""
        import jax.numpy as jnp

        return 2 - self.w if self.rho is None else jnp.where(self.rho >= 0, 1 + self.rho, self.w)


class DualPair(NamedTuple):
    """Result of applying an activation to pairs."""

    correlation: Correlation  # of phi(u), phi(v)
    derivative: jax.Array | None  # Edot s s' / sqrt(E(q,q) E(q',q')); None means exactly 1


class Dual(Protocol):
    """Dual kernels of one activation. Implementations are frozen and hashable: equal duals in
    consecutive layers are compiled once.

    `differentiable`: Edot exists. Where it does not (phi jumps), there is no NTK, and `derivative`
    and `variance_derivative` are infinite at rho = 1.
    `float32_pairs`: the pair map loses nothing when evaluated in float32 (closed forms in w).
    Kernels that contain any other activation run in float64 and are rounded at the end.
    `homogeneous`: phi(a x) = a phi(x) for a > 0, so the pair map does not depend on s, s'.
    """

    def __hash__(self) -> int: ...

    @property
    def differentiable(self) -> bool: ...

    @property
    def float32_pairs(self) -> bool: ...

    @property
    def homogeneous(self) -> bool: ...

    @property
    def flops_per_pair(self) -> float:
        """Arithmetic operations of `pair` per entry, for cost estimates."""
        ...

    def deviation(self, s: jax.Array) -> jax.Array:
        """sqrt(E[phi(s z)^2]) for z ~ N(0, 1); float64 (n,) to float64 (n,), 0 maps to phi(0)."""
        ...

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        """E[phi'(s z)^2] s^2 / E[phi(s z)^2]: the diagonal of `derivative`; float64 (n,)."""
        ...

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        """The pair map. `s1` (n1, 1) and `s2` (1, n2) are given unless `homogeneous`."""
        ...


Degree = Literal["single", "double"]
"""Which set of approximation coefficients a pair map uses: for float32 or float64 entries."""
