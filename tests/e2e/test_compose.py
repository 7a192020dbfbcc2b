"""docker-compose.yml describes processes that really start, in order, and do a job together."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
import pytest
import zarr

from service.client import ApiError, Client
from service.demo.reference import relu_entry
from support.compose import BIN, ROOT, LocalStack, MissingVariableError, load, local_stack
from support.compose import start_order as order_of
from support.postgres import find_binaries, postgres_server

VARIABLES = {"GRAMIAN_API_KEY_SHA256": "0" * 64, "GRAMIAN_POSTGRES_PASSWORD": "example"}


@dataclass(frozen=True)
class Running:
    stack: LocalStack
    url: str
    key: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    key = secrets.token_urlsafe(32)
    with postgres_server() as postgres:
        database = f"host=127.0.0.1 port={postgres.port} user=gramian password={postgres.password}"
        with psycopg.connect(f"{database} dbname=postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE gramian")
        services = load(
            {
                "GRAMIAN_API_KEY_SHA256": hashlib.sha256(key.encode()).hexdigest(),
                "GRAMIAN_POSTGRES_PASSWORD": postgres.password,
            }
        )["services"]
        folder = tmp_path_factory.mktemp("compose")
        with local_stack(services, folder, given={"postgres": postgres.port}) as stack:
            yield Running(stack, f"http://127.0.0.1:{stack.ports[8000]}", key)
        with psycopg.connect(f"{database} dbname=gramian") as connection:
            states = connection.execute("SELECT state FROM jobs").fetchall()
        assert states, "the catalog in PostgreSQL holds no job"


@pytest.mark.parametrize("missing", sorted(VARIABLES))
def test_there_is_no_default_for_a_secret(missing: str):
    with pytest.raises(MissingVariableError, match=missing):
        load({name: value for name, value in VARIABLES.items() if name != missing})


def test_the_database_of_the_url_is_the_one_that_is_made():
    services = load(VARIABLES)["services"]
    made = services["postgres"]["environment"]
    url = services["service"]["environment"]["GRAMIAN_CATALOG_URL"]
    assert url == (
        f"postgresql+psycopg://{made['POSTGRES_USER']}:{made['POSTGRES_PASSWORD']}"
        f"@postgres:5432/{made['POSTGRES_DB']}"
    )


def test_start_order_and_what_is_waited_for():
    services = load(VARIABLES)["services"]
    order = order_of(services)
    assert order.index("scheduler") < order.index("worker") < order.index("service")
    assert order.index("postgres") < order.index("service")
    for service in services.values():
        for needed, rule in service.get("depends_on", {}).items():
            if rule["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]


def test_only_the_service_is_published_and_only_on_loopback():
    services = load(VARIABLES)["services"]
    assert {name: s["ports"] for name, s in services.items() if "ports" in s} == {
        "service": ["127.0.0.1:8000:8000"]
    }


def test_a_job_runs_through_the_processes_of_the_compose_file(running: Running):
    x = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    with pytest.raises(ApiError) as refused, Client(running.url) as stranger:
        stranger.about()
    assert refused.value.status == 401
    with Client(running.url, api_key=running.key) as client:
        data = client.upload(x, name="compose")
        kernel = {"preset": "fc", "depth": 3, "normalize": "unit"}
        job = client.wait(client.gram(data.id, kernel=kernel).id, timeout_seconds=120)
        assert job.state == "succeeded", f"{job.error}\n{running.stack.log('service')}"
        group = zarr.open(
            client.zarr_url(str(job.matrix)),
            mode="r",
            storage_options={"headers": {"Authorization": f"Bearer {running.key}"}},
        )
        stored = np.asarray(group["ntk"][:])
    for i, j in ((0, 0), (299, 1), (7, 250)):
        _, expected = relu_entry(x[i], x[j], depth=3, w_std=2**0.5)
        assert stored[i, j] == pytest.approx(expected, rel=1e-6)
    # The worker container computed it: its volume is the service's.
    chunks = list((running.stack.data / "store").rglob("c/*/*"))
    assert chunks


@pytest.mark.slow
def test_a_scheduler_that_was_away_costs_no_restart_by_hand(running: Running):
    running.stack.processes["scheduler"].kill()
    running.stack.processes["scheduler"].wait()
    running.stack.start("scheduler")
    running.stack.wait_healthy("scheduler")
    x = np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)
    with Client(running.url, api_key=running.key) as client:
        job = client.gram(client.upload(x).id, kernel={"preset": "fc", "depth": 1})
        job = client.wait(job.id, timeout_seconds=120)
    assert job.state == "succeeded", f"{job.error}\n{running.stack.log('service')}"
    assert "starting them again" in running.stack.log("worker")


def test_the_image_holds_what_the_commands_start():
    lines = re.sub(r"\\\n", " ", (ROOT / "deploy" / "Dockerfile").read_text()).splitlines()
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    instructions = [(word, rest) for word, rest in words]
    by_name = dict(instructions)
    services = load(VARIABLES)["services"]
    ours = {name: s for name, s in services.items() if "build" in s}
    assert all((ROOT / s["build"]["dockerfile"]).is_file() for s in ours.values())

    # With an entry point the commands of the compose file would be its arguments instead.
    assert "ENTRYPOINT" not in by_name
    default = json.loads(by_name["CMD"])
    command = services["service"]["command"]
    assert default == command[: command.index("--scheduler")]
    assert by_name["EXPOSE"] == services["service"]["ports"][0].rsplit(":", 1)[1]

    # Every program of a command comes from the package or its dependencies.
    programs = {s["command"][0] for s in ours.values()} | {default[0]}
    assert programs == {"gramian", "dask"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "gramian" in project["project"]["scripts"]
    assert all((BIN / program).is_file() for program in programs)

    install = next(rest for word, rest in instructions if word == "RUN" and " install " in rest)
    assert install.endswith('".[${EXTRAS}]"')
    extras = by_name["ARG"].partition("=")[2].split(",")
    assert "postgres" in extras
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    for word, rest in instructions:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = shlex.split(rest)
            assert all((ROOT / source).exists() for source in sources)
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = " ".join(rest for word, rest in instructions if word == "COPY")
    assert set(packages) <= set(copied.split())
    mounts = {mount.partition(":")[2] for s in ours.values() for mount in s.get("volumes", [])}
    assert mounts == {by_name["VOLUME"]}


def test_the_postgres_healthcheck_is_a_program_of_postgres():
    test = load(VARIABLES)["services"]["postgres"]["healthcheck"]["test"]
    assert (find_binaries() / Path(test[1]).name).is_file()
