"""Deployment files beyond docker-compose.yml: the chart, the units, the batch script, the overlays.

The chart is rendered where there is a `helm` (there is none among what tests install). Without it,
what is checked is that values, schema and templates agree, and that the settings of security are
where they belong.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from service.settings import ServiceSettings
from storage.s3_location import parse_s3_url
from support.compose import BIN, ROOT, load
from support.server import free_port

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "gramian"
TEMPLATES = {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}
OVERLAYS = ("compose.gpu.yml", "compose.monitoring.yml", "compose.s3.yml")


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def leaves(node: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for name, value in node.items():
        here = f"{path}.{name}"
        deeper = isinstance(value, dict) and value and name != "resources"
        found |= leaves(value, here) if deeper else {here}
    return found


def test_the_values_fit_their_schema_and_nonsense_does_not() -> None:
    schema = jsonschema_rs.validator_for(json.loads((CHART / "values.schema.json").read_text()))
    assert schema.is_valid(values())
    for path, wrong in (
        ("service.replicas", 0),
        ("service.settings", {"max_open_jobs": "5"}),
        ("service.settings", {"MAX_OPEN_JOBS": 5}),
        ("workers.memoryLimit", "2 gigabytes"),
        ("workers.gpus", 2),
        ("image.pullPolicy", "Sometimes"),
        ("data.size", "much"),
        ("store.bucket", "Not_A_Bucket"),
        ("store.prefix", "/from/the/root"),
        ("store.endpoint", "https://key:secret@minio.example"),
        ("catalog.password", "in the open"),
        ("scheduler.service", {"type": "LoadBalancer"}),
    ):
        changed = values()
        part, name = path.split(".")
        changed[part][name] = wrong
        assert not schema.is_valid(changed), path


def test_templates_use_every_value_and_no_other() -> None:
    used = set(re.findall(r"\.Values((?:\.[A-Za-z]+)+)", "".join(TEMPLATES.values())))
    assert used == leaves(values())


def test_templates_include_what_is_defined_and_close_what_they_open() -> None:
    text = "".join(TEMPLATES.values())
    defined = set(re.findall(r'define "([^"]+)"', text))
    assert set(re.findall(r'include "([^"]+)"', text)) == defined
    for name, template in TEMPLATES.items():
        actions = re.findall(r"\{\{-? *(?:/\*.*?\*/|(\w+)).*?\}\}", template, re.DOTALL)
        opened = sum(action in ("if", "range", "with", "define") for action in actions)
        assert opened == actions.count("end"), name


@pytest.mark.parametrize("name", ["service.yaml", "scheduler.yaml", "workers.yaml"])
def test_pods_of_the_chart_have_no_privileges(name: str) -> None:
    template, helpers = TEMPLATES[name], TEMPLATES["_helpers.tpl"]
    assert template.count('include "gramian.pod"') == template.count("kind: Deployment") == 1
    assert template.count('include "gramian.container"') == template.count("image: ") == 1
    for line in (
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
        "automountServiceAccountToken: false",
        # Else Kubernetes sets GRAMIAN_PORT=tcp://... beside a Service of that name.
        "enableServiceLinks: false",
        "type: RuntimeDefault",
    ):
        assert line in helpers
    assert "hostPath" not in template


def test_nothing_publishes_the_scheduler() -> None:
    text = "".join(TEMPLATES.values())
    assert set(re.findall(r"^  type: (\w+)", text, re.MULTILINE)) == {"ClusterIP"}
    assert "hostPort" not in text
    assert "hostNetwork" not in text
    policy = TEMPLATES["networkpolicy.yaml"]
    assert 'range list "scheduler" "worker"' in policy
    assert 'range list "service" "scheduler" "worker"' in policy
    assert values()["networkPolicy"]["enabled"] is True


def test_secrets_come_by_reference_only() -> None:
    text = "".join(TEMPLATES.values())
    assert "kind: Secret" not in text
    for name in ("GRAMIAN_CATALOG_URL", "GRAMIAN_API_KEY_SHA256"):
        assert re.search(rf"name: {name}\n +valueFrom:\n +secretKeyRef:", text)


def test_what_the_chart_sets_are_settings_and_the_version_is_that_of_the_package() -> None:
    text = "".join(TEMPLATES.values()) + "".join(
        path.read_text() for path in sorted((DEPLOY / "systemd").iterdir())
    )
    named = {name.lower() for name in re.findall(r"\bGRAMIAN_([A-Z][A-Z0-9_]+)\b", text)}
    # Of the units, for their own command lines.
    own = {"scheduler", "scheduler_host", "scheduler_options", "worker_memory"}
    known = set(ServiceSettings.model_fields) | own
    assert named <= known, named - known
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project


def test_a_bucket_replaces_the_volume_and_its_keys_come_from_a_secret() -> None:
    for name in ("service.yaml", "workers.yaml"):
        assert TEMPLATES[name].count('include "gramian.storeEnv"') == 1
        assert TEMPLATES[name].count('include "gramian.dataVolume"') == 1
    helpers = TEMPLATES["_helpers.tpl"]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert name in helpers
    assert "kind: Secret" not in helpers


RENDERED = {
    "catalog": {"existingSecret": "the-catalog"},
    "apiKeys": {"existingSecret": "the-keys"},
    "tls": {"existingSecret": "the-certificates"},
    "store": {
        "bucket": "gram",
        "prefix": "kept/here",
        "endpoint": "https://minio.example:9000",
        "region": "eu-central-1",
        "existingSecret": "the-store",
    },
}


@pytest.mark.parametrize("store", [True, False], ids=["bucket", "volume"])
def test_helm_renders_the_chart(tmp_path: Path, store: bool) -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("there is no helm on this machine")
    given = {name: RENDERED[name] for name in RENDERED if store or name != "store"}
    (tmp_path / "values.yaml").write_text(json.dumps(given))
    options = [str(CHART), "--values", str(tmp_path / "values.yaml")]
    for command in (["lint", "--strict"], ["template", "mine"]):
        done = subprocess.run(
            [helm, *command, *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    claims = [each for each in objects if each["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == (0 if store else 1)
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] == "Deployment"
    }
    assert set(pods) == {"mine-gramian", "mine-gramian-scheduler", "mine-gramian-worker"}
    for name in ("mine-gramian", "mine-gramian-worker"):
        (container,) = pods[name]["containers"]
        environment = {each["name"]: each for each in container["env"]}
        (data,) = (each for each in pods[name]["volumes"] if each["name"] == "data")
        if not store:
            claim = data["persistentVolumeClaim"]["claimName"]
            assert claim == claims[0]["metadata"]["name"]
            assert "GRAMIAN_STORE_URL" not in environment
            continue
        assert data["emptyDir"] == {}
        where = parse_s3_url(environment["GRAMIAN_STORE_URL"]["value"], {})
        assert (where.bucket, where.prefix) == ("gram", "kept/here")
        assert (where.endpoint, where.region) == ("https://minio.example:9000", "eu-central-1")
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            reference = environment[key]["valueFrom"]["secretKeyRef"]
            assert reference == {"name": "the-store", "key": key}


@pytest.mark.parametrize("name", sorted(p.name for p in (DEPLOY / "systemd").iterdir()))
def test_systemd_takes_the_units(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / name).read_text()
    for line in ("User=gramian", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert f"\n{line}\n" in text
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return  # the lines above are all that can be told without systemd
    here = text.replace("/opt/gramian/bin", str(BIN))
    unit = tmp_path / name.replace("@.", "@2.")
    unit.write_text(here)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about == []


def test_hadolint_takes_the_dockerfile() -> None:
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("hadolint is installed on x86-64 Linux only")
    done = subprocess.run(
        [BIN / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_containers_of_ours_have_no_privileges() -> None:
    variables = {"GRAMIAN_API_KEY_SHA256": "0" * 64, "GRAMIAN_POSTGRES_PASSWORD": "example"}
    services = load(variables)["services"]
    for name in ("service", "scheduler", "worker"):
        container = services[name]
        assert container["read_only"] is True, name
        assert container["user"] == "10001:10001"
        assert container["cap_drop"] == ["ALL"]
        assert container["security_opt"] == ["no-new-privileges:true"]
        assert container["tmpfs"] == ["/tmp"]
        assert not container.get("privileged")
    assert "ports" not in services["scheduler"]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER 10001$", dockerfile, re.MULTILINE)


def overlay(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_publish_nothing_but_on_loopback(name: str) -> None:
    services = overlay(name)["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "scheduler" not in services


def test_the_monitoring_overlay_mounts_files_that_are_there() -> None:
    described = overlay("compose.monitoring.yml")
    mounts = [m for s in described["services"].values() for m in s["volumes"]]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert len(files) == 3
    # Compose takes paths relative to the first file, which is that of the top folder.
    assert all((ROOT / file).is_file() for file in files)
    named = {mount.split(":")[0] for mount in mounts if re.match(r"[a-z]+:", mount)}
    assert named == set(described["volumes"])
    scrape = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())
    key = scrape["scrape_configs"][0]["authorization"]["credentials_file"]
    assert any(f":{key}:ro" in mount for mount in mounts)


def test_the_gpu_overlay_changes_the_worker_only() -> None:
    services = overlay("compose.gpu.yml")["services"]
    assert set(services) == {"worker"}
    worker = services["worker"]
    command = worker["command"]
    assert command[command.index("--workers") + 1] == "1"
    devices = worker["deploy"]["resources"]["reservations"]["devices"]
    assert [(d["driver"], d["count"], d["capabilities"]) for d in devices] == [
        ("nvidia", 1, ["gpu"])
    ]
    assert worker["build"]["args"]["EXTRAS"].split(",")[-1] == "gpu"
    assert "ARG EXTRAS=" in (DEPLOY / "Dockerfile").read_text()


def test_the_s3_overlay_gives_service_and_workers_one_store_and_its_keys() -> None:
    services = overlay("compose.s3.yml")["services"]
    store, worker, service = services["s3"], services["worker"], services["service"]
    where = parse_s3_url(service["environment"]["GRAMIAN_STORE_URL"], {})
    (port,) = [c.partition("=")[2] for c in store["command"] if c.startswith("-s3.port=")]
    assert where.endpoint == f"http://s3:{port}"
    assert f"127.0.0.1:{port}/" in store["healthcheck"]["test"][-1]
    assert f"-name {where.bucket} " in services["bucket"]["command"][0]
    keys = store["environment"]
    assert set(keys) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    for user in (worker, service):
        assert keys.items() <= user["environment"].items()
    assert "ports" not in store
    # The secret has no default, and the image has what S3 needs.
    assert keys["AWS_SECRET_ACCESS_KEY"].startswith("${GRAMIAN_S3_SECRET:?")
    assert re.search(r"^ARG EXTRAS=.*\bs3\b", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


STUB = """#!/bin/bash
# srun on one machine: the tasks are processes here.
tasks=1
while [[ $1 == --* ]]; do
  case $1 in --ntasks=*) tasks=${1#*=} ;; esac
  shift
done
echo "srun $tasks: $*" >> "$SRUN_LOG"
for ((n = 0; n < tasks; n++)); do "$@" & done
trap 'kill $(jobs -p)' TERM
wait
"""

RUN = """
import numpy as np
from service.client import Client
with Client("http://127.0.0.1:{port}") as client:
    data = client.upload(np.eye(150, dtype=np.float32))
    job = client.wait(client.gram(data.id, kernel={{"preset": "fc", "depth": 1}}).id)
    print("state", job.state, len(client.cluster()["workers"]))
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_the_slurm_script_starts_all_of_it_and_leaves_nothing(tmp_path: Path) -> None:
    script = DEPLOY / "slurm" / "gramian.sbatch"
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text(STUB)
    (tools / "srun").chmod(stat.S_IRWXU)
    home = tmp_path / "home" / "bin"
    home.mkdir(parents=True)
    for name in ("gramian", "dask", "python"):
        # The programs of this environment, with the sources under test.
        (home / name).write_text(f'#!/bin/bash\nexec {_program(name)} "$@"\n')
        (home / name).chmod(stat.S_IRWXU)
    (tmp_path / "run.py").write_text(RUN.format(port=(port := free_port())))
    data = tmp_path / "data"
    done = subprocess.run(
        ["bash", script],
        env={
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SRUN_LOG": str(tmp_path / "srun.log"),
            "SLURM_NTASKS": "2",
            "GRAMIAN_HOME": str(home.parent),
            "GRAMIAN_DATA_DIR": str(data),
            "GRAMIAN_SCHEDULER_HOST": "127.0.0.1",
            "GRAMIAN_SCHEDULER_PORT": str(free_port()),
            "GRAMIAN_PORT": str(port),
            "GRAMIAN_RUN": f"{sys.executable} {tmp_path / 'run.py'}",
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^state succeeded [12]$", done.stdout, re.MULTILINE), done.stdout
    assert "srun 2: " in (tmp_path / "srun.log").read_text()
    assert "--workers 1" in (tmp_path / "srun.log").read_text()
    assert list((data / "store").rglob("c/*/*"))
    assert list(data.glob("certs.*")) == [], "keys are left behind"
    left = subprocess.run(["pgrep", "-f", str(data)], capture_output=True, text=True, check=False)
    assert left.stdout.split() == []


def _program(name: str) -> str:
    return {
        "gramian": f"{sys.executable} -m service.cli",
        "dask": f"{sys.executable} -m dask",
        "python": sys.executable,
    }[name]
