"""Convolutional equilibrium networks: oracle values, a plain iteration, limits, refusals."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.equilibrium import equilibrium
from support.oracle import oracle
from workers.kernels import InvalidInputsError, InvalidKernelError, compile_kernel, parse_kernel
from workers.kernels.cost import kernel_cost
from workers.kernels.errors import NoFixedPointError
from workers.kernels.planes import equilibrium as core

VALUES = oracle("cdeq")
UNIT = np.moveaxis(oracle("inputs")["IU"], 1, -1)  # (4, 4, 5, 3), pixels of unit norm
IMAGES = np.moveaxis(oracle("inputs")["I2"], 1, -1)  # (3, 4, 5, 2), of any norm


def cdeq(readout: str = "trace", **fields: Any) -> dict[str, Any]:
    """The preset without normalisation of the pixels."""
    return {"preset": "cdeq", "readout": readout, "normalize": "none", **fields}


@pytest.mark.parametrize("readout", ["trace", "gap"])
@pytest.mark.parametrize("normalization", ["post", "pre"])
@pytest.mark.parametrize(
    ("w_var", "u_var", "images", "name"),
    [
        (0.65, 0.35, UNIT, ""),
        (0.25, 0.75, UNIT, ""),
        (0.9, 0.1, UNIT, ""),
        (0.6, 0.4, IMAGES, "general_norm_I2|"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_oracle_values(
    readout: str, normalization: str, w_var: float, u_var: float, images: Any, name: str, dtype: str
) -> None:
    kernel = cdeq(readout, normalization=normalization, w_var=w_var, u_var=u_var)
    ntk = compile_kernel(kernel)(images.astype(dtype))["ntk"]
    key = "trace" if readout == "trace" else "gap_sum"
    expected = VALUES[f"{normalization}|{name}sw2={w_var}|su2={u_var}|{key}"]
    if readout == "gap":
        expected = expected / 20**2
    assert (ntk == ntk.T).all()
    # Diagonals of the oracle's gap sums take 1 - rho of equal pixels from a difference too.
    limit = 2e-7 if dtype == "float32" else 1e-12
    assert np.abs(ntk - expected).max() < limit * np.abs(expected).max()


@st.composite
def networks(draw: st.DrawFn) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """A network, and two small images with pixels that are 0, equal, opposite, or nearly equal."""
    pixels = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x, y = rng.standard_normal((2, *pixels, draw(st.integers(1, 4))))
    match draw(st.sampled_from(["any", "zeros", "equal", "nearly equal", "opposite", "constant"])):
        case "zeros":
            x[rng.random(pixels) < 0.6] = 0
            y[rng.random(pixels) < 0.3] = 0
        case "equal":
            y[0] = x[0]
        case "nearly equal":
            y = x + 1e-4 * y
        case "opposite":
            y = -x + 1e-3 * y
        case "constant":
            x, y = np.ones_like(x), np.full_like(y, 2.0)
            y[0, 0] = -1e-3
        case _:
            pass
    spec = cdeq(
        draw(st.sampled_from(["trace", "gap"])),
        w_var=draw(st.sampled_from([0.05, 0.5, 0.9])),
        u_var=draw(st.sampled_from([0.1, 2.0])),
        normalization=draw(st.sampled_from(["post", "pre"])),
        filter=[draw(st.sampled_from([1, 3, 5, 9])), draw(st.sampled_from([1, 3, 5]))],
    )
    return spec, np.stack([x, y])


@settings(max_examples=15, deadline=None)
@given(networks())
def test_plain_iteration(case: tuple[dict[str, Any], NDArray[np.float64]]) -> None:
    """In both precisions, relative to the kernels of each image with itself."""
    spec, images = case
    images = images.astype(np.float32).astype(np.float64)
    same = {name: spec[name] for name in ("w_var", "u_var", "normalization")}
    tensors = equilibrium(*images, window=tuple(spec["filter"]), **same)
    trace = spec["readout"] == "trace"
    for dtype in (np.float32, np.float64):
        found = compile_kernel(spec)(images.astype(dtype))
        for name, tensor in zip(("nngp", "ntk"), tensors, strict=True):
            expected = np.einsum("ijij", tensor) if trace else tensor.mean()
            size = np.sqrt(float(found[name][0, 0]) * float(found[name][1, 1]))
            assert abs(found[name][0, 1] - expected) <= 3e-7 * size


def test_filters_of_one_pixel_are_the_dense_equilibrium_network() -> None:
    """The trace is then a sum of dense kernels, pixel by pixel."""
    w_var = 0.65
    dense = compile_kernel(
        {"preset": "deq", "w_var": w_var, "u_var": 0.4, "b_var": 0.0, "normalize": "none"}
    )
    pixels = IMAGES.reshape(len(IMAGES), -1, IMAGES.shape[-1])
    expected = dict.fromkeys(("nngp", "ntk"), 0.0)
    for pixel in range(pixels.shape[1]):
        for name, values in dense(np.ascontiguousarray(pixels[:, pixel])).items():
            expected[name] = expected[name] + values
    for normalization in ("post", "pre"):
        spec = cdeq(w_var=w_var, u_var=0.4, filter=[1, 1], normalization=normalization)
        ntk = compile_kernel(spec)(IMAGES)["ntk"]
        np.testing.assert_allclose(ntk, expected["ntk"], rtol=1e-10)
    one = compile_kernel({**spec, "readout": "gap"})(np.ascontiguousarray(IMAGES[:, :1, :1]))
    own = dense(np.ascontiguousarray(IMAGES[:, 0, 0]))
    np.testing.assert_allclose(one["ntk"], own["ntk"], rtol=1e-10)


def test_an_image_with_itself_and_what_pixels_are_scaled_to() -> None:
    """P Q/(1 - w_var) where variances are 1; a named setting is its variances."""
    named = compile_kernel({"preset": "cdeq", "setting": "0.65-0.35"})
    assert named.spec == parse_kernel("cdeq")
    for dtype, limit in ((np.float32, 1e-7), (np.float64, 1e-12)):
        ntk = named((7 * IMAGES).astype(dtype))["ntk"]
        np.testing.assert_allclose(np.diag(ntk), 20 / 0.35, rtol=limit)
    again = compile_kernel(pickle.loads(pickle.dumps(named)).spec)
    np.testing.assert_array_equal(named(IMAGES)["ntk"], again(IMAGES)["ntk"])


@pytest.mark.parametrize("readout", ["trace", "gap"])
@pytest.mark.parametrize("normalization", ["post", "pre"])
def test_invariances(readout: str, normalization: str) -> None:
    """Symmetric, positive semidefinite, homogeneous, and the same whatever stands beside a pair."""
    kernel = compile_kernel(cdeq(readout, normalization=normalization, w_var=0.8, u_var=0.5))
    x = np.random.default_rng(2).standard_normal((7, 5, 4, 3))
    x[5] = x[4]
    for name, values in kernel(x).items():
        assert (values == values.T).all()
        spectrum = np.linalg.eigvalsh(values)
        assert spectrum[0] > -1e-7 * spectrum[-1]  # two images are equal: one eigenvalue is 0
        scaled = kernel(x[:2] * 1e-3, x[2:4] * 1e120)[name]
        np.testing.assert_allclose(scaled, 1e117 * values[:2, 2:4], rtol=1e-12)
        np.testing.assert_array_equal(kernel(x[1:2], x[2:4])[name], values[1:2, 2:4])
        small = kernel(x, block_rows=2)[name]
        np.testing.assert_array_equal(small, values)


def test_sequences_and_dark_images() -> None:
    """Samples (n, T, C) are images of one column; an image of zeros has the kernel 0."""
    x = np.random.default_rng(3).standard_normal((3, 6, 2))
    x[2] = 0
    for readout in ("trace", "gap"):
        flat = compile_kernel(cdeq(readout, filter=[3]))(x)["ntk"]
        image = compile_kernel(cdeq(readout, filter=[3, 1]))(x[:, :, None])["ntk"]
        np.testing.assert_array_equal(flat, image)
        assert (flat[2] == 0).all()
        assert (np.diag(flat)[:2] > 0).all()


@pytest.mark.parametrize("name", ["MAX_NEWTON_STEPS", "MAX_CG_STEPS"])
def test_what_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(core, name, 1)
    with pytest.raises(NoFixedPointError, match="has not converged after") as caught:
        compile_kernel(cdeq(w_var=0.95))(UNIT)
    assert caught.value.kind == "no-fixed-point"
    assert caught.value.details["failures"] == 1


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"w_var": 1.0}, "sigma_w^2 = 1.0 has no fixed point"),
        ({"w_var": 1.5}, "which must be below 1"),
        ({"w_var": 0.9999}, "use at most 0.999"),
        ({"w_var": 0.0}, "w_var"),
        ({"u_var": 0.0}, "u_var"),
        ({"filter": [3, 2]}, "odd sides"),
        ({"readout": "flatten"}, "readout"),
        ({"normalization": "both"}, "normalization"),
        ({"setting": "0.5-0.5"}, "setting"),
        ({"setting": "0.65-0.35", "u_var": 0.35}, "remove u_var"),
        ({"b_var": 0.1}, "b_var"),
    ],
)
def test_refused_presets(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidKernelError) as caught:
        parse_kernel({"preset": "cdeq", **fields})
    assert part in str(caught.value)


def test_nothing_stands_beside_it() -> None:
    own = {"op": "conv_equilibrium", "filter": [3, 3], "w_var": 0.5, "u_var": 0.5}
    dense, conv = {"op": "dense"}, {"op": "conv", "filter": [3, 3]}
    block = {"op": "residual", "body": [own, dense]}
    for layers in ([own, dense], [conv, own], [own, own], [conv, block, dense]):
        with pytest.raises(InvalidKernelError, match="make it the only layer after the normalize"):
            parse_kernel({"layers": layers})
    with pytest.raises(InvalidInputsError, match="images"):
        compile_kernel({"layers": [own]})(np.ones((2, 4, 4)))


def test_cost_grows_with_pixels_and_with_the_contraction() -> None:
    trace, gap, slow = (
        kernel_cost(parse_kernel(cdeq(**fields)), (32, 32, 3), "float32")
        for fields in ({}, {"readout": "gap"}, {"w_var": 0.99})
    )
    assert (trace.representation, gap.representation) == ("diagonal", "planes")
    assert gap.nanoseconds_per_pair > 900 * trace.nanoseconds_per_pair
    assert 2 < slow.nanoseconds_per_pair / trace.nanoseconds_per_pair < 10
