"""Results of the papers' experiments (`gramian paper`) that lie in this service's data folder.

The experiments are imported by the first request about them: a service that starts need not wait
for what they work with.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.deps import ServicesDep
from service.http.responses import NO_SCRIPTS
from service.schemas.common import error_responses
from service.schemas.experiments import EXAMPLE_EXPERIMENT, ExperimentOut, ExperimentResult

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])

SVG = "image/svg+xml"

NamePath = Annotated[
    str,
    Path(max_length=100, openapi_examples={"name": {"value": EXAMPLE_EXPERIMENT}}),
]


@router.get("", summary="The experiments of the papers", responses=error_responses())
def list_experiments(services: ServicesDep, response: Response) -> list[ExperimentOut]:
    """All that `gramian paper` knows, and which of them have a result here."""
    from service.papers.catalogue import EXPERIMENTS
    from service.papers.results import FOLDER, written_at

    response.headers["Cache-Control"] = "no-store"
    found = []
    for entry in EXPERIMENTS:
        at = written_at(services.settings.data_dir / FOLDER, entry.name)
        found.append(
            ExperimentOut(
                name=entry.name,
                summary=entry.summary,
                finished_at=None if at is None else datetime.fromtimestamp(at, UTC),
            )
        )
    return found


@router.get(
    "/{name}", summary="The result of an experiment", responses=error_responses("not-found")
)
def get_experiment(services: ServicesDep, name: NamePath, response: Response) -> ExperimentResult:
    """Published numbers beside those that came out here, what differs, and the table."""
    from service.papers.results import FOLDER, stored_report

    response.headers["Cache-Control"] = "no-store"
    report = stored_report(services.settings.data_dir / FOLDER, name)
    return ExperimentResult.model_validate(report)


@router.get(
    "/{name}/picture.svg",
    summary="The picture of an experiment",
    response_class=Response,
    responses={
        200: {"description": "An SVG picture.", "content": {SVG: {"schema": {"type": "string"}}}},
        **error_responses("not-found"),
    },
)
def get_experiment_picture(services: ServicesDep, name: NamePath) -> Response:
    """Drawn by the experiment, for light pages."""
    from service.papers.results import FOLDER, stored_picture

    picture = stored_picture(services.settings.data_dir / FOLDER, name)
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": NO_SCRIPTS}
    return Response(picture, media_type=SVG, headers=headers)
