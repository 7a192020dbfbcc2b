"""The compiled core of offset planes against the full-tensor reference."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.convolutional import RELU, hard_images, reference
from support.oracle import oracle
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.planes import (
    Activation,
    AveragePool,
    Convolution,
    Network,
    Precision,
    gram_block,
    prepare,
    supports,
    unsupported,
)

ROOT_TWO = 2**0.5
CONV = Convolution((3, 3), w_std=ROOT_TWO)
RING = Convolution((3, 3), "CIRCULAR", w_std=ROOT_TWO)
LEAKY = Activation(ReluLikeDual(1.0, 0.2))
POOL = AveragePool((2, 2))

NETWORKS = {
    "plain": Network((6, 5), (CONV, RELU) * 4, ROOT_TWO, 0.1),
    "bias and negative correlations": Network(
        (6, 5), (Convolution((3, 3), w_std=1.0, b_std=0.3), LEAKY) * 3
    ),
    "absolute value": Network((6, 5), (CONV, Activation(ReluLikeDual(1.0, -1.0))) * 2),
    "linear": Network((4, 5), (CONV, Activation(ReluLikeDual(1.0, 1.0))) * 2),
    "rectangular filters": Network(
        (6, 7),
        tuple(
            stage
            for size in ((5, 3), (1, 3), (1, 1), (3, 5), (3, 1))
            for stage in (Convolution(size, w_std=1.3, b_std=0.1), RELU)
        ),
    ),
    "one pixel": Network((1, 1), (Convolution((1, 1), w_std=1.5, b_std=0.2), RELU) * 3),
    "circular": Network((6, 5), (RING, RELU) * 3),
    "circular, rectangular": Network(
        (6, 7), (Convolution((3, 5), "CIRCULAR"), LEAKY, Convolution((5, 1), "CIRCULAR"), LEAKY)
    ),
    "pools": Network((8, 8), (CONV, RELU, CONV, RELU, POOL, CONV, RELU, POOL, CONV, RELU, POOL)),
    "uneven pools": Network((6, 9), (CONV, LEAKY, AveragePool((2, 3)), CONV, LEAKY, CONV, RELU)),
    "circular pools": Network((6, 8), (RING, RELU, POOL, RING, LEAKY)),
    # From 16 columns on, windows of two columns are added in registers.
    "pools of wide images": Network((4, 36), (CONV, RELU, POOL, CONV, LEAKY, POOL, CONV, RELU)),
    "pools of 4 rows": Network(
        (8, 16), (Convolution((3, 5)), LEAKY, CONV, RELU, AveragePool((4, 2)), CONV, LEAKY)
    ),
    "pools of single rows": Network(
        (3, 20), (Convolution((1, 1)), LEAKY, AveragePool((1, 2)), CONV, RELU)
    ),
}
# Of the NTK, relative: for float32 the square root of its rounding, on equal patches.
TOLERANCES: dict[Precision, float] = {"double": 1e-8, "mixed": 2e-7, "fast": 4e-4}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "precision", ["double", "mixed", pytest.param("fast", marks=pytest.mark.slow)]
)
def test_against_full_tensors(name: str, precision: Precision) -> None:
    """Noise, constant, saturated, nearly equal and mostly empty images; every pair of them."""
    network = NETWORKS[name]
    images = hard_images((8, 36))[:, : network.pixels[0], : network.pixels[1]]
    expected = reference(network, images)
    prepared = prepare(network, images, precision)
    for symmetric in (False, True):
        found = gram_block(network, prepared, prepared, symmetric, precision)
        for output in ("nngp", "ntk"):
            scale = np.sqrt(np.outer(np.diag(expected[output]), np.diag(expected[output])))
            error = np.abs(found[output] - expected[output]) / np.where(scale > 0, scale, 1)
            assert error.max() <= TOLERANCES[precision], (output, symmetric)
            assert found[output].dtype == np.float64
        if symmetric:
            assert (found["ntk"] == found["ntk"].T).all()
            assert (found["nngp"] == found["nngp"].T).all()


def test_myrtle_oracle() -> None:
    """A pool that leaves one pixel, and then a flatten, is the mean over all pixel pairs."""
    images = oracle("inputs")["I8"].transpose(0, 2, 3, 1)
    for name, groups in (("myrtle5", (2, 1, 1)), ("myrtle7", (2, 2, 2))):
        stages = [stage for count in groups for stage in (*(CONV, RELU) * count, POOL)]
        network = Network((8, 8), tuple(stages), ROOT_TWO)
        prepared = prepare(network, images, "double")
        found = gram_block(network, prepared, prepared, True, "double")
        expected = oracle("cnn_nets")
        np.testing.assert_allclose(found["nngp"], expected[f"{name}|I8|K"], rtol=1e-8)
        np.testing.assert_allclose(found["ntk"], expected[f"{name}|I8|T"], rtol=1e-8)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """One or two groups of one or two layers, of any supported filter, padding and slope."""
    padding = draw(st.sampled_from(["SAME", "CIRCULAR"]))
    window = (draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2, 3])))
    coarse = (draw(st.integers(2, 4)), draw(st.sampled_from([3, 4, 9, 11])))
    pixels = (window[0] * coarse[0], window[1] * coarse[1])

    def layers(size: tuple[int, int]) -> list[Convolution | Activation]:
        odd = [st.sampled_from([k for k in (1, 3, 5) if k // 2 < n]) for n in size]
        found: list[Convolution | Activation] = []
        for _ in range(draw(st.integers(1, 2))):
            w_std, b_std = draw(st.floats(0.3, 3)), draw(st.sampled_from([0.0, 0.2, 1.0]))
            found.append(Convolution((draw(odd[0]), draw(odd[1])), padding, w_std, b_std))
            slopes = draw(st.sampled_from([(1.0, 0.0), (1.0, 0.3), (0.5, -1.5), (0.0, 2.0)]))
            found.append(Activation(ReluLikeDual(*slopes)))
        return found

    return Network(pixels, (*layers(pixels), AveragePool(window), *layers(coarse)), 1.2, 0.1)


@settings(max_examples=25, deadline=None)
@given(network=networks(), seed=st.integers(0, 2**31))
def test_random_networks(network: Network, seed: int) -> None:
    assert supports(network)
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((2, *network.pixels, 2)) * rng.choice([0, 1, 3], (2, 1, 1, 2))
    images[1, :2] = images[0, :2]
    expected = reference(network, images)
    prepared = prepare(network, images, "mixed")
    found = gram_block(network, prepared[:1], prepared, False, "mixed")
    for output in ("nngp", "ntk"):
        diagonal = np.diag(expected[output])
        error = np.abs(found[output][0] - expected[output][0])
        assert (error <= 3e-7 * np.sqrt(diagonal[0] * diagonal)).all()


def test_depth_and_range() -> None:
    """120 layers whose variances would leave float32 without rescaling, in both directions."""
    images = hard_images((3, 3))[:3]
    for w_std in (0.5, 3.0):
        network = Network((3, 3), (Convolution((3, 3), w_std=w_std), RELU) * 120)
        prepared = prepare(network, images, "mixed")
        double = prepare(network, images, "double")
        found = gram_block(network, prepared, prepared, True, "mixed")
        expected = gram_block(network, double, double, True, "double")
        assert np.isfinite(found["ntk"]).all()
        assert (found["ntk"] > 0).all()
        np.testing.assert_allclose(found["ntk"], expected["ntk"], rtol=3e-6)


def test_shift_of_circular_images() -> None:
    """A network of circular convolutions and a global mean does not see where an image begins."""
    network = NETWORKS["circular"]
    images = hard_images(network.pixels)[:2]
    moved = np.roll(images, (2, 3), axis=(1, 2))
    sides = [prepare(network, x, "double") for x in (images, moved)]
    values = [gram_block(network, side, sides[0], False, "double")["ntk"] for side in sides]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-8)


def test_blocks_do_not_depend_on_their_neighbours() -> None:
    """The same bits for a pair, whatever block it is in; states survive pickling."""
    network = NETWORKS["pools"]
    images = hard_images(network.pixels)
    together = prepare(network, images, "mixed")
    whole = gram_block(network, together, together, False, "mixed")
    alone = pickle.loads(pickle.dumps(prepare(network, images[3:5], "mixed")))
    assert len(alone) == 2
    part = gram_block(network, alone, together[2:6], False, "mixed")
    for output in ("nngp", "ntk"):
        assert (part[output] == whole[output][3:5, 2:6]).all()


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ((), "first stage"),
        ((RELU, CONV), "first stage"),
        ((CONV, CONV, RELU), "followed by an activation"),
        ((CONV, RELU, RELU), "follow a convolution"),
        ((Convolution((2, 3)), RELU), "odd"),
        ((Convolution((13, 1)), RELU), "smaller"),
        ((Convolution((3, 3), w_std=0.0), RELU), "w_std"),
        ((CONV, RELU, AveragePool((4, 1))), "tile"),
        ((CONV, RELU, RING, RELU), "same padding"),
    ],
)
def test_what_is_not_supported(stages: tuple[object, ...], reason: str) -> None:
    network = Network((6, 6), stages)  # type: ignore[arg-type]
    assert not supports(network)
    assert reason in str(unsupported(network))
