"""One HTTP connection pool to a service: requests, problem documents, pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from service.client.errors import ServiceUnreachableError, api_error
from service.client.models import Json


class Transport:
    """Sends requests with the API key, and turns every failure into an exception of `errors`."""

    def __init__(
        self, base_url: str, api_key: str | None, timeout_seconds: float, http: httpx2.Client | None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = http or httpx2.Client(base_url=self.base_url, timeout=timeout_seconds)

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, **options: Any) -> Json:
        return dict(self.send(method, path, **options).json())

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        accept_status: tuple[int, ...] = (),
        **options: Any,
    ) -> httpx2.Response:
        with self.reachable():
            response = self._http.request(
                method, path, headers={**self.headers, **(headers or {})}, **options
            )
        if response.is_success or response.status_code in accept_status:
            return response
        raise api_error(response)

    def pages(self, path: str, parameters: Mapping[str, str] | None = None) -> Iterator[Json]:
        page = self.json("GET", path, params=dict(parameters or {}))
        while True:
            yield from page["items"]
            if page["next"] is None:
                return
            page = self.json("GET", page["next"])

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], silence_seconds: float
    ) -> Iterator[httpx2.Response]:
        """An open response, read as it comes; the connection is given up after a silence."""
        with (
            self.reachable(),
            self._http.stream(
                "GET",
                path,
                headers={**self.headers, **headers},
                timeout=httpx2.Timeout(silence_seconds),
            ) as response,
        ):
            if not response.is_success:
                response.read()
                raise api_error(response)
            yield response

    @contextmanager
    def reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TransportError as error:
            raise ServiceUnreachableError(
                f"{self.base_url} does not answer: {error or type(error).__name__}.",
                advice="Is the service running? Start it with `gramian serve`.",
            ) from error
