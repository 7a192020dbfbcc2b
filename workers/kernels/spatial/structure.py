"""Which sequences of layers are networks on images or sequences, and advice where one is not.

The rules of workers/kernels/structure.py, for pixels: an activation may only follow a Gaussian,
and paths may only be added if one of them has weights of its own. What depends on the size of the
samples (pools that divide, filters that fit) is checked against them in geometry.py. No JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from workers.kernels.duals.base import ActivationModel
from workers.kernels.input_ops import InputOp, Normalize
from workers.kernels.layers import AnyLayer, Dense, FixedPoint, InputInjection, Residual, walk
from workers.kernels.spatial.layers import (
    Conv,
    ConvEquilibrium,
    Flatten,
    GlobalAvgPool,
    PoolModel,
)
from workers.kernels.structure import Parameterization, check_widths


@dataclass(frozen=True)
class Flow:
    """What stands between two layers.

    `rank`: axes of pixels, None where no filter or window has settled it. `gaussian`: output of
    an affine layer, or a linear map of one. `independent`: it passed through weights of its own
    since the enclosing path began.
    """

    rank: int | None = None
    flat: bool = False
    gaussian: bool = False
    independent: bool = False


def is_spatial(layers: Sequence[AnyLayer]) -> bool:
    """Whether any layer acts on pixels."""
    kinds = Conv | PoolModel | GlobalAvgPool | Flatten | ConvEquilibrium
    return any(isinstance(layer, kinds) for layer in walk(layers))


def pixel_rank(layers: Sequence[AnyLayer]) -> int | None:
    """Axes of pixels that the network's filters and windows have; None if none says so."""
    for layer in walk(layers):
        if isinstance(layer, Conv | ConvEquilibrium):
            return len(layer.filter)
        if isinstance(layer, PoolModel):
            return len(layer.window)
    return None


def pixel_outputs(layers: Sequence[AnyLayer]) -> bool:
    """Whether the kernel of a valid network is one of pixels: there is no readout."""
    return is_spatial(layers) and not _flow(layers).flat


def without_input_ops(layers: Sequence[AnyLayer]) -> tuple[AnyLayer, ...]:
    """The layers after those that act on the inputs."""
    start = next((i for i, x in enumerate(layers) if not isinstance(x, InputOp)), len(layers))
    return tuple(layers[start:])


def normalization(layers: Sequence[AnyLayer]) -> Literal["unit", "unit_pixel", "none"]:
    """What is done to the samples first."""
    return _kinds(layers)[0] if _kinds(layers) else "none"


def _kinds(layers: Sequence[AnyLayer]) -> list[Literal["unit", "unit_pixel", "none"]]:
    return [x.kind for x in layers if isinstance(x, Normalize) and x.kind != "none"]


def check_spatial(layers: Sequence[AnyLayer], parameterization: Parameterization) -> None:
    """Raise ValueError with advice unless these layers are a network with an exact kernel."""
    if parameterization != "ntk":
        raise ValueError(
            "networks with pixels are computed in the ntk parameterization only; leave "
            '"parameterization" out'
        )
    check_widths(layers, parameterization)
    for index, layer in enumerate(layers):
        if isinstance(layer, InputOp) and not isinstance(layer, Normalize):
            raise ValueError(
                f"layers[{index}] ({layer.op}) acts on rows of numbers, but this network acts on "
                "pixels; apply it to the data set"
            )
    if len(_kinds(layers)) > 1:
        raise ValueError("samples can be normalised once; remove the other normalize")
    whole = any(isinstance(layer, ConvEquilibrium) for layer in walk(layers))
    if whole and len(without_input_ops(layers)) != 1:
        raise ValueError(
            "a conv_equilibrium is a whole network, from the pixels to its readout; make it the "
            "only layer after the normalize"
        )
    flow = _flow(layers)
    if flow.flat and not flow.gaussian:
        raise ValueError(
            'the network must end with its readout: append {"op": "dense"} after the last layer'
        )
    if not flow.flat and not flow.gaussian:
        raise ValueError(
            'the network must end with a readout: append {"op": "flatten"} or '
            '{"op": "global_avg_pool"} and {"op": "dense"} (or a conv, to keep the pixels)'
        )


