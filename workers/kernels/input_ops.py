"""Ops that act on the inputs, before every layer with weights. No JAX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from workers.kernels.duals.base import CatalogueModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_FREQUENCIES = 4096
"""Most frequencies of a Fourier embedding: each adds two numbers to a row (`gaussian`) or two per
coordinate (`positional`)."""

MAX_SEED = 2**32 - 1
"""Largest seed of random frequencies."""


class Normalize(CatalogueModel):
    """Scale every input row (`unit`), or every pixel of it over its channels (`unit_pixel`), to
    unit Euclidean norm, or leave it (`none`).

    Zeros stay zero.
    """

    summary: ClassVar[str] = "input rows, or their pixels, scaled to unit Euclidean norm"
    source: ClassVar[str] = "x -> x/|x|"

    op: Literal["normalize"]
    kind: Literal["unit", "unit_pixel", "none"] = "unit"


class Rescale(CatalogueModel):
    """Multiply every input row by a number.

    `sqrt_features` is the root of their dimension: layers, which divide by it, then see <x, y>
    instead of <x, y>/d, as in papers that do not divide.
    """

    summary: ClassVar[str] = "input rows times a number, or times sqrt(d)"
    source: ClassVar[str] = "x -> factor x"

    op: Literal["rescale"]
    factor: float | Literal["sqrt_features"] = Field(
        union_mode="left_to_right", json_schema_extra={"examples": ["sqrt_features", 0.5]}
    )

    @field_validator("factor", mode="before")
    @classmethod
    def _strict(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError('must be a number or "sqrt_features"')
        if isinstance(value, str) and value != "sqrt_features":
            raise ValueError('must be a number or "sqrt_features"')
        if not isinstance(value, str) and not value > 0:
            raise ValueError("must be greater than 0")
        return value

    def value(self, features: int) -> float:
        """The factor for rows of `features` numbers."""
        return math.sqrt(features) if self.factor == "sqrt_features" else float(self.factor)


class FourierFeatures(CatalogueModel):
    """Replace each row x by cosines and sines of 2 pi times its frequencies.

    `basic`: (cos 2 pi x, sin 2 pi x), 2d numbers. `positional`: for j = 0..frequencies-1 the same
    of scale^(j/frequencies) x, 2d frequencies numbers. `gaussian`: of B x, where B (frequencies, d)
    is drawn from N(0, scale^2) with `seed`; 2 frequencies numbers.
    """

    summary: ClassVar[str] = "cos and sin of 2 pi B x: basic, positional or Gaussian frequencies"
    source: ClassVar[str] = "Tancik et al. 2020, eq. 4 and sec. 6.1"

    op: Literal["fourier_features"]
    kind: Literal["basic", "positional", "gaussian"] = "basic"
    frequencies: int | None = Field(default=None, ge=1, le=MAX_FREQUENCIES, strict=True)
    scale: float | None = Field(default=None, gt=0, strict=True)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, strict=True)

    @model_validator(mode="after")
    def _parameters(self) -> FourierFeatures:
        given = {
            name for name in ("frequencies", "scale", "seed") if getattr(self, name) is not None
        }
        allowed = {
            "basic": set(),
            "positional": {"frequencies", "scale"},
            "gaussian": {"frequencies", "scale", "seed"},
        }[self.kind]
        for name in sorted(given - allowed):
            raise ValueError(f"{name} has no effect on {self.kind} Fourier features; remove it")
        for name in sorted(allowed - given):
            raise ValueError(f"{self.kind} Fourier features need {name}")
        return self

    def features(self, features: int) -> int:
        """Numbers per embedded row of `features` numbers."""
        return 2 * (self.frequencies or 1) * (1 if self.kind == "gaussian" else features)

    def embed(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows (n, d) to embedded rows (n, features(d)), float64."""
        if self.kind == "basic":
            return _cos_sin(x)
        count, scale = self.frequencies or 1, self.scale or 1.0
        if self.kind == "positional":
            import numpy as np

            return np.concatenate(
                [_cos_sin(x * scale ** (j / count)) for j in range(count)], axis=1
            )
        return _cos_sin(x @ self.matrix(x.shape[1]).T)

    def matrix(self, features: int) -> NDArray[np.float64]:
        """The random frequencies B (frequencies, features) of `gaussian`."""
        import numpy as np

        # The legacy generator: its stream is frozen, and kernels are named by their seeds.
        generator = np.random.RandomState(self.seed)
        draws: NDArray[np.float64] = generator.standard_normal((self.frequencies or 1, features))
        return draws * (self.scale or 1.0)


def _cos_sin(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """(cos 2 pi t, sin 2 pi t) side by side. Whole turns are taken off first: exact."""
    import numpy as np

    angle = 2 * np.pi * (turns - np.rint(turns))
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


InputOp = Normalize | Rescale | FourierFeatures


def does_nothing(op: object) -> bool:
    """Whether an op leaves every row as it is, so that the canonical form omits it."""
    return (isinstance(op, Normalize) and op.kind == "none") or (
        isinstance(op, Rescale) and op.factor == 1
    )


def embedded_features(ops: Iterable[InputOp], features: int) -> int:
    """Numbers per row after `ops`."""
    for op in ops:
        if isinstance(op, FourierFeatures):
            features = op.features(features)
    return features


def split_ops(ops: Sequence[InputOp]) -> tuple[tuple[InputOp, ...], tuple[InputOp, ...]]:
    """`ops` up to the last embedding, which change the directions of rows, and those after it,
    which only change their lengths."""
    last = max((i for i, op in enumerate(ops) if isinstance(op, FourierFeatures)), default=-1)
    return tuple(ops[: last + 1]), tuple(ops[last + 1 :])


def embed(ops: Iterable[InputOp], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (n, d) float64 after `ops`, in float64."""
    import numpy as np

    for op in ops:
        if isinstance(op, FourierFeatures):
            x = op.embed(x)
        elif isinstance(op, Rescale):
            x = x * op.value(x.shape[1])
        elif op.kind == "unit":
            length = np.linalg.norm(x, axis=1, keepdims=True)
            x = x / np.where(length > 0, length, 1)
    return x
