"""What holds for all commands: JSON for programs, completion, exit codes that are written down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service.cli.app import build
from service.cli.outcome import ExitCode

GUIDE = Path(__file__).parents[4] / "service" / "guide" / "pages"
# They run until they are stopped and have no result to print.
ENDLESS = {"serve", "worker"}


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    group = group or typer.main.get_command(build())
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_that_ends_prints_json_if_asked():
    without = {
        name
        for name, command in commands()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == ENDLESS
    assert len(list(commands())) > 20


def test_every_command_is_in_the_guide_with_the_shape_of_its_json():
    page = (GUIDE / "reference-cli.md").read_text()
    table = dict(re.findall(r"^\| `gramian ([a-z -]+)` \| (.+) \|$", page, re.MULTILINE))
    assert set(table) == {name for name, _ in commands()} - ENDLESS


def test_exit_codes_are_those_of_the_guide():
    page = (GUIDE / "reference-cli.md").read_text()
    codes = {int(code) for code in re.findall(r"^\| (\d+) \| ", page, re.MULTILINE)}
    assert codes == {int(code) for code in ExitCode}


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [("bash", "gramian wa", "watch"), ("bash", "gramian submit pi", "pixel-gram")],
)
def test_completion_offers_commands(shell: str, words: str, expected: str):
    program = "import sys; sys.argv[0] = 'gramian'; from service.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "_GRAMIAN_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout.split(), done.stderr


def test_the_list_of_experiments_as_json():
    done = CliRunner().invoke(build(), ["paper", "--json"])
    assert {"name", "summary"} == set(json.loads(done.stdout)[0])
