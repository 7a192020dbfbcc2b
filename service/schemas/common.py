"""Wire models shared by all routes: ids, pages, problems, and how errors appear in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.errors import PROBLEM_MEDIA_TYPE, STATUS_BY_KIND, problem
from storage.keys import DATASET_ID_PATTERN, JOB_ID_PATTERN, MATRIX_ID_PATTERN

DatasetId = Annotated[str, StringConstraints(pattern=DATASET_ID_PATTERN)]
MatrixId = Annotated[str, StringConstraints(pattern=MATRIX_ID_PATTERN)]
JobId = Annotated[str, StringConstraints(pattern=JOB_ID_PATTERN)]

EXAMPLE_DATASET = "ds-0f5e27a1c9d84b6e93a2b7c1d0e4f682"
EXAMPLE_TEST_SET = "ds-7c1b9e5a4d2f48c0b6a1e3f7d9c50b24"
EXAMPLE_IMAGES = "ds-3e8d1f6b0a5c47d29be4f7012c6a98d5"
EXAMPLE_MATRIX = "mx-5d3c8a0e1f7b49d2a6c4e8b0f2d19735"
EXAMPLE_CROSS = "mx-e1a6c0b2d4f84753986b5a4c3d2e1f00"
EXAMPLE_SOLUTION = "mx-2b7f4c91d0e86a3554c1f9e0a7d3b682"
EXAMPLE_TEST_GRAM = "mx-b7d2f0c4e6a8135792468ace13579bdf"
EXAMPLE_JOB = "job-a3f1c2d4e5b64798a0b1c2d3e4f50617"

ItemT = TypeVar("ItemT")


class Wire(BaseModel):
    """Base of everything the service sends."""

    model_config = ConfigDict(frozen=True)


class Page(Wire, Generic[ItemT]):
    """One page of a list, newest first. `next` is the path of the following page, or null."""

    items: list[ItemT]
    next: str | None = Field(
        default=None, description="Path and query of the next page; null on the last one."
    )


class Problem(BaseModel):
    """RFC 9457 problem document. Match on `kind`; the wording of `detail` may change."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`urn:gramian:problem:<kind>`; never changes for a kind.")
    title: str = Field(description="The HTTP status in words.")
    status: int
    detail: str = Field(description="What is wrong, with numbers.")
    kind: str = Field(description="Stable, machine-readable name of the problem.")
    advice: str = Field(description="What to do next.")
    instance: str = Field(description="Path of the request.")


class Health(Wire):
    status: Literal["ok"] = "ok"


class Check(Wire):
    ok: bool
    detail: str


class Readiness(Wire):
    """Whether the service can do its work now, and which part is missing."""

    ready: bool
    checks: dict[str, Check]


class Landing(Wire):
    """What this service is and where things are."""

    name: str
    version: str
    format_version: int = Field(description="Version of the stored matrix format.")
    links: dict[str, str]


