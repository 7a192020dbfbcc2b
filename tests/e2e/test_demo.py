"""`gramian demo` from outside: what it prints, that it checks, that nothing is left running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "service.cli", "demo"]
SMALL = ["--train", "600", "--test", "200", "--workers", "1"]


def _demo(data_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *SMALL, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "COLUMNS": "150"},
    )


def _left_running(data_dir: Path) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(data_dir) in command and str(os.getpid()) != folder.name:
            found.append(command)
    return found


@pytest.mark.timeout(600)
def test_the_whole_flow_and_again_over_what_is_stored(tmp_path: Path):
    first = _demo(tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    said = first.stdout
    accuracies = [float(a) for a in re.findall(r"(\d+\.\d+) %\s+\d+\s", said)]
    assert len(accuracies) == 2, said
    # 600 real digits: far above the 10 % of guessing, about what 4000 give.
    assert all(80 < a < 97 for a in accuracies), said
    assert "20 entries agree with an independent float64 computation" in said
    assert 'zarr.open("http://127.0.0.1:' in said
    assert "(600, 600)" in said
    assert "peak memory of all processes together" in said
    assert not _left_running(tmp_path)

    matrix = re.findall(r"matrices/(mx-[0-9a-f]{32})", said)[0]
    assert (tmp_path / "demo-mnist" / "store" / "matrices" / matrix / "zarr.json").is_file()

    second = _demo(tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.count("stored by an earlier run") == 4
    assert matrix in second.stdout
    assert not _left_running(tmp_path)
