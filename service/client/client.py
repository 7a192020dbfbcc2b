"""The calls of the REST API as methods."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2

from service.client.arrays import as_file, pieces, read_array, slice_text
from service.client.errors import (
    ApiError,
    ServiceUnreachableError,
    WaitTimeoutError,
)
from service.client.handles import JobHandle, SamplesLike
from service.client.models import Answer, Dataset, Event, Job, Json, Matrix
from service.client.people import People
from service.client.pictures import Pictures
from service.client.tasks import H, Tasks
from service.client.transport import Transport
from service.client.watch import follow
from storage.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    import zarr
    from numpy.typing import NDArray

_NPY = "application/x-npy"


class Client(People, Pictures, Tasks):
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
        self._transport = Transport(base_url, api_key, timeout_seconds, http)
        self._reconnect_seconds = reconnect_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: a connection is shared. scikit-learn copies the parameters of estimators."""
        return self

    def close(self) -> None:
        self._transport.close()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    # --- the service ----------------------------------------------------------------------------

    def about(self) -> Json:
        """Version and links."""
        return self._transport.json("GET", "/v1")

    def ready(self) -> Json:
        """The readiness checks; `["ready"]` says whether all of them pass."""
        response = self._transport.send("GET", "/readyz", accept_status=(503,))
        return dict(response.json())

    def kernels(self) -> Json:
        """The kernel language: ops, activations and presets with their JSON schemas."""
        return self._transport.json("GET", "/v1/kernels")

    # --- data sets ------------------------------------------------------------------------------

    def upload(
        self,
        x: SamplesLike,
        y: SamplesLike | None = None,
        name: str | None = None,
    ) -> Dataset:
        """Store samples x (m, ...) and targets y (m,) or (m, k).

        Arrays of any library, or paths of `.npy` files (`.npz` with x and y for `x`). Streamed
        from disk, so memory-mapped arrays larger than memory work. Raises InvalidArrayError before
        anything is sent, ApiError, ServiceUnreachableError.
        """
        from service.client.samples import checked_samples

        x, y = checked_samples(x, y)
        with ExitStack() as stack:
            parts = {"x": x} if y is None else {"x": x, "y": y}
            files = {
                field_name: (f"{field_name}.npy", stack.enter_context(as_file(value)))
                for field_name, value in parts.items()
            }
            data = {} if name is None else {"name": name}
            response = self._transport.send("POST", "/v1/datasets", files=files, data=data)
        return Dataset.of(response.json())

    def dataset(self, dataset_id: str) -> Dataset:
        return Dataset.of(self._transport.json("GET", f"/v1/datasets/{dataset_id}"))

    def datasets(self) -> Iterator[Dataset]:
        """All data sets, newest first."""
        return (Dataset.of(item) for item in self._transport.pages("/v1/datasets"))

    def delete_dataset(self, dataset_id: str) -> None:
        self._transport.send("DELETE", f"/v1/datasets/{dataset_id}")

    # --- jobs -----------------------------------------------------------------------------------

    def submit(self, task: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Ask for `task` (see the examples of POST /v1/jobs in the API documentation).

        The same request gives the same job while its result exists. Without a key of the caller's
        a random one protects against the connection breaking after the service has accepted.
        """
        key = idempotency_key or uuid.uuid4().hex
        headers = {"Idempotency-Key": key}
        body = {"task": dict(task)}
        try:
            return Job.of(self._transport.json("POST", "/v1/jobs", json=body, headers=headers))
        except ServiceUnreachableError as error:
            if not isinstance(error.__cause__, httpx2.ReadError | httpx2.RemoteProtocolError):
                raise
            return Job.of(self._transport.json("POST", "/v1/jobs", json=body, headers=headers))

    def start(self, task: Mapping[str, Any], handle: type[H]) -> H:
        """`submit`, with a handle of the given type for the job."""
        return handle(self, self.submit(task))

    def answer(self, job: Job | JobHandle | str, *, timeout_seconds: float | None = None) -> Answer:
        """Wait for a job and get its summary and all its arrays, in memory.

        For results of tasks over Gram matrices; use `fetch` or `slice` for the matrices
        themselves. Raises ApiError (job-failed) when it failed or was cancelled, and
        WaitTimeoutError.
        """
        name = job if isinstance(job, str) else job.id
        self.wait(name, timeout_seconds=timeout_seconds)
        result = self.result(name)
        found = {} if result["matrix"] is None else self.matrix(result["matrix"]).arrays
        arrays = {
            array: read_array(
                info,
                lambda rows, cols, array=array: self.slice(  # type: ignore[misc]
                    result["matrix"], rows=rows, cols=cols, array=array
                ),
            )
            for array, info in found.items()
        }
        return Answer(result["summary"], arrays)

    def estimate(self, task: Mapping[str, Any]) -> Json:
        """What `task` would cost, and whether it would be accepted now."""
        return self._transport.json("POST", "/v1/estimates", json={"task": dict(task)})

    def job(self, job_id: str) -> Job:
        return Job.of(self._transport.json("GET", f"/v1/jobs/{job_id}"))

    def jobs(
        self, state: str | None = None, *, matrix: str | None = None, task_type: str | None = None
    ) -> Iterator[Job]:
        """All jobs, newest first; `matrix`: only those that read or build it."""
        asked = {"state": state, "matrix": matrix, "type": task_type}
        parameters = {name: value for name, value in asked.items() if value is not None}
        return (Job.of(item) for item in self._transport.pages("/v1/jobs", parameters))

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; `wait` tells when it has."""
        return Job.of(self._transport.json("DELETE", f"/v1/jobs/{job_id}"))

    def result(self, job_id: str) -> Json:
        """Summary and links of a job that succeeded. Raises ApiError (not-ready, job-failed)."""
        return self._transport.json("GET", f"/v1/jobs/{job_id}/result")

    def tiles(self, job_id: str, *, cells: int = 64) -> Json:
        """Which tiles of a job's matrix are done, on a grid of at most `cells` by `cells`."""
        return self._transport.json("GET", f"/v1/jobs/{job_id}/tiles", params={"cells": cells})

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
        """The job once it has ended, however it ended.

        Raises WaitTimeoutError, at most one heartbeat of the service (15 s) after the time is up.
        """
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
        return Matrix.of(self._transport.json("GET", f"/v1/matrices/{matrix_id}"))

    def matrices(self) -> Iterator[Matrix]:
        """All matrices, newest first, complete or not."""
        return (Matrix.of(item) for item in self._transport.pages("/v1/matrices"))

    def delete_matrix(self, matrix_id: str) -> None:
        self._transport.send("DELETE", f"/v1/matrices/{matrix_id}")

    def zarr_url(self, matrix_id: str) -> str:
        """What `zarr.open`, `xarray.open_zarr` and `dask.array.from_zarr` take."""
        return f"{self.base_url}/v1/matrices/{matrix_id}/zarr"

    def open_zarr(self, matrix_id: str, array: str) -> zarr.Array[Any]:
        """One array of a stored matrix over HTTP, with the key of this client.

        Chunks are fetched when they are read. Needs the extra `gramian[http]`; raises
        MissingExtraError without it.
        """
        import zarr

        try:
            return zarr.open_array(
                f"{self.zarr_url(matrix_id)}/{array}",
                mode="r",
                storage_options={"headers": self._transport.headers},
            )
        except ImportError as error:
            raise MissingExtraError(
                "Reading Zarr over HTTP needs fsspec and aiohttp.",
                advice="pip install 'gramian[http]', or use `numpy()`.",
            ) from error

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

        parameters = {"rows": slice_text(rows), "cols": slice_text(cols), "array": array}
        response = self._transport.send(
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
            for rows, cols in pieces(shape, tuple(info["chunk_shape"]), dtype.itemsize):
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

    def pixel_tensor(self, matrix_id: str, *, array: str | None = None) -> NDArray[np.floating]:
        """The result of `pixel_gram` as (P, Q, P, Q), in memory.

        `array`: ntk or nngp, where there are both. Raises ApiError, also for other matrices.
        """
        import numpy as np

        shape = self.matrix(matrix_id).document["provenance"].get("pixel_shape")
        if shape is None:
            raise ApiError(
                422,
                {
                    "kind": "invalid-request",
                    "detail": f"The rows of {matrix_id} are not pixels.",
                    "advice": "Name a matrix that a pixel_gram job has made.",
                },
            )
        with tempfile.TemporaryDirectory() as folder:
            path = self.fetch(matrix_id, Path(folder) / "pixels.npy", array=array)
            values: NDArray[np.floating] = np.load(path)
        return values.reshape(*shape, *shape)

    def _follow(self, job_id: str, after: int, deadline: float | None) -> Iterator[Event | None]:
        return follow(
            self._transport,
            job_id,
            after=after,
            deadline=deadline,
            reconnect_seconds=self._reconnect_seconds,
        )