def error_responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems a route can answer with, one example per kind."""
    always = (
        *("malformed-body", "unauthorized", "forbidden", "forbidden-origin", "too-large"),
        *(
            "request-timeout",
            "head-too-large",
            "too-many-requests",
            "internal",
            "catalog-unavailable",
        ),
    )
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in dict.fromkeys((*kinds, *always)):
        status = STATUS_BY_KIND[kind]
        entry = by_status.setdefault(
            status,
            {
                "description": problem(kind, "")["title"],
                "content": {
                    PROBLEM_MEDIA_TYPE: {
                        "schema": {"$ref": "#/components/schemas/Problem"},
                        "examples": {},
                    }
                },
            },
        )
        detail, advice = _EXAMPLES.get(kind, ("See `kind`.", "See `detail`."))
        entry["content"][PROBLEM_MEDIA_TYPE]["examples"][kind] = {
            "value": problem(kind, detail, advice=advice, instance="/v1/...")
        }
    return by_status


def link(operation: str, body: dict[str, Any] | None = None, **parameters: str) -> dict[str, Any]:
    """An OpenAPI link to the operation that the function `operation` answers. `parameters` and
    `body` hold runtime expressions on the response (OpenAPI 3.1, section 4.8.20)."""
    found: dict[str, Any] = {"operationId": operation}
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = body
    return found


_EXAMPLES: dict[str, tuple[str, str]] = {
    "malformed-body": (
        "The body is not valid JSON: Expecting value.",
        "Send one JSON object encoded in UTF-8.",
    ),
    "request-timeout": (
        "The body came too slowly: 100 bytes, and then nothing in time.",
        "Send it again over a faster line.",
    ),
    "head-too-large": (
        "Request line and headers are longer than 32768 bytes.",
        "Send less, or raise the setting max_request_head_bytes of the service.",
    ),
    "catalog-unavailable": (
        "The catalog cannot be used: the database does not answer.",
        "Try again in a moment; /readyz says when it is back.",
    ),
    "disk-full": (
        "The store cannot be written: No space left on device.",
        "Free space in the store, then ask for the same again: stored tiles are kept.",
    ),
    "unauthorized": (
        "This service needs an API key that is known, not expired and not revoked.",
        "Send `Authorization: Bearer <key>`.",
    ),
    "forbidden": (
        "This needs a key of scope submit; gk_1a2b3c4d has read.",
        "Ask an administrator for such a key.",
    ),
    "quota-exceeded": (
        "alice owns 9000000000 bytes and this needs 2000000000; the key allows 10000000000.",
        "Delete what is no longer needed, or ask an administrator for more.",
    ),
    "too-many-requests": (
        "The key gk_1a2b3c4d may make 600 requests a minute.",
        "Wait as Retry-After says.",
    ),
    "forbidden-origin": (
        "Pages of 'https://example.org' may not change anything here.",
        "Configure an API key, or name the origin in GRAMIAN_CORS_ORIGINS.",
    ),
    "not-found": ("There is no job with this id.", "GET /v1/jobs lists the jobs."),
    "invalid-key": (
        "'c/00/0' is not a chunk key.",
        "Chunk keys look like 'c/0/1'.",
    ),
    "not-ready": ("The job is running.", "Watch /v1/jobs/{id}/events, or ask again later."),
    "job-failed": ("The job failed: the kernel overflowed.", "See `error` of the job."),
    "conflict": (
        "Matrix mx-... is used by unfinished jobs (job-...).",
        "Wait until they end, or cancel them.",
    ),
    "too-large": (
        "The request body is larger than 1048576 bytes.",
        "Send less, or raise the setting max_json_bytes of the service.",
    ),
    "unsupported-media-type": (
        "This route takes application/json, not text/plain.",
        "Set the Content-Type header.",
    ),
    "range-not-satisfiable": (
        "The range 'bytes=900-' names no byte of this object of 512 bytes.",
        "Ask for bytes inside the object, or a suffix such as 'bytes=-4'.",
    ),
    "invalid-request": (
        "body.task.gram.x1: String should match the pattern of a data-set id",
        "Correct the fields listed in `errors`; /openapi.json describes every body.",
    ),
    "invalid-array": (
        "Sample 17 contains NaN.",
        "Clean the data: every sample must be finite.",
    ),
    "invalid-kernel": ("Unknown op 'convolve'.", "GET /v1/kernels lists the ops."),
    "exceeds-memory": (
        "One task is projected to need 3221225472 bytes; a worker may use 2147483648.",
        "Use smaller tiles or float32, or give the workers more memory.",
    ),
    "idempotency-conflict": (
        "This Idempotency-Key was used with another body.",
        "Use a new key for a new request.",
    ),
    "too-many-jobs": ("64 jobs are open; the limit is 64.", "Wait for one to end."),
    "insufficient-storage": (
        "The matrix needs 14400000000 bytes; 9000000000 are free.",
        "Delete matrices you no longer need, or use float32.",
    ),
    "invalid-gram": (
        "Samples of x1 have shape (784,), samples of x2 (768,).",
        "Both data sets of a cross-Gram need samples of one shape.",
    ),
    "invalid-solve": (
        "The matrix has 4000 rows, the targets 3999.",
        "Targets need one row per row of the matrix.",
    ),
    "invalid-analysis": (
        "12 components of 10 samples do not exist.",
        "Ask for 1 to 10 components.",
    ),
    "not-acceptable": (
        "This comes as application/x-npy or application/json, not as 'text/html'.",
        "Send Accept: application/x-npy.",
    ),
    "corrupt-chunk": (
        "Chunk c/0/1 of ntk does not match its checksum.",
        "Delete the matrix and submit the request again to recompute it.",
    ),
    "preview-missing": (
        "120 tiles have no previews yet: the matrix was imported, or is older than these.",
        "Ask again: every request makes some of them.",
    ),
    "internal": (
        "The service met an unexpected condition.",
        "Report this with its request id; the server log has the reason.",
    ),
}
