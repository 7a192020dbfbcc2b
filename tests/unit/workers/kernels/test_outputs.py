"""Activations that jump have an NNGP and no NTK."""

from __future__ import annotations

import numpy as np
import pytest

from workers.kernels import InvalidKernelError, compile_kernel, parse_kernel
from workers.kernels.outputs import check_outputs


@pytest.mark.parametrize("activation", ["sign", "step"])
def test_ntk_of_a_jump_is_refused(activation: str) -> None:
    spec = {"preset": "fc", "depth": 1, "activation": activation}
    kernel = compile_kernel(spec)
    x = np.eye(3)
    with pytest.raises(InvalidKernelError, match=f"{activation} has no NTK"):
        kernel(x)
    with pytest.raises(InvalidKernelError, match="has no NTK"):
        kernel.block(x, x, symmetric=True, outputs=("ntk",))
    # Orthogonal rows, w_std^2 = 2: sign has E = 0, step has E = 1/4.
    expected = {"sign": (2.0, 0.0), "step": (1.0, 0.5)}[activation]
    nngp = kernel(x, outputs=("nngp",))["nngp"]
    np.testing.assert_allclose(nngp, np.where(np.eye(3) == 1, *expected), atol=3e-15)


def test_networks_without_jumps_have_both() -> None:
    check_outputs(parse_kernel("fc"), ("nngp", "ntk"))
