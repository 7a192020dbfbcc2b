"""Which core computes convolutional kernels: by machine, by request, and when the GPU's fails."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from support.convolutional import RELU, hard_images
from workers.kernels import compile_kernel
from workers.kernels.duals.erf import Erf
from workers.kernels.planes import (
    Activation,
    AveragePool,
    Convolution,
    FusedImages,
    Network,
    PreparedImages,
    TracedImages,
)
from workers.kernels.planes.paths import (
    PATH_VARIABLE,
    ConvPath,
    Core,
    asked_path,
    choose_core,
    usable_core,
)

CONV = Convolution((3, 3), w_std=2**0.5)
PLAIN = Network((4, 4), (CONV, RELU) * 2)
POOLED = Network((4, 4), (CONV, RELU, AveragePool((2, 2)), Convolution((1, 1)), RELU))
SMOOTH = Network((4, 4), (CONV, Activation(Erf(fn="erf").dual())))


@pytest.mark.parametrize(
    ("network", "backend", "asked", "core"),
    [
        (PLAIN, "cpu", "auto", "compiled"),
        (PLAIN, "gpu", "auto", "fused"),
        (PLAIN, "tpu", "auto", "compiled"),
        (POOLED, "gpu", "auto", "compiled"),
        (SMOOTH, "gpu", "auto", "traced"),
        (PLAIN, "gpu", "compiled", "compiled"),
        (PLAIN, "gpu", "traced", "traced"),
        (POOLED, "cpu", "traced", "traced"),
        (PLAIN, "cpu", "fused", "fused"),
        (POOLED, "gpu", "fused", "compiled"),
        (SMOOTH, "cpu", "compiled", "traced"),
    ],
)
def test_the_choice(network: Network, backend: str, asked: ConvPath, core: Core) -> None:
    assert choose_core(network, backend, asked) == core


def test_a_kernel_that_does_not_compile_is_replaced_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Triton cannot compile here: this machine has no GPU."""
    network = Network((5, 4), (CONV, RELU))
    with caplog.at_level(logging.WARNING):
        cores = [usable_core(network, "mixed", "gpu", "auto") for _ in range(3)]
    assert cores == ["compiled"] * 3
    (record,) = caplog.records
    assert "does not run on this machine" in record.getMessage()
    assert "interpret mode" in record.getMessage()  # the reason, in JAX's words


def test_the_variable() -> None:
    assert asked_path({}) == "auto"
    assert asked_path({PATH_VARIABLE: ""}) == "auto"
    assert asked_path({PATH_VARIABLE: "traced"}) == "traced"
    with pytest.raises(ValueError, match="auto, compiled, traced, fused"):
        asked_path({PATH_VARIABLE: "gpu"})


@pytest.mark.parametrize(
    ("asked", "kind"),
    [("compiled", PreparedImages), ("traced", TracedImages), ("fused", FusedImages)],
)
def test_kernels_of_all_paths_agree(
    asked: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = compile_kernel({"preset": "cntk", "depth": 2, "readout": "gap"})
    images = hard_images((4, 4)).astype(np.float32)
    expected = kernel(images)
    monkeypatch.setenv(PATH_VARIABLE, asked)
    assert isinstance(kernel.panel(images).samples, kind)
    found = kernel(images)
    for output, values in found.items():
        scale = np.sqrt(np.outer(*[np.diag(expected[output])] * 2))
        assert (np.abs(values - expected[output]) / scale).max() <= 3e-7
