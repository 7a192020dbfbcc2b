"""The Python client: everything the REST API does, as plain calls.

    from service.client import Client

    with Client("http://127.0.0.1:8000") as client:
        train = client.upload(x, y, name="train")
        job = client.gram({"preset": "fc", "depth": 3}, train.id)
        for event in client.watch(job.id):
            print(event.type, event.data)
        k = client.slice(client.result(job.id)["matrix"], rows=slice(0, 100))

NumPy is imported only by the calls that move arrays, so command-line tools start fast.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import httpx2

from storage.errors import GramianError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Json = dict[str, Any]

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})
_NPY = "application/x-npy"
# One piece of `fetch`: large enough that requests do not count, small enough for any client.
_PIECE_BYTES = 32 << 20
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
# The service sends a heartbeat every 15 s, so a connection this long silent is a dead one.
_SILENCE_SECONDS = 60.0


class ApiError(GramianError):
    """The service refused a request: its problem document (RFC 9457) as an exception."""

    # Per instance: the kind that the service named, which is what programs match on.
    kind: str  # type: ignore[misc]

    def __init__(self, status: int, problem: Json) -> None:
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


@dataclass(frozen=True)
class Dataset:
    """A stored data set. `document` holds all that the service said, also newer fields."""

    id: str
    shape: tuple[int, ...]
    dtype: str
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        return cls(document["id"], tuple(document["shape"]), document["dtype"], document)


@dataclass(frozen=True)
class Job:
    """A job as it was when it was asked for."""

    id: str
    type: str
    state: str
    matrix: str | None
    error: Json | None
    progress: Json | None
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        d = document
        return cls(d["id"], d["type"], d["state"], d["matrix"], d["error"], d["progress"], document)

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class Matrix:
    """A stored matrix; `arrays` maps names to what the service says about them."""

    id: str
    kind: str
    state: str
    digest: str | None
    arrays: dict[str, Json]
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> Self:
        arrays = {array["name"]: array for array in document["arrays"]}
        d = document
        return cls(d["id"], d["kind"], d["state"], d["digest"], arrays, document)


@dataclass(frozen=True)
class Event:
    """One event of a job: `state`, `progress` or `cancelling`. Newer services may send others."""

    id: int
    type: str
    data: Json


class _NothingToCome(Exception):  # noqa: N818 - a signal, not an error
    """The job has ended and all its events were seen."""


class Client:
    """Talks to one service. Thread-safe; close it, or use it as a context manager.

    `reconnect_seconds`: how long `watch` and `wait` keep trying when the service goes away, for
    instance because it restarts.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        reconnect_seconds: float = 60.0,
        http: httpx2.Client | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._reconnect_seconds = reconnect_seconds
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = http or httpx2.Client(base_url=self.base_url, timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- the service ----------------------------------------------------------------------------

    def about(self) -> Json:
        """Version and links."""
        return self._json("GET", "/v1")

    def ready(self) -> Json:
        """The readiness checks; `["ready"]` says whether all of them pass."""
        response = self._send("GET", "/readyz", accept_status=(503,))
        return dict(response.json())

    def kernels(self) -> Json:
        """The kernel language: ops, activations and presets with their JSON schemas."""
        return self._json("GET", "/v1/kernels")

    # --- data sets ------------------------------------------------------------------------------

    def upload(
        self,
        x: NDArray[Any] | str | Path,
        y: NDArray[Any] | str | Path | None = None,
        name: str | None = None,
    ) -> Dataset:
        """Store samples x (m, ...) and targets y (m,) or (m, k).

        Arrays, or paths of `.npy` files (`.npz` with x and y for `x`). Streamed from disk, so
        memory-mapped arrays larger than memory work. Raises ApiError, ServiceUnreachableError.
        """
        with ExitStack() as stack:
            parts = {"x": x} if y is None else {"x": x, "y": y}
            files = {
                field_name: (f"{field_name}.npy", stack.enter_context(_as_file(value)))
                for field_name, value in parts.items()
            }
            data = {} if name is None else {"name": name}
            response = self._send("POST", "/v1/datasets", files=files, data=data)
        return Dataset.of(response.json())

    def dataset(self, dataset_id: str) -> Dataset:
        return Dataset.of(self._json("GET", f"/v1/datasets/{dataset_id}"))

    def datasets(self) -> Iterator[Dataset]:
        """All data sets, newest first."""
        return (Dataset.of(item) for item in self._pages("/v1/datasets"))

    def delete_dataset(self, dataset_id: str) -> None:
        self._send("DELETE", f"/v1/datasets/{dataset_id}")

    # --- jobs -----------------------------------------------------------------------------------

    def submit(self, task: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Ask for `task` (see TASK_EXAMPLES in the API documentation).

        The same request gives the same job while its result exists. Without a key of the caller's
        a random one protects against the connection breaking after the service has accepted.
        """
        key = idempotency_key or uuid.uuid4().hex
        headers = {"Idempotency-Key": key}
        body = {"task": dict(task)}
        try:
            return Job.of(self._json("POST", "/v1/jobs", json=body, headers=headers))
        except ServiceUnreachableError as error:
            if not isinstance(error.__cause__, httpx2.ReadError | httpx2.RemoteProtocolError):
                raise
            return Job.of(self._json("POST", "/v1/jobs", json=body, headers=headers))

    def gram(
        self,
        kernel: str | Mapping[str, Any],
        x1: str,
        x2: str | None = None,
        **options: Any,
    ) -> Job:
        """Gram matrix of data set `x1` (rows) against `x2` (columns; itself when None).

        `options`: outputs, dtype, tile_rows.
        """
        spec = kernel if isinstance(kernel, str) else dict(kernel)
        task = {"type": "gram", "kernel": spec, "x1": x1, "x2": x2, **options}
        return self.submit(task)

    def solve(self, matrix: str, **options: Any) -> Job:
        """Kernel ridge regression over a stored Gram matrix.

        `options`: array, targets, encoding, ridge, ridge_relative, method, tolerance, inducing,
        cross, test_targets, seed, max_applications.
        """
        return self.submit({"type": "solve", "matrix": matrix, **options})

    def estimate(self, task: Mapping[str, Any]) -> Json:
        """What `task` would cost, and whether it would be accepted now."""
        return self._json("POST", "/v1/estimates", json={"task": dict(task)})

    def job(self, job_id: str) -> Job:
        return Job.of(self._json("GET", f"/v1/jobs/{job_id}"))

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        """All jobs, newest first."""
        parameters = {} if state is None else {"state": state}
        return (Job.of(item) for item in self._pages("/v1/jobs", parameters))

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; `wait` tells when it has."""
        return Job.of(self._json("DELETE", f"/v1/jobs/{job_id}"))

    def result(self, job_id: str) -> Json:
        """Summary and links of a job that succeeded. Raises ApiError (not-ready, job-failed)."""
        return self._json("GET", f"/v1/jobs/{job_id}/result")

    def watch(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The job's events from number `after` + 1 on, as they happen, until it ends.

        Reconnects by itself and misses nothing: events are numbered and kept by the service.
        Raises ServiceUnreachableError once nothing answers for `reconnect_seconds`.
        """
        return (event for event in self._follow(job_id, after, None) if event is not None)

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> Job:
        """The job once it has ended, however it ended. Raises WaitTimeoutError."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        for event in self._follow(job_id, 0, deadline):
            if event is not None:
                on_event(event)
            if deadline is not None and time.monotonic() > deadline:
                break
        job = self.job(job_id)
        if not job.ended:
            raise WaitTimeoutError(
                f"Job {job_id} is still {job.state} after {timeout_seconds:g} s.",
                advice="It goes on; wait again, or cancel it.",
            )
        return job

    # --- matrices -------------------------------------------------------------------------------

    def matrix(self, matrix_id: str) -> Matrix:
        return Matrix.of(self._json("GET", f"/v1/matrices/{matrix_id}"))

    def matrices(self) -> Iterator[Matrix]:
        """All matrices, newest first, complete or not."""
        return (Matrix.of(item) for item in self._pages("/v1/matrices"))

    def delete_matrix(self, matrix_id: str) -> None:
        self._send("DELETE", f"/v1/matrices/{matrix_id}")

    def zarr_url(self, matrix_id: str) -> str:
        """What `zarr.open`, `xarray.open_zarr` and `dask.array.from_zarr` take."""
        return f"{self.base_url}/v1/matrices/{matrix_id}/zarr"

    def slice(
        self,
        matrix_id: str,
        *,
        rows: slice | None = None,
        cols: slice | None = None,
        array: str | None = None,
    ) -> NDArray[np.floating]:
        """A contiguous part of an array. Slices have no step and no negative numbers."""
        import io

        import numpy as np

        parameters = {"rows": _slice_text(rows), "cols": _slice_text(cols), "array": array}
        response = self._send(
            "GET",
            f"/v1/matrices/{matrix_id}/slice",
            params={name: value for name, value in parameters.items() if value is not None},
            headers={"Accept": _NPY},
        )
        values: NDArray[np.floating] = np.load(io.BytesIO(response.content), allow_pickle=False)
        return values

    def fetch(
        self,
        matrix_id: str,
        path: str | Path,
        *,
        array: str | None = None,
        on_bytes: Callable[[int, int], None] = lambda done, total: None,
    ) -> Path:
        """Write a whole array to a `.npy` file, in bounded memory; the file's path.

        The file appears under its name only when it is complete. `on_bytes(done, total)` is
        called after each piece.
        """
        import numpy as np

        matrix = self.matrix(matrix_id)
        if array is None and len(matrix.arrays) > 1:
            raise ApiError(
                422,
                {
                    "kind": "invalid-request",
                    "detail": f"The matrix has the arrays {', '.join(matrix.arrays)}.",
                    "advice": "Choose one with `array`.",
                },
            )
        name = array or next(iter(matrix.arrays))
        if name not in matrix.arrays:
            raise ApiError(
                404,
                {
                    "kind": "not-found",
                    "detail": f"The matrix has no array {name!r}.",
                    "advice": f"It has {', '.join(matrix.arrays)}.",
                },
            )
        info = matrix.arrays[name]
        shape, dtype = tuple(info["shape"]), np.dtype(info["dtype"])
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        total = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        done = 0
        try:
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
            for rows, cols in _pieces(shape, tuple(info["chunk_shape"]), dtype.itemsize):
                part = self.slice(matrix_id, rows=rows, cols=cols, array=name)
                out[rows if cols is None else (rows, cols)] = part
                done += part.nbytes
                on_bytes(done, total)
            out.flush()
            del out
            os.replace(temporary, target)  # noqa: PTH105 - atomic, as its name says
        finally:
            temporary.unlink(missing_ok=True)
        return target

    # --- plumbing -------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **options: Any) -> Json:
        return dict(self._send(method, path, **options).json())

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        accept_status: tuple[int, ...] = (),
        **options: Any,
    ) -> httpx2.Response:
        with self._reachable():
            response = self._http.request(
                method, path, headers={**self._headers, **(headers or {})}, **options
            )
        if response.is_success or response.status_code in accept_status:
            return response
        raise _api_error(response)

    def _pages(self, path: str, parameters: Mapping[str, str] | None = None) -> Iterator[Json]:
        page = self._json("GET", path, params=dict(parameters or {}))
        while True:
            yield from page["items"]
            if page["next"] is None:
                return
            page = self._json("GET", page["next"])

    def _follow(self, job_id: str, after: int, deadline: float | None) -> Iterator[Event | None]:
        """Events across reconnections; None at every sign of life, and when `deadline` passes."""
        last = after
        lost_at: float | None = None
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                for event in self._stream(job_id, last, deadline):
                    lost_at, pause = None, _FIRST_PAUSE_SECONDS
                    if event is not None:
                        last = event.id
                    yield event
                    if (
                        event is not None
                        and event.type == "state"
                        and event.data.get("state") in TERMINAL_STATES
                    ):
                        return
                # A stream that ends without a final event: the service is restarting.
            except _NothingToCome:
                return
            except ServiceUnreachableError:
                now = time.monotonic()
                if deadline is not None and now > deadline:
                    yield None
                lost_at = lost_at if lost_at is not None else now
                if now - lost_at > self._reconnect_seconds:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _stream(self, job_id: str, after: int, deadline: float | None) -> Iterator[Event | None]:
        """One connection to the event stream (WHATWG HTML section 9.2); None for a heartbeat."""
        headers = {**self._headers, "Accept": "text/event-stream"}
        if after:
            headers["Last-Event-ID"] = str(after)
        patience = _SILENCE_SECONDS
        if deadline is not None:
            patience = min(patience, max(0.1, deadline - time.monotonic()))
        with (
            self._reachable(),
            self._http.stream(
                "GET",
                f"/v1/jobs/{job_id}/events",
                headers=headers,
                timeout=httpx2.Timeout(patience),
            ) as response,
        ):
            if response.status_code == 204:
                raise _NothingToCome
            if not response.is_success:
                response.read()
                raise _api_error(response)
            name, number, data = "message", 0, ""
            for line in response.iter_lines():
                tag, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if line == "":
                    if data:
                        yield Event(number, name, json.loads(data))
                    name, data = "message", ""
                elif tag == "":
                    yield None
                elif tag == "event":
                    name = value
                elif tag == "id":
                    number = int(value)
                elif tag == "data":
                    data += value

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TransportError as error:
            raise ServiceUnreachableError(
                f"{self.base_url} does not answer: {error or type(error).__name__}.",
                advice="Is the service running? Start it with `gramian serve`.",
            ) from error


def _api_error(response: httpx2.Response) -> ApiError:
    try:
        problem = response.json()
    except ValueError:  # a proxy in between answered with something else
        problem = {}
    return ApiError(response.status_code, problem if isinstance(problem, dict) else {})


@contextmanager
def _as_file(value: NDArray[Any] | str | Path) -> Iterator[BinaryIO]:
    """An open binary file with the `.npy` bytes of an array, or of the file that is named."""
    if isinstance(value, str | Path):
        with Path(value).open("rb") as file:
            yield file
        return
    import numpy as np

    with tempfile.TemporaryFile(suffix=".npy") as file:
        np.save(file, value, allow_pickle=False)
        file.seek(0)
        yield file


def _slice_text(part: slice | None) -> str | None:
    if part is None:
        return None
    if part.step not in (None, 1):
        raise ValueError("slices have no step")
    start = "" if part.start is None else str(part.start)
    stop = "" if part.stop is None else str(part.stop)
    return f"{start}:{stop}"


def _pieces(
    shape: tuple[int, ...], chunk_shape: tuple[int, ...], itemsize: int
) -> Iterator[tuple[slice, slice | None]]:
    """Rectangles of whole chunks that cover the array, of about `_PIECE_BYTES` each.

    Whole chunks, because the service decodes a chunk to serve any part of it.
    """
    rest = itemsize
    for n in shape[2:]:
        rest *= n
    chunk_rows = chunk_shape[0]
    if len(shape) == 1:
        step = max(1, _PIECE_BYTES // (rest * chunk_rows)) * chunk_rows
        for start in range(0, shape[0], step):
            yield slice(start, min(start + step, shape[0])), None
        return
    rows_step = chunk_rows
    cols_chunk = chunk_shape[1]
    cols_step = max(1, _PIECE_BYTES // (rest * rows_step * cols_chunk)) * cols_chunk
    if cols_step >= shape[1]:
        rows_step *= max(1, _PIECE_BYTES // (rest * rows_step * shape[1]))
    for i in range(0, shape[0], rows_step):
        for j in range(0, shape[1], cols_step):
            yield (
                slice(i, min(i + rows_step, shape[0])),
                slice(j, min(j + cols_step, shape[1])),
            )
