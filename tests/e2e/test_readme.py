"""What README.md shows works when it is typed in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DEFAULT_URL = "http://127.0.0.1:8000"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def url(shared_url: str) -> str:
    return shared_url


@pytest.fixture(scope="module")
def matrix(url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of the matrix that the five lines of curl make."""
    folder = tmp_path_factory.mktemp("curl")
    rng = np.random.default_rng(0)
    np.save(folder / "train.npy", rng.normal(size=(150, 8)).astype(np.float32))
    np.save(folder / "labels.npy", rng.integers(0, 3, 150))
    values = {"API": f"{url}/v1", "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    answers = []
    (lines,) = _blocks("bash")
    for line in lines.strip().splitlines():
        done = subprocess.run(
            ["bash", "-c", line.replace("curl ", "curl -sS --fail-with-body ", 1)],
            cwd=folder,
            env=values,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        answers.append(done.stdout)
        if len(answers) == 1:
            values["DATASET"] = json.loads(done.stdout)["id"]
        elif len(answers) == 2:
            values["JOB"] = json.loads(done.stdout)["id"]
        elif len(answers) == 3:
            assert '"state":"succeeded"' in done.stdout
        elif len(answers) == 4:
            values["MATRIX"] = json.loads(done.stdout)["matrix"]
    assert len(answers) == 5
    assert np.array(json.loads(answers[4])["values"]).shape == (2, 2)
    return values["MATRIX"]


def test_five_lines_of_curl(matrix: str):
    assert matrix.startswith("mx-")


@pytest.mark.parametrize(
    "block", _blocks("python"), ids=["zarr", "client", "library", "estimators"]
)
def test_python(block: str, url: str, matrix: str):
    code = block.replace(DEFAULT_URL, url).replace("$MATRIX", matrix)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_path_that_is_named_exists():
    # What begins with a slash is a page of the service.
    for name in re.findall(r"`(\w[\w./-]*(?:/|\.md|\.yml|\.py))`", README):
        if name == "settings.py":
            name = "service/settings.py"
        if name == "FORMAT.md":
            name = "storage/FORMAT.md"
        assert (ROOT / name).exists(), name
