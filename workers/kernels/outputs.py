"""The outputs that a kernel can have, and which of them a network has."""

from __future__ import annotations

from workers.kernels.errors import InvalidKernelError
from workers.kernels.layers import AnyLayer, Dense, InputInjection, walk
from workers.kernels.spec import KernelSpec

OUTPUTS = ("nngp", "ntk")


def _trained(layer: AnyLayer) -> bool:
    if isinstance(layer, Dense):
        return layer.trains_weights or layer.trains_biases
    return isinstance(layer, InputInjection) and layer.trains_weights


def check_outputs(spec: KernelSpec, outputs: tuple[str, ...]) -> None:
    """Raise InvalidKernelError if `spec` has no NTK and `outputs` (members of OUTPUTS) name it, or
    if it has no readout, so that its kernel is one of pixels and not of samples.

    An activation with a jump (sign, step) has no derivative kernel: dE/dc is infinite at rho = 1,
    and the derivative that networks would train with is 0 almost everywhere.
    """
    if spec.pixel_outputs:
        raise InvalidKernelError(
            "This network ends with pixels, so it has no kernel of two samples.",
            advice='Append {"op": "flatten"} or {"op": "global_avg_pool"} and {"op": "dense"}.',
        )
    check_ntk(spec, outputs)


def check_ntk(spec: KernelSpec, outputs: tuple[str, ...]) -> None:
    """Raise InvalidKernelError if `outputs` name the NTK and `spec` has none."""
    if "ntk" not in outputs:
        return
    if not spec.spatial and not any(_trained(layer) for layer in walk(spec.layers)):
        raise InvalidKernelError(
            "No layer of this network is trained, so its NTK is 0.",
            advice='Ask for the NNGP only ("outputs": ["nngp"]), or set "trained" on a layer.',
        )
    jumping = sorted(
        {x.model_dump()["fn"] for x in spec.activations if not x.dual().differentiable}
    )
    if jumping:
        raise InvalidKernelError(
            f"A network with {' and '.join(jumping)} has no NTK: the activation jumps, so its "
            "derivative kernel does not exist.",
            advice='Ask for the NNGP only ("outputs": ["nngp"]), or use erf with a large scale.',
        )
