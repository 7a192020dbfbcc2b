"""The command line without a service: help, usage errors, exit codes, and what is sent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.app import build
from service.cli.outcome import ExitCode, UsageError
from service.cli.submit import kernel_from_flags
from service.cli.worker import worker_command
from service.client import ApiError, Client, Dataset, Job, ServiceUnreachableError

DS = "ds-" + "1" * 32
MX = "mx-" + "2" * 32
JOB = "job-" + "3" * 32

runner = CliRunner()


def _run(*arguments: str, **options: Any) -> Any:
    return runner.invoke(build(), list(arguments), catch_exceptions=False, **options)


class FakeService:
    """Answers the client's calls and keeps what was asked."""

    def __init__(self, state: str = "queued") -> None:
        self.tasks: list[dict[str, Any]] = []
        self.uploads: list[str] = []
        self.state = state

    def job(self, job_id: str = JOB) -> Job:
        error = {"kind": "x", "message": "it overflowed", "advice": "use float64"}
        return Job.of(
            {
                "id": job_id,
                "type": "gram",
                "state": self.state,
                "matrix": MX,
                "error": error if self.state == "failed" else None,
                "progress": None,
                "created_at": "2026-01-01T00:00:00Z",
                "finished_at": None,
            }
        )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    fake = FakeService()

    def submit(self: Client, task: dict[str, Any]) -> Job:
        fake.tasks.append(task)
        return fake.job()

    def upload(self: Client, x: str, y: Path | None = None, name: str | None = None) -> Dataset:
        fake.uploads.append(f"{Path(x).name} {y and y.name} {name}")
        return Dataset.of({"id": DS, "shape": [2, 2], "dtype": "float32"})

    monkeypatch.setattr(Client, "submit", submit)
    monkeypatch.setattr(Client, "upload", upload)
    monkeypatch.setattr(Client, "job", lambda self, job_id: fake.job(job_id))
    return fake


