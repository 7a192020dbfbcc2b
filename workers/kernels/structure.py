"""Which sequences of layers have an exact kernel: the rules, and advice where one is broken.

An activation's dual kernels are expectations over Gaussians, so it may only follow a layer whose
output is Gaussian in the limit: an affine layer, or a sum of such. Paths may only be added if
their cross-covariance vanishes, which needs weights of mean zero on one of them alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from workers.kernels.duals.base import ActivationModel
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.input_ops import InputOp, Normalize
from workers.kernels.layers import (
    MAX_LAYERS,
    MAX_NESTING,
    MAX_PARAMETER,
    AnyLayer,
    Dense,
    FixedPoint,
    InputInjection,
    Residual,
    inner_layers,
    walk,
)

Parameterization = Literal["ntk", "standard"]


@dataclass(frozen=True)
class Signal:
    """What a sequence of layers hands on.

    `gaussian`: an activation may follow. `independent`: it passed through weights of its own
    since the enclosing path began, so it may be added to what the path started from. `width`:
    units, None where no layer says. `after`: what made it not Gaussian, for messages.
    """

    gaussian: bool
    independent: bool
    width: int | None = None
    after: str = ""


START = Signal(gaussian=False, independent=False)
"""The inputs themselves."""


def check_structure(layers: Sequence[AnyLayer], parameterization: Parameterization) -> None:
    """Raise ValueError with advice unless these layers are a network with an exact kernel.

    Input ops first, then a dense layer; activations on Gaussians only; the last layer's output
    is Gaussian (a readout, or a sum of affine layers). Dense layers may follow each other.
    """
    if not layers:
        raise ValueError('a network needs at least its readout: {"op": "dense"}')
    start = next((i for i, x in enumerate(layers) if not isinstance(x, InputOp)), len(layers))
    if any(isinstance(x, Normalize) and x.kind == "unit_pixel" for x in layers[:start]):
        raise ValueError(
            'a normalize of kind "unit_pixel" is for networks on images: use kind "unit", or a conv'
        )
    if start == len(layers) or not isinstance(layers[start], Dense | FixedPoint):
        raise ValueError(
            "the network must start with a dense layer or a fixed point (after its input ops): "
            "activations act on Gaussian pre-activations, which a dense layer makes; "
            'insert {"op": "dense"} first'
        )
    check_widths(layers, parameterization)
    end = _follow(layers[start:], START, "layers", start)
    if not end.gaussian:
        raise ValueError(
            'the network must end with its readout: append {"op": "dense"} after the last layer'
        )


def _follow(layers: Sequence[AnyLayer], signal: Signal, where: str, offset: int = 0) -> Signal:
    for index, layer in enumerate(layers, start=offset):
        signal = _after(layer, signal, f"{where}[{index}]")
    return signal


def _after(layer: AnyLayer, signal: Signal, where: str) -> Signal:
    """The signal after one layer. Raises ValueError where the layer may not follow."""
    if isinstance(layer, InputOp):
        raise ValueError(
            f"{where} is a {layer.op}, which acts on inputs only; move it to the front"
        )
    if isinstance(layer, ActivationModel):
        if not signal.gaussian:
            raise ValueError(
                f"{where} is an activation directly after {signal.after}, whose output is "
                "not Gaussian, so no exact kernel exists; put a dense layer between them"
            )
        return replace(signal, gaussian=False, after="an activation")
    if isinstance(layer, Residual):
        return _after_residual(layer, signal, where)
    if isinstance(layer, FixedPoint):
        return _after_fixed_point(layer, signal, where)
    if isinstance(layer, InputInjection):
        return signal
    assert isinstance(layer, Dense)  # pixels are checked in spatial/structure.py
    return Signal(gaussian=True, independent=True, width=layer.width)


def _after_residual(layer: Residual, signal: Signal, where: str) -> Signal:
    if not layer.body:
        raise ValueError(f"{where} has an empty body; leave the residual out")
    start = replace(signal, independent=False)
    branch = _follow(layer.body, start, f"{where}.body")
    if not (branch.gaussian and branch.independent):
        raise ValueError(
            f"{where}.body must end in a layer with weights of its own, or its output is "
            "correlated with the shortcut and no exact kernel exists; end it with a dense layer"
        )
    shortcut = _follow(layer.shortcut, start, f"{where}.shortcut")
    if shortcut.width != branch.width:
        raise ValueError(
            f"{where} adds a branch of width {branch.width or 'unknown'} to a shortcut of width "
            f"{shortcut.width or 'unknown'}; give the last dense layers of both the same width"
        )
    return Signal(
        gaussian=shortcut.gaussian,
        independent=signal.independent or shortcut.independent,
        width=branch.width,
        after="a skip of an activation's output",
    )


def _after_fixed_point(layer: FixedPoint, signal: Signal, where: str) -> Signal:
    """The fixed point depends on the inputs through its injection only."""
    if signal != START:
        raise ValueError(
            f"{where} is a fixed point, which forgets what comes before it; make it the first "
            "layer after the input ops"
        )
    if not layer.body:
        raise ValueError(f"{where} has an empty body")
    start = Signal(gaussian=True, independent=False)
    end = _follow(layer.body, start, f"{where}.body")
    if not (end.gaussian and end.independent):
        raise ValueError(f"{where}.body must end with a dense layer or an input_injection after it")
    if not any(isinstance(x, InputInjection) for x in layer.body):
        raise ValueError(
            f"{where}.body has no input_injection, so its fixed point would not depend on the "
            'inputs; append {"op": "input_injection"}'
        )
    unit = simple_body(layer)
    if unit is not None and unit.contraction >= 1:
        raise ValueError(
            f"{where} has no fixed point: its body multiplies variances by "
            f"{unit.contraction:.6g}, which must be below 1 (the papers' sigma_w^2); use a "
            f"smaller w_std than {unit.largest_w_std:.6g}"
        )
    return Signal(gaussian=True, independent=True)


@dataclass(frozen=True)
class SimpleBody:
    """A fixed point's body of one piecewise linear activation and one affine layer."""

    dual: ReluLikeDual
    dense: Dense
    injection: InputInjection

    @property
    def contraction(self) -> float:
        """sigma_w^2 of the papers: the factor from one layer's variance to the next."""
        return (self.dense.w_std * self.dual.gain) ** 2

    @property
    def largest_w_std(self) -> float:
        return 1 / self.dual.gain


