"""The calls about pictures and what they are made from, as methods of the client."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.client.arrays import slice_text
from service.client.errors import ApiError
from service.client.models import Json
from service.client.transport import Transport

if TYPE_CHECKING:
    import httpx2

# Each request for a picture of an old matrix makes some of its missing previews.
_MOST_REPEATS = 200


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows: `about` holds the X-Gramian- headers, such as `cell`, `rows` and
    `scale`, by their names in lower case without the prefix."""

    png: bytes
    about: dict[str, str]


class Pictures:
    """Looking at matrices and jobs. Part of `Client`."""

    _transport: Transport

    def picture(
        self,
        matrix_id: str,
        *,
        array: str | None = None,
        rows: slice | None = None,
        cols: slice | None = None,
        size: int | None = None,
        colors: str | None = None,
    ) -> Picture:
        """A heat map of a part of a stored array, one pixel per cell. Asks again while the service
        is making previews that are missing."""
        return self._picture(
            f"/v1/matrices/{matrix_id}/preview.png",
            array=array,
            rows=slice_text(rows),
            cols=slice_text(cols),
            size=size,
            colors=colors,
        )

    def job_picture(
        self, job_id: str, *, array: str | None = None, size: int | None = None
    ) -> Picture:
        """The matrix of a job as far as it is there; what is not there is transparent."""
        return self._picture(f"/v1/jobs/{job_id}/preview.png", array=array, size=size)

    def statistics(self, matrix_id: str, *, array: str | None = None) -> Json:
        """Range, histogram and diagonal of a stored array."""
        path = f"/v1/matrices/{matrix_id}/statistics"
        return dict(self._patient(path, {"array": array}).json())

    def plot(self, job_id: str) -> str:
        """Residuals of a solve, or eigenvalues of a spectrum, as SVG."""
        return self._transport.send("GET", f"/v1/jobs/{job_id}/plot.svg").text

    def cluster(self) -> Json:
        """Workers, memory and disk as they are now."""
        return self._transport.json("GET", "/v1/cluster")

    def _picture(self, path: str, **parameters: Any) -> Picture:
        response = self._patient(path, parameters)
        prefix = "x-gramian-"
        about = {
            name.lower().removeprefix(prefix): value
            for name, value in response.headers.items()
            if name.lower().startswith(prefix)
        }
        return Picture(response.content, about)

    def _patient(self, path: str, parameters: dict[str, Any]) -> httpx2.Response:
        given = {name: value for name, value in parameters.items() if value is not None}
        for _ in range(_MOST_REPEATS):
            try:
                return self._transport.send("GET", path, params=given)
            except ApiError as error:
                if error.kind != "preview-missing":
                    raise
                time.sleep(0.05)
        return self._transport.send("GET", path, params=given)