def test_every_command_has_help():
    for command in (
        "serve",
        "worker",
        "submit",
        "solve",
        "analyze",
        "status",
        "watch",
        "fetch",
        "cancel",
        "share",
        "audit",
        "whoami",
        "doctor",
        "verify",
        "gc",
        "keys",
        "demo",
    ):
        result = _run(command, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.output


def test_new_key_and_its_digest_belong_together_and_no_two_are_equal():
    first, second = (json.loads(_run("keys", "new", "--json").stdout) for _ in range(2))
    assert hashlib.sha256(first["key"].encode()).hexdigest() == first["sha256"]
    assert first["key"] != second["key"]
    assert len(first["key"]) > 40


def test_a_gram_of_a_file_uploads_it_and_sends_only_what_was_said(
    service: FakeService, tmp_path: Path
):
    np.save(tmp_path / "x.npy", np.eye(2, dtype=np.float32))
    np.save(tmp_path / "y.npy", np.arange(2))
    x, y = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    result = _run(
        "submit", "gram", "--x1", x, "--y1", y, "--preset", "fc", "--depth", "3", "--json"
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["id"] == JOB
    assert service.uploads == ["x.npy y.npy x"]
    assert service.tasks == [
        {"type": "gram", "kernel": {"preset": "fc", "depth": 3}, "x1": DS},
    ]


def test_a_solve_sends_its_options_under_the_names_of_the_api(service: FakeService):
    result = _run("submit", "solve", MX, "--method", "nystrom", "--inducing", "7", "--ridge", "0.1")
    assert result.exit_code == 0
    assert f"gramian watch {JOB}" in result.output
    assert service.tasks == [
        {"type": "solve", "matrix": MX, "method": "nystrom", "ridge": 0.1, "inducing": 7}
    ]


def test_spectra_and_analyses_send_only_what_was_said(service: FakeService):
    assert _run("solve", "spectrum", MX, "--components", "2", "--centred").exit_code == 0
    assert _run("solve", "spectrum", MX, "--ridge", "2", "--ridge-absolute").exit_code == 0
    options = ["--other", MX, "--set", "interval=2.5", "--set", "other_array=nngp"]
    assert _run("analyze", "kernel_velocity", MX, *options).exit_code == 0
    velocity = {"matrix": MX, "other": MX, "interval": 2.5, "other_array": "nngp"}
    assert service.tasks == [
        {"type": "spectrum", "matrix": MX, "components": 2, "centred": True},
        {"type": "spectrum", "matrix": MX, "ridge": 2.0, "ridge_relative": False},
        {"type": "analysis", "analysis": {"name": "kernel_velocity", **velocity}},
    ]


def test_tasks_of_regression_and_training_send_only_what_was_said(service: FakeService):
    for arguments in (
        ("ridge", MX, "--ridge", "1", "--ridge", "2", "--ridge-absolute", "--folds", "4"),
        ("classify", MX, "--cross", MX, "--criterion", "mean_squared_error"),
        ("posterior", MX, "--cross", MX, "--output", "mean", "--model", "ensemble", "--time", "2"),
        ("dynamics", MX, "--time", "1", "--time", "inf"),
        ("dynamics", MX, "--steps", "5", "--learning-rate", "0.5", "--loss", "cross_entropy"),
    ):
        assert _run("solve", *arguments).exit_code == 0
    ridge, classify, posterior, flow, descent = (
        {k: v for k, v in task.items() if k != "matrix"} for task in service.tasks
    )
    assert ridge == {
        "type": "ridge",
        "ridges": [1.0, 2.0],
        "ridge_relative": False,
        "selection": "k_fold",
        "folds": 4,
    }
    assert classify == {"type": "classify", "cross": MX, "criterion": "mean_squared_error"}
    assert posterior == {
        "type": "posterior",
        "cross": MX,
        "output": "mean",
        "model": "ensemble",
        "time": 2.0,
    }
    assert flow == {"type": "dynamics", "times": [1.0, None]}
    assert descent == {
        "type": "dynamics",
        "steps": [5],
        "learning_rate": 0.5,
        "loss": "cross_entropy",
    }


def test_predictions_and_machines_send_only_what_was_said(service: FakeService):
    assert _run("solve", "predict", MX, "--x", DS, "--targets", DS).exit_code == 0
    assert _run("solve", "predict", MX, "--cross", MX).exit_code == 0
    assert service.tasks == [
        {"type": "predict", "solution": MX, "x": DS, "targets": DS},
        {"type": "predict", "solution": MX, "cross": MX},
    ]
    assert _run("solve", "svm", MX, "--cost", "10", "--cross", MX).exit_code == 0
    assert _run("solve", "label-kernel", MX, "--mixing", "0.3").exit_code == 0
    assert service.tasks[2:] == [
        {"type": "svm", "matrix": MX, "cost": 10.0, "cross": MX},
        {"type": "label-kernel", "matrix": MX, "mixing": 0.3},
    ]
    assert _run("solve", "predict", MX).exit_code == ExitCode.USAGE
    assert _run("solve", "predict", MX, "--x", DS, "--cross", MX).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_task_file_may_be_the_body_or_the_task(
    service: FakeService, tmp_path: Path, wrapped: bool
):
    task = {"type": "solve", "matrix": MX}
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"task": task} if wrapped else task))
    assert _run("submit", "task", str(path)).exit_code == 0
    assert _run("submit", "task", "-", input=path.read_text()).exit_code == 0
    assert service.tasks == [task, task]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit", "gram", "--x1", "nowhere.npy"], "no file 'nowhere.npy'"),
        (["submit", "gram", "--x1", DS, "--y1", "y.npy"], "stored with the targets it has"),
        (["submit", "gram", "--x1", DS, "--kernel", "{"], "not JSON"),
        (["submit", "gram", "--x1", DS, "--kernel", "{}", "--depth", "2"], "whole network"),
        (["submit", "solve", "mx-1"], "neither the id of a matrix nor of a job"),
        (["submit", "task", "nowhere.json"], "no file"),
        (["analyze", "conditioning", MX, "--set", "ridge"], "not NAME=VALUE"),
        (["watch", "7"], "not the id of a job"),
        (["serve", "--set", "max_open_jobs"], "does not name a setting"),
        (["serve", "--set", "colour=red"], "does not name a setting"),
        (["serve", "--worker-memory-limit", "much"], "not a size"),
        (["serve", "--host", "0.0.0.0"], "without an API key"),
        (["serve", "--port", "70000"], "port"),
        (["submit", "gram"], "--x1"),
    ],
)
def test_wrong_usage_is_code_2_and_says_what_to_write(
    service: FakeService, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("GRAMIAN_API_KEY_SHA256", raising=False)
    result = _run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert says in result.output.replace("\n", " ")
    assert not service.tasks


def test_no_service_is_code_3_and_names_the_command_that_starts_one():
    result = _run("status", "--url", "http://127.0.0.1:9")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "gramian serve" in result.output


def test_a_refusal_is_code_1_with_the_advice_of_the_service(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
):
    def refuse(self: Client, task: dict[str, Any]) -> Job:
        raise ApiError(422, {"detail": "too big [really]", "advice": "use less", "kind": "x"})

    monkeypatch.setattr(Client, "submit", refuse)
    result = _run("submit", "solve", MX)
    assert result.exit_code == ExitCode.FAILED
    assert "too big [really]" in result.output
    assert "use less" in result.output


def test_a_failed_job_is_code_1_and_a_finished_one_0(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Client, "watch", lambda self, job_id: iter(()))
    for state, code in (("succeeded", 0), ("failed", 1), ("cancelled", 1)):
        service.state = state
        result = _run("watch", JOB)
        assert result.exit_code == code, result.output
        assert ("use float64" in result.output) == (state == "failed")
    assert f"gramian fetch {MX}" in _watch_succeeded(service)


def _watch_succeeded(service: FakeService) -> str:
    service.state = "succeeded"
    return str(_run("watch", JOB).output)


def test_ctrl_c_while_watching_leaves_the_job_and_says_how_to_come_back(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(self: Client, job_id: str) -> Any:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Client, "watch", interrupted)
    result = _run("watch", JOB)
    assert result.exit_code == ExitCode.INTERRUPTED
    assert f"gramian watch {JOB}" in result.output


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def unreachable(url: str, api_key: str | None = None) -> Client:
        seen.append((url, api_key))
        raise ServiceUnreachableError("away")

    monkeypatch.setattr("service.client.Client", unreachable)
    monkeypatch.setenv("GRAMIAN_API_KEY", "gk_1")
    monkeypatch.setenv("GRAMIAN_URL", "http://there:1")
    assert _run("status", JOB).exit_code == ExitCode.UNREACHABLE
    assert seen == [("http://there:1", "gk_1")]


def test_kernel_flags():
    assert kernel_from_flags(None, None, depth=None) == {"preset": "fc"}
    assert kernel_from_flags('{"layers": []}', None, depth=None) == {"layers": []}
    with pytest.raises(UsageError, match="whole network"):
        kernel_from_flags("{}", "fc")


def test_workers_are_single_threads_under_a_nanny(tmp_path: Path):
    command = worker_command(
        "tcp://s:8786", n_workers=3, memory_limit="1GiB", host=None, name="a", scratch_dir=tmp_path
    )
    text = " ".join(command)
    assert "--nanny --nworkers 3 --nthreads 1 --memory-limit 1GiB --no-dashboard" in text
    assert f"--name a --local-directory {tmp_path}" in text


def test_a_worker_does_not_start_with_a_path_that_does_not_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAMIAN_CONV_PATH", "gpu")
    result = _run("worker", "tcp://127.0.0.1:1")
    assert result.exit_code == ExitCode.USAGE
    assert "auto, compiled, traced, fused" in result.output
