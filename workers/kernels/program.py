"""From a validated spec to the sequence of maps that a kernel evaluates. No JAX.

A dense network is a sequence of units: an activation with the affine layer after it, a residual
block, a fixed point. A unit is its form, which decides what is compiled, and its numbers.
Consecutive units that differ only in numbers, or such groups of units, are folded into a loop:
a network of depth 100 compiles as fast as one of depth 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from workers.kernels.duals.base import ActivationModel, Dual
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.input_ops import InputOp, Normalize, Rescale, split_ops
from workers.kernels.layers import AnyLayer, Dense, FixedPoint, InputInjection, Residual
from workers.kernels.spec import KernelSpec
from workers.kernels.structure import simple_body

IDENTITY = ReluLikeDual(1.0, 1.0)
"""What stands between two dense layers that follow each other."""

MAX_PERIOD = 8
"""Longest group of units that is looked for when repetitions are folded."""

LARGEST_SINGLE_CONTRACTION = 0.9
"""sigma_w^2 of an equilibrium network up to which float32 pairs keep their digits."""


class AffineNumbers(NamedTuple):
    """K -> w_std^2 E + b_std^2 + u_std^2 K_input, and how much the parameters count in the NTK.

    NTK -> weight_scale w_std^2 E + bias_scale b_std^2 + injection_scale u_std^2 K_input
    + w_std^2 Edot NTK. Scales are 1 in the NTK parametrisation, and 0 for parameters that are not
    trained.
    """

    w_std: float = 1.0
    b_std: float = 0.0
    u_std: float = 0.0
    weight_scale: float = 1.0
    bias_scale: float = 1.0
    injection_scale: float = 1.0

    @property
    def scaled(self) -> bool:
        return (
            self.weight_scale != 1
            or (self.b_std > 0 and self.bias_scale != 1)
            or (self.u_std > 0 and self.injection_scale != 1)
        )


PASS = AffineNumbers(weight_scale=0.0)
"""No layer of its own after an activation: its output goes into a sum as it is."""


@dataclass(frozen=True)
class LayerForm:
    """An activation, then an affine layer. Numbers: AffineNumbers."""

    dual: Dual
    biased: bool
    injected: bool


@dataclass(frozen=True)
class ResidualForm:
    """Numbers: (scale, numbers of the body's units, numbers of the shortcut's)."""

    body: tuple[Form, ...]
    shortcut: tuple[Form, ...]


@dataclass(frozen=True)
class LoopForm:
    """`count` > 1 repetitions of a group of units. Numbers: one tuple per repetition."""

    body: tuple[Form, ...]
    count: int


@dataclass(frozen=True)
class EquilibriumForm:
    """Fixed point of one piecewise linear activation and an affine layer. Numbers: AffineNumbers.

    `contraction` is sigma_w^2 of the papers, in (0, 1).
    """

    dual: ReluLikeDual
    biased: bool
    contraction: float


@dataclass(frozen=True)
class FixedPointForm:
    """Fixed point of any units. Numbers: those of the body's units."""

    body: tuple[Form, ...]


Form = LayerForm | ResidualForm | LoopForm | EquilibriumForm | FixedPointForm


class Unit(NamedTuple):
    form: Form
    numbers: Any  # a tree of tuples and floats, as the form says


@dataclass(frozen=True)
class Program:
    """A dense network as maps on kernels of `features`-dimensional (embedded) inputs.

    `scaled`: the parameters of some layer count other than once in the NTK.
    """

    length_ops: tuple[InputOp, ...]
    units: tuple[Unit, ...]
    scaled: bool

    def input_deviation(self, length: Any, features: int) -> Any:
        """sqrt(<x, x>/d) of rows with Euclidean norms `length`, after the input ops."""
        for op in self.length_ops:
            if isinstance(op, Normalize):
                length = (length > 0).astype(length.dtype)
            elif isinstance(op, Rescale):
                length = length * op.value(features)
        return length / features**0.5


def build_program(spec: KernelSpec, features: int) -> Program:
    """The maps that `spec` describes for inputs of `features` numbers, after any embedding."""
    standard = spec.parameterization == "standard"
    layers = tuple(x for x in spec.layers if not isinstance(x, InputOp))
    units = _Builder(features, standard=standard).units(layers, features)
    return Program(
        length_ops=split_ops(spec.input_ops)[1],
        units=fold(units),
        scaled=any(numbers.scaled for numbers in _affines(_numbers(units))),
    )


def float32_pairs(spec: KernelSpec) -> bool:
    """Whether pairs keep their digits in float32; else they are carried in float64."""
    fixed = [layer for layer in spec.layers if isinstance(layer, FixedPoint)]
    return all(x.dual().float32_pairs for x in spec.activations) and all(
        body is not None and body.contraction <= LARGEST_SINGLE_CONTRACTION
        for body in map(simple_body, fixed)
    )


def takes_series(spec: KernelSpec, dtype: str) -> bool:
    """Whether results of `dtype` may come from polynomials (series/): a chain of layers whose
    activations have derivative kernels, and would need float64 pairs."""
    chain = all(isinstance(x, (ActivationModel, Dense, InputOp)) for x in spec.layers)
    smooth = chain and all(x.dual().differentiable for x in spec.activations)
    return dtype == "float32" and smooth and not float32_pairs(spec)


