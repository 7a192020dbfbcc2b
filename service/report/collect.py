"""Everything a report needs, asked of the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.client.errors import ApiError
from service.client.pictures import Picture
from service.pictures.line_chart import NothingToDrawError
from service.pictures.plots import eigenvalues, residuals

if TYPE_CHECKING:
    from service.client import Client

Json = dict[str, Any]

_PICTURE_SIZE = 512
_DATASET_FIELDS = ("x1", "x2", "targets", "test_targets", "x")


@dataclass(frozen=True)
class ArrayReport:
    """One array of the result. What could not be had is None, and `missing` says why."""

    info: Json
    picture: Picture | None
    statistics: Json | None
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A job as it was at `moment`. `plot`: SVG for the inside of a page."""

    url: str
    version: str
    moment: datetime
    job: Json
    datasets: tuple[Json, ...] = ()
    summary: Json | None = None
    matrix: Json | None = None
    arrays: tuple[ArrayReport, ...] = ()
    tiles: Json | None = None
    plot: str | None = None
    missing: tuple[str, ...] = field(default=())


def collect(client: Client, job_id: str) -> Report:
    """Raises ApiError if the job cannot be read; what else is missing is said in the report."""
    job = client.job(job_id)
    document = job.document
    missing: list[str] = []
    summary = client.result(job_id)["summary"] if job.state == "succeeded" else None
    matrix = None
    if job.matrix is not None:
        with _noted(missing, "matrix"):
            matrix = client.matrix(job.matrix).document
    tiles = None
    with _noted(missing, "tiles", quiet=("invalid-request", "not-ready")):
        tiles = client.tiles(job_id, cells=32)
    arrays = tuple(_array(client, matrix, info) for info in matrix["arrays"]) if matrix else ()
    return Report(
        url=client.base_url,
        version=str(client.about()["version"]),
        moment=datetime.now(UTC),
        job=document,
        datasets=tuple(_datasets(client, document["task"], missing)),
        summary=summary,
        matrix=matrix,
        arrays=arrays,
        tiles=tiles,
        plot=_plot(client, document, summary),
        missing=tuple(missing),
    )


@contextmanager
def _noted(missing: list[str], what: str, *, quiet: tuple[str, ...] = ()) -> Iterator[None]:
    """A refusal of the service inside the block is noted, and the report goes on without."""
    try:
        yield
    except ApiError as error:
        if error.kind not in quiet:
            missing.append(f"{what}: {error.message}")


def _array(client: Client, matrix: Json, info: Json) -> ArrayReport:
    missing: list[str] = []
    picture = statistics = None
    name = str(info["name"])
    if matrix["state"] == "sealed":
        with _noted(missing, "picture"):
            picture = client.picture(matrix["id"], array=name, size=_PICTURE_SIZE)
        with _noted(missing, "statistics"):
            statistics = client.statistics(matrix["id"], array=name)
    else:
        missing.append("The matrix is not complete.")
    return ArrayReport(info, picture, statistics, tuple(missing))


def _datasets(client: Client, task: Mapping[str, Any], missing: list[str]) -> list[Json]:
    named = dict.fromkeys(str(task[name]) for name in _DATASET_FIELDS if task.get(name))
    found: list[Json] = []
    for dataset_id in named:
        with _noted(missing, f"data set {dataset_id}"):
            found.append(client.dataset(dataset_id).document)
    return found


def _plot(client: Client, job: Json, summary: Json | None) -> str | None:
    """Drawn here, from the numbers: what is put into the page is our own."""
    try:
        if job["type"] == "solve":
            return residuals(job["progress"], summary, standalone=False)
        if job["type"] == "spectrum" and summary is not None:
            values = client.slice(job["matrix"], array="eigenvalues")
            return eigenvalues(values, summary.get("noise_floor"), standalone=False)
    except (NothingToDrawError, ApiError):
        return None
    return None
