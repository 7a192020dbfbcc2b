"""Which core computes the planes of a network on this machine. No JAX but for the trial.

| path | is taken for | runs on |
|---|---|---|
| `fused` | what fused.py supports, where JAX's default device is a GPU | that GPU |
| `compiled` | other networks of two-slope activations | a CPU core (numba) |
| `traced` | other activations, and when asked for | JAX's default device |

`GRAMIAN_CONV_PATH` (setting `conv_path`) asks for one; a network that it cannot run takes the
first above that can.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Literal, get_args

from workers.kernels.planes.fused import supports_fused, try_fused
from workers.kernels.planes.network import piecewise_linear

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.kernels.planes.network import Network, Precision

logger = logging.getLogger(__name__)

Core = Literal["compiled", "traced", "fused"]
ConvPath = Literal["auto", "compiled", "traced", "fused"]
"""`auto`: `fused` on a GPU, else `compiled`."""

PATH_VARIABLE = "GRAMIAN_CONV_PATH"


def asked_path(environment: Mapping[str, str]) -> ConvPath:
    """What PATH_VARIABLE says; `auto` where it is not set. Raises ValueError."""
    given = environment.get(PATH_VARIABLE) or "auto"
    for path in get_args(ConvPath):
        if given == path:
            return path  # type: ignore[no-any-return]
    raise ValueError(f"{PATH_VARIABLE} is {given!r}, not one of {', '.join(get_args(ConvPath))}.")


def choose_core(network: Network, backend: str, asked: ConvPath = "auto") -> Core:
    """The core for a supported network; `backend`: what `jax.default_backend()` says."""
    if asked == "traced":
        return "traced"
    wants_fused = asked == "fused" or (asked == "auto" and backend == "gpu")
    if wants_fused and supports_fused(network):
        return "fused"
    return "compiled" if piecewise_linear(network) else "traced"


@functools.lru_cache(maxsize=64)
def usable_core(network: Network, precision: Precision, backend: str, asked: ConvPath) -> Core:
    """The same, after the fused kernel has been tried on a pair of blank images, once.

    Where it cannot be compiled or run, images are computed as on a machine without a GPU, and one
    warning says why: a job must not fail for it. (Not `traced`: it launches thousands of small
    kernels per pair, which a GPU does no faster than a CPU core runs `compiled`.)
    """
    core = choose_core(network, backend, asked)
    if core != "fused":
        return core
    try:
        try_fused(network, precision, interpret=backend != "gpu")
    except Exception as error:  # noqa: BLE001 - compilers and drivers raise what they like
        other = choose_core(network, backend, "compiled")
        logger.warning(
            "The fused kernel of convolutional networks does not run on this machine (%s: %s);"
            " the %s path computes them instead.",
            type(error).__name__,
            error,
            other,
        )
        return other
    return core