def simple_body(layer: FixedPoint) -> SimpleBody | None:
    """The body of `layer` if its kernel has a closed form, else None."""
    match layer.body:
        case (ActivationModel() as phi, Dense() as dense, InputInjection() as injection):
            dual = phi.dual()
            if isinstance(dual, ReluLikeDual):
                return SimpleBody(dual, dense, injection)
    return None


def check_widths(layers: Sequence[AnyLayer], parameterization: Parameterization) -> None:
    """Raise ValueError unless the widths fit the parametrisation."""
    if parameterization == "standard" and any(isinstance(x, FixedPoint) for x in layers):
        raise ValueError(
            "equilibrium networks have a kernel in the ntk parameterization only; remove "
            '"parameterization"'
        )
    last = layers[-1]
    if isinstance(last, Dense) and last.width is not None:
        raise ValueError(
            "the last dense layer is the readout, whose width does not matter; remove its width"
        )
    inner = [x for x in walk(layers) if isinstance(x, Dense) and x is not last]
    if parameterization == "standard" and any(layer.width is None for layer in inner):
        raise ValueError(
            'the standard parameterization needs "width" (units) on every dense layer but the '
            "last: its NTK grows with the widths"
        )
    if parameterization == "ntk" and any(layer.width is not None for layer in inner):
        raise ValueError(
            "width has no effect in the ntk parameterization; remove it or set "
            '"parameterization": "standard"'
        )


def check_numbers(layers: Iterable[AnyLayer]) -> None:
    """Raise ValueError if a parameter of a layer is so large that powers of it overflow."""
    pending: list[Any] = [layer.model_dump() for layer in layers]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, (list, tuple)):
            pending += value
        elif isinstance(value, float) and abs(value) > MAX_PARAMETER:
            raise ValueError(
                f"{value:g} is too large for a parameter: at most {MAX_PARAMETER:g} in magnitude"
            )


def check_size(source: Any) -> None:
    """Raise ValueError if raw `source` (JSON, unvalidated) holds too many or too deep layers.

    Runs before validation, so that a hostile spec costs no more than reading it.
    """
    count = 0
    pending: list[tuple[Any, int]] = [(source, 0)]
    while pending:
        layers, depth = pending.pop()
        if not isinstance(layers, (list, tuple)):
            continue
        if depth > MAX_NESTING:
            raise ValueError(f"combinators are nested more than {MAX_NESTING} deep; flatten them")
        count += len(layers)
        if count > MAX_LAYERS:
            raise ValueError(
                f"the network has more than {MAX_LAYERS} layers, those inside combinators "
                "included; use fewer"
            )
        for layer in layers:
            if isinstance(layer, dict):
                pending += [(layer.get(field), depth + 1) for field in ("body", "shortcut")]
            elif isinstance(layer, Residual | FixedPoint):
                pending.append((inner_layers(layer), depth + 1))