def _affines(numbers: Any) -> Iterator[AffineNumbers]:
    """Every AffineNumbers in a tree of numbers."""
    if isinstance(numbers, AffineNumbers):
        yield numbers
    elif isinstance(numbers, tuple):
        for part in numbers:
            yield from _affines(part)


class _Builder:
    """Turns layers into units; remembers what the scales of the parametrisation need."""

    def __init__(self, features: int, *, standard: bool) -> None:
        self._features = features
        self._standard = standard

    def units(self, layers: Sequence[AnyLayer], fan_in: int) -> list[Unit]:
        """Units of `layers`, which act on `fan_in` units."""
        result: list[Unit] = []
        phi: Dual | None = None
        open_affine = False  # whether the last unit may still take an injection
        for layer in layers:
            if isinstance(layer, ActivationModel):
                phi, open_affine = layer.dual(), False
            elif isinstance(layer, Dense):
                result.append(_layer(phi, self._affine(layer, fan_in)))
                fan_in = layer.width or fan_in
                phi, open_affine = None, True
            elif isinstance(layer, InputInjection):
                if not open_affine:
                    result.append(_layer(phi, PASS))
                result[-1] = self._injected(result[-1], layer)
                phi, open_affine = None, False
            else:
                if phi is not None:
                    result.append(_layer(phi, PASS))
                phi, open_affine = None, False
                if isinstance(layer, Residual):
                    result.append(self._residual(layer, fan_in))
                    fan_in = _width(layer.body) or fan_in
                elif isinstance(layer, FixedPoint):
                    result.append(self._fixed_point(layer))
        if phi is not None:
            result.append(_layer(phi, PASS))
        return result

    def _residual(self, layer: Residual, fan_in: int) -> Unit:
        body = fold(self.units(layer.body, fan_in))
        shortcut = fold(self.units(layer.shortcut, fan_in))
        return Unit(
            ResidualForm(_forms(body), _forms(shortcut)),
            (layer.scale, _numbers(body), _numbers(shortcut)),
        )

    def _fixed_point(self, layer: FixedPoint) -> Unit:
        units = self.units(layer.body, self._features)
        simple = simple_body(layer)
        if simple is not None:
            form = EquilibriumForm(simple.dual, simple.dense.b_std > 0, simple.contraction)
            return Unit(form, units[0].numbers)
        body = fold(units)
        return Unit(FixedPointForm(_forms(body)), _numbers(body))

    def _affine(self, layer: Dense, fan_in: int) -> AffineNumbers:
        weight = fan_in / layer.w_std**2 if self._standard else 1.0
        bias = 1 / layer.b_std**2 if self._standard and layer.b_std > 0 else 1.0
        return AffineNumbers(
            layer.w_std,
            layer.b_std,
            weight_scale=weight if layer.trains_weights else 0.0,
            bias_scale=bias if layer.trains_biases else 0.0,
        )

    def _injected(self, unit: Unit, layer: InputInjection) -> Unit:
        scale = self._features / layer.w_std**2 if self._standard else 1.0
        numbers: AffineNumbers = unit.numbers._replace(
            u_std=layer.w_std, injection_scale=scale if layer.trains_weights else 0.0
        )
        assert isinstance(unit.form, LayerForm)
        return Unit(LayerForm(unit.form.dual, unit.form.biased, True), numbers)


def _layer(phi: Dual | None, numbers: AffineNumbers) -> Unit:
    return Unit(LayerForm(phi or IDENTITY, numbers.b_std > 0, numbers.u_std > 0), numbers)


def _width(layers: Sequence[AnyLayer]) -> int | None:
    """Width of what `layers` hand on."""
    for layer in reversed(layers):
        if isinstance(layer, Dense):
            return layer.width
        if isinstance(layer, Residual):
            return _width(layer.body)
    return None


def fold(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """`units` with repeated groups of equal forms as loops."""
    forms = _forms(units)
    folded: list[Unit] = []
    start = 0
    while start < len(units):
        period, count = _repetition(forms, start)
        if count == 1:
            folded.append(units[start])
            start += 1
            continue
        groups = [
            _numbers(units[at : at + period]) for at in range(start, start + period * count, period)
        ]
        folded.append(Unit(LoopForm(forms[start : start + period], count), tuple(groups)))
        start += period * count
    return tuple(folded)


def _repetition(forms: tuple[Form, ...], start: int) -> tuple[int, int]:
    """The period and number of repetitions that cover most of `forms` from `start` on."""
    best = (1, 1)
    for period in range(1, min(MAX_PERIOD, (len(forms) - start) // 2) + 1):
        count = 1
        group = forms[start : start + period]
        while forms[start + count * period : start + (count + 1) * period] == group:
            count += 1
        if count > 1 and period * count > best[0] * best[1]:
            best = (period, count)
    return best


def _forms(units: Sequence[Unit]) -> tuple[Form, ...]:
    return tuple(unit.form for unit in units)


def _numbers(units: Sequence[Unit]) -> tuple[Any, ...]:
    return tuple(unit.numbers for unit in units)