def _flow(layers: Sequence[AnyLayer]) -> Flow:
    body = without_input_ops(layers)
    return _through(body, Flow(), "layers", len(layers) - len(body))


def _through(layers: Sequence[AnyLayer], flow: Flow, path: str, offset: int = 0) -> Flow:
    for index, layer in enumerate(layers, start=offset):
        flow = _after(layer, flow, f"{path}[{index}]")
    return flow


def _after(layer: AnyLayer, flow: Flow, where: str) -> Flow:
    if isinstance(layer, InputOp):
        raise ValueError(
            f"{where} is a {layer.op}, which acts on inputs only; move it to the front"
        )
    if isinstance(layer, ActivationModel):
        if not flow.gaussian:
            raise ValueError(
                f"{where} is an activation of something that is not Gaussian (the input, or what "
                "an activation has made), so no exact kernel exists; put a "
                f"{'dense layer' if flow.flat else 'conv'} before it"
            )
        return replace(flow, gaussian=False)
    if isinstance(layer, Dense):
        if not flow.flat:
            raise ValueError(
                f"{where} is a dense layer on pixels; put a flatten or a global_avg_pool before "
                "it (a dense layer on every pixel is a conv with filter "
                f"{[1] * (flow.rank or 2)})"
            )
        return replace(flow, gaussian=True, independent=True)
    if isinstance(layer, Residual):
        return _after_residual(layer, flow, where)
    if isinstance(layer, FixedPoint | InputInjection):
        raise ValueError(
            f"{where} is a {layer.op}, which is for networks without pixels; build a network of "
            "dense layers, or use conv_equilibrium"
        )
    if isinstance(layer, ConvEquilibrium):
        return Flow(len(layer.filter), flat=True, gaussian=True, independent=True)
    if flow.flat:
        raise ValueError(f"{where} ({layer.op}) acts on pixels, but they are flat there already")
    if isinstance(layer, GlobalAvgPool | Flatten):
        return replace(flow, flat=True)
    rank = len(layer.filter if isinstance(layer, Conv) else layer.window)
    if flow.rank not in (None, rank):
        raise ValueError(
            f"{where} ({layer.op}) has {rank} axes where layers before it have {flow.rank}; "
            "give filters and windows one number of axes: 1 for sequences, 2 for images"
        )
    if isinstance(layer, Conv):
        return Flow(rank, gaussian=True, independent=True)
    return replace(flow, rank=rank)


def _after_residual(layer: Residual, flow: Flow, where: str) -> Flow:
    if not layer.body:
        raise ValueError(f"{where} has an empty body; leave the residual out")
    start = replace(flow, independent=False)
    body = _through(layer.body, start, f"{where}.body")
    if not (body.gaussian and body.independent):
        raise ValueError(
            f"{where}.body must end in a layer with weights of its own, or its output is "
            "correlated with the shortcut and no exact kernel exists; end it with a "
            f"{'dense layer' if body.flat else 'conv'}"
        )
    shortcut = _through(layer.shortcut, start, f"{where}.shortcut")
    if body.flat != shortcut.flat:
        raise ValueError(
            f"{where} adds flat features to pixels; flatten or pool after it, or in both paths"
        )
    if None not in (body.rank, shortcut.rank) and body.rank != shortcut.rank:
        raise ValueError(f"{where} has filters with 1 and with 2 axes; give them one number")
    return Flow(
        body.rank or shortcut.rank,
        flat=body.flat,
        gaussian=shortcut.gaussian,
        independent=flow.independent or shortcut.independent,
    )
