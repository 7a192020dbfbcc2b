"""Which pixel pairs a network needs, and so how its kernel is computed. No JAX.

| representation | when | pairs of pixels per pair of samples |
|---|---|---|
| `diagonal` | flatten readout, no pools | the d equal positions |
| `planes` | stride 1, one padding, global average pool | d^2, offset by offset |
| `diagonal`, `planes` | a convolutional equilibrium network, by its readout | d, d^2 |
| `planes` | the same with average pools, where the compiled core can run it | d^2, likewise |
| `tensor` | everything else | d^2, all at once in memory |

A stride-1 convolution couples pairs of one offset s' - s only (Novak et al. 2019, section 3), so
the recursion on one offset plane needs nothing of the others and stays in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from workers.kernels.layers import Residual, walk
from workers.kernels.planes.network import EquilibriumNetwork, Network
from workers.kernels.spatial.core import core_network
from workers.kernels.spatial.geometry import Shape, after_layer, sides
from workers.kernels.spatial.layers import Conv, ConvEquilibrium, GlobalAvgPool, Padding, PoolModel
from workers.kernels.spatial.structure import without_input_ops

Representation = Literal["diagonal", "planes", "tensor"]


@dataclass(frozen=True)
class Parts:
    """A network for samples of one shape: pixels up to its first readout, dense layers after."""

    shape: Shape
    channels: int
    trunk: tuple[Any, ...]  # up to and without the first top-level flatten or global_avg_pool
    readout: Any  # that layer; None: the network ends with pixels
    head: tuple[Any, ...]
    representation: Representation
    padding: Padding | None  # that all filters of more than one pixel have in common
    # What the compiled plane core runs, where it can.
    core: Network | EquilibriumNetwork | None = None

    @property
    def layers(self) -> tuple[Any, ...]:
        """All layers after the normalisation of the inputs."""
        return (*self.trunk, *(() if self.readout is None else (self.readout,)), *self.head)


def network_parts(layers: tuple[Any, ...], shape: Shape, channels: int) -> Parts:
    """The network cut at its readout, for samples of `shape`. Raises InvalidInputsError."""
    body = without_input_ops(layers)
    grid: Shape | None = shape
    for index, layer in enumerate(body):
        before, grid = grid, after_layer(layer, grid)
        if grid is not None:
            continue
        if isinstance(layer, Residual):  # its branches flatten: no cut
            return Parts(shape, channels, body[:index], None, body[index:], "tensor", None)
        return _parts(shape, channels, body[:index], layer, body[index + 1 :], before)
    return _parts(shape, channels, body, None, (), grid)


def _parts(
    shape: Shape,
    channels: int,
    trunk: tuple[Any, ...],
    readout: Any,
    head: tuple[Any, ...],
    grid: Shape | None,
) -> Parts:
    if isinstance(readout, ConvEquilibrium):
        one: Representation = "diagonal" if readout.readout == "trace" else "planes"
        core = core_network(shape, trunk, readout, head)
        return Parts(shape, channels, trunk, readout, head, one, "SAME", core)
    convolutions = [layer for layer in walk(trunk) if isinstance(layer, Conv)]
    paddings = {layer.padding for layer in convolutions if set(layer.filter) != {1}} or {"CIRCULAR"}
    padding: Padding | None = next(iter(paddings)) if len(paddings) == 1 else None
    coupled = any(
        isinstance(layer, PoolModel) and sides(layer.window) != (1, 1) for layer in walk(trunk)
    )
    representation: Representation = "tensor"
    if readout is None or coupled:
        pass
    elif not isinstance(readout, GlobalAvgPool) or grid == (1, 1):
        representation = "diagonal"
    elif all(set(layer.strides) == {1} for layer in convolutions) and padding in (
        "SAME",
        "CIRCULAR",
    ):
        representation = "planes"
    core = None if representation == "diagonal" else core_network(shape, trunk, readout, head)
    if core is not None:
        representation = "planes"
    return Parts(shape, channels, trunk, readout, head, representation, padding, core)
