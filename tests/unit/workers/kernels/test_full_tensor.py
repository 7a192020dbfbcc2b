"""The naive reference itself, against values of an independent program (tests/data/oracle)."""

from __future__ import annotations

import numpy as np
import pytest

from support import full_tensor as naive
from support.oracle import oracle

INPUTS, PLAIN, NETS = oracle("inputs"), oracle("cnn2d"), oracle("cnn_nets")
ROOT_TWO = 2**0.5


@pytest.mark.parametrize(
    ("padding", "strides", "depth"),
    [
        ("SAME", (1, 1), 2),
        ("SAME", (2, 1), 2),
        ("SAME", (2, 2), 2),
        ("CIRCULAR", (1, 1), 2),
        ("VALID", (1, 1), 1),
    ],
)
@pytest.mark.parametrize("readout", ["flatten", "gap"])
def test_plain_networks(padding: str, strides: tuple[int, int], depth: int, readout: str) -> None:
    state = naive.inputs(INPUTS["I2"].transpose(0, 2, 3, 1))
    for _ in range(depth):
        affine = naive.conv(
            state, (3, 3), w_std=ROOT_TWO, b_std=0.2, strides=strides, padding=padding
        )
        state = naive.relu_like(affine)
    pooled = naive.flatten(state) if readout == "flatten" else naive.global_avg_pool(state)
    values = naive.dense(pooled, w_std=ROOT_TWO, b_std=0.2)
    stride = "" if strides == (1, 1) else f"|stride={strides[0]}{strides[1]}"
    key = f"2d|{padding}{stride}|{readout}|H={depth}"
    np.testing.assert_allclose(values.nngp, PLAIN[f"{key}|K"], rtol=1e-12)
    np.testing.assert_allclose(values.ntk, PLAIN[f"{key}|T"], rtol=1e-12)


def test_wide_filter_and_erf() -> None:
    images = INPUTS["I2"].transpose(0, 2, 3, 1)
    wide = naive.relu_like(naive.conv(naive.inputs(images), (5, 5), w_std=ROOT_TWO))
    values = naive.dense(naive.global_avg_pool(wide), w_std=ROOT_TWO)
    np.testing.assert_allclose(values.ntk, PLAIN["2d|k=5|SAME|gap|H=1|T"], rtol=1e-12)

    state = naive.inputs(images)
    for _ in range(2):
        state = naive.erf(naive.conv(state, (3, 3), w_std=1.5, b_std=0.1))
    values = naive.dense(naive.global_avg_pool(state), w_std=1.5, b_std=0.1)
    np.testing.assert_allclose(values.ntk, PLAIN["2d|erf|SAME|gap|H=2|T"], rtol=1e-12)


@pytest.mark.parametrize(("name", "groups"), [("myrtle5", (2, 1, 1)), ("myrtle7", (2, 2, 2))])
def test_pooled_networks(name: str, groups: tuple[int, ...]) -> None:
    state = naive.inputs(INPUTS["I8"].transpose(0, 2, 3, 1), np.longdouble)
    for convolutions in groups:
        for _ in range(convolutions):
            state = naive.relu_like(naive.conv(state, (3, 3), w_std=ROOT_TWO))
        state = naive.pool(state, (2, 2))
    values = naive.dense(naive.flatten(state), w_std=ROOT_TWO)
    np.testing.assert_allclose(values.nngp.astype(float), NETS[f"{name}|I8|K"], rtol=1e-12)
    np.testing.assert_allclose(values.ntk.astype(float), NETS[f"{name}|I8|T"], rtol=1e-12)


def test_strides_and_skips_of_a_residual_network() -> None:
    """Stem, an identity block, a block of stride 2 with a projection, ReLU, GAP, dense."""
    state = naive.conv(naive.inputs(INPUTS["I2"].transpose(0, 2, 3, 1)), (3, 3), w_std=ROOT_TWO)
    for strides, projected in (((1, 1), False), ((2, 2), True)):
        active = naive.relu_like(state)
        branch = naive.conv(active, (3, 3), w_std=ROOT_TWO, strides=strides)
        branch = naive.conv(naive.relu_like(branch), (3, 3), w_std=ROOT_TWO)
        skip = naive.conv(active, (1, 1), w_std=ROOT_TWO, strides=strides) if projected else state
        state = naive.add(skip, branch)
    values = naive.dense(naive.global_avg_pool(naive.relu_like(state)), w_std=ROOT_TWO)
    np.testing.assert_allclose(values.nngp, NETS["small_resnet|I2|K"], rtol=1e-12)
    np.testing.assert_allclose(values.ntk, NETS["small_resnet|I2|T"], rtol=1e-12)
