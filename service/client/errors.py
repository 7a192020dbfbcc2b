"""How calls of the client fail."""

from __future__ import annotations

from typing import Any

import httpx2

from storage.errors import GramianError


class ApiError(GramianError):
    """The service refused a request: its problem document (RFC 9457) as an exception."""

    # Per instance: the kind that the service named, which is what programs match on.
    kind: str  # type: ignore[misc]

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(
            str(problem.get("detail", f"The service answered {status}.")),
            advice=str(problem.get("advice", "")),
        )
        self.status = status
        self.problem = problem
        self.kind = str(problem.get("kind", "internal"))

    @property
    def detail(self) -> str:
        return self.message


class ServiceUnreachableError(GramianError):
    """No service answers at the address, or the connection broke."""

    kind = "service-unreachable"


class WaitTimeoutError(GramianError):
    """The job did not end within the time allowed; it goes on."""

    kind = "wait-timeout"


def api_error(response: httpx2.Response) -> ApiError:
    try:
        problem = response.json()
    except ValueError:  # a proxy in between answered with something else
        problem = {}
    return ApiError(response.status_code, problem if isinstance(problem, dict) else {})
