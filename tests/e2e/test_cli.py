"""The commands against a running service: submit, status, watch, fetch, solve, cancel."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.app import build
from service.cli.tile_map import job_tiles
from service.client import Client
from service.demo.reference import relu_entry

ROWS = 150


@pytest.fixture(scope="module")
def url(shared_url: str) -> str:
    return shared_url


# A shell starts what it runs in the background with SIGINT ignored, tests among it.
LISTENING_CLI = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("service.cli", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(ROWS, 8)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 3, ROWS))
    return tmp_path / "x.npy", tmp_path / "y.npy"


def _run(url: str, *arguments: str) -> Any:
    result = CliRunner().invoke(
        build(), list(arguments), env={"GRAMIAN_URL": url}, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result


def test_from_files_to_a_solve_and_a_file(url: str, arrays: tuple[Path, Path], tmp_path: Path):
    x, y = arrays
    options = ["--x1", str(x), "--y1", str(y), "--depth", "3", "--normalize", "unit"]
    estimate = json.loads(_run(url, "submit", "gram", *options, "--estimate", "--json").stdout)
    assert estimate["admitted"]

    said = _run(url, "submit", "gram", *options, "--watch").output
    matrix = re.findall(r"gramian fetch (mx-[0-9a-f]{32})", said)[0]
    assert matrix == estimate["matrix"]

    # The same request again is the same job, already done.
    job = json.loads(_run(url, "submit", "gram", *options, "--json").stdout)
    assert job["state"] == "succeeded"
    assert job["id"] in _run(url, "status").output
    assert json.loads(_run(url, "status", job["id"], "--json").stdout)["matrix"] == matrix
    events = [json.loads(e) for e in _run(url, "watch", job["id"], "--json").stdout.splitlines()]
    assert [e["id"] for e in events] == list(range(1, len(events) + 1))
    assert events[-1]["data"]["state"] == "succeeded"

    with Client(url) as client:
        drawn = job_tiles(client, job["id"])()
    assert drawn is not None
    assert set(drawn.plain) <= set("█▀▄ \n")  # nothing is missing

    # By the id of the job or of the matrix.
    target = tmp_path / "k.npy"
    for name in (matrix, job["id"]):
        answer = json.loads(_run(url, "fetch", name, "-o", str(target), "--json").stdout)
        assert answer["bytes"] == target.stat().st_size
        k, samples = np.load(target), np.load(x)
        assert k.shape == (ROWS, ROWS)
        np.testing.assert_array_equal(k, k.T)
        _, expected = relu_entry(samples[140], samples[3], depth=3, w_std=2**0.5)
        assert k[140, 3] == pytest.approx(expected, rel=1e-6)

    solve = ["submit", "solve", matrix, "--method", "cg", "--ridge", "0.01", "--watch", "--json"]
    last = json.loads(_run(url, *solve).stdout.splitlines()[-1])
    assert last["data"]["state"] == "succeeded"


def test_cancelling_waits_until_it_has_stopped(url: str, tmp_path: Path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "big.npy", rng.normal(size=(12_000, 64)).astype(np.float32))
    options = ["--x1", str(tmp_path / "big.npy"), "--depth", "1000", "--tile-rows", "512"]
    job = json.loads(_run(url, "submit", "gram", *options, "--json").stdout)["id"]
    ended = json.loads(_run(url, "cancel", job, "--wait", "--json").stdout)
    assert ended["state"] == "cancelled"
    watched = CliRunner().invoke(build(), ["watch", job], env={"GRAMIAN_URL": url})
    assert watched.exit_code == 1


def test_ctrl_c_detaches_and_the_job_goes_on(url: str, tmp_path: Path):
    rng = np.random.default_rng(2)
    np.save(tmp_path / "big.npy", rng.normal(size=(12_000, 64)).astype(np.float32))
    options = ["--x1", str(tmp_path / "big.npy"), "--depth", "1000", "--tile-rows", "512"]
    job = json.loads(_run(url, "submit", "gram", *options, "--json").stdout)["id"]
    watching = subprocess.Popen(
        [sys.executable, "-c", LISTENING_CLI, "watch", job, "--json"],
        env={**os.environ, "GRAMIAN_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["id"] == 1  # it is following
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert f"gramian watch {job}" in said
    assert f"gramian cancel {job}" in said
    assert json.loads(_run(url, "status", job, "--json").stdout)["state"] in ("queued", "running")
    _run(url, "cancel", job, "--wait")
