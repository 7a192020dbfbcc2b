"""Handles: jobs that were asked for, and what becomes of them, as values to work with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from service.client.arrays import read_array
from service.client.models import Dataset, Job, Json, Matrix
from storage.errors import GramianError

if TYPE_CHECKING:
    import numpy as np
    import zarr
    from numpy.typing import NDArray

    from service.client.client import Client


class NoResultError(GramianError):
    """The job makes no such matrix or array."""

    kind = "no-result"


class JobHandle:
    """One job and its result. Everything that needs the result waits for it.

    Nothing is kept but the job's last known state: matrices stay with the service, and two handles
    of one job are the same to it. Raises ApiError (job-failed) where a job failed or was cancelled.
    """

    # Which array `numpy` and `array` mean when none is named: the first of these that is there.
    main_arrays: ClassVar[tuple[str, ...]] = ()

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def job(self) -> Job:
        """The job as it is now; asks the service until it has ended."""
        if not self._job.ended:
            self._job = self._client.job(self._job.id)
        return self._job

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed or cancelled."""
        return self.job.state

    @property
    def task(self) -> Json:
        """What was asked for."""
        return dict(self._job.document["task"])

    def wait(
        self, *, timeout_seconds: float | None = None, show_progress: bool | None = None
    ) -> Self:
        """Returns once the job has succeeded.

        `show_progress`: a live bar, in a terminal or a notebook; None: if there is one. Stopping
        the wait (Ctrl-C) leaves the job running. Raises ApiError (job-failed) and WaitTimeoutError.
        """
        from service.client.progress import job_bar

        if not self.job.ended:
            with job_bar(f"{self._job.type} {self.id[:12]}", show=show_progress) as update:
                self._job = self._client.wait(
                    self.id,
                    timeout_seconds=timeout_seconds,
                    on_event=lambda event: update(event.type, event.data),
                )
        if self._job.state != "succeeded":
            self._client.result(self.id)  # raises, with the reason
        return self

    def cancel(self) -> Self:
        """Ask the job to stop; its state becomes `cancelled` when the last running tile ended."""
        self._job = self._client.cancel(self.id)
        return self

    @property
    def result(self) -> Json:
        """The summary of the finished job: numbers that depend on the task."""
        return dict(self.wait()._client.result(self.id)["summary"])

    @property
    def matrix(self) -> Matrix:
        """The stored matrix: its arrays with shapes and types, its digest, its provenance.

        Raises NoResultError for tasks that store none.
        """
        matrix_id = self.wait()._job.matrix
        if matrix_id is None:
            raise NoResultError(
                f"A {self._job.type} job stores no matrix.", advice="Read its `result`."
            )
        return self._client.matrix(matrix_id)

    @property
    def array(self) -> zarr.Array[Any]:
        """The main array as a Zarr array that reads from the service, piece by piece.

        Needs the extra `gramian[http]`. Use `numpy` to have it in memory.
        """
        return self._client.open_zarr(self.matrix.id, self._name(self.matrix.arrays, None))

    def numpy(self, array: str | None = None) -> NDArray[np.floating]:
        """A whole stored array in memory; by default the main one. Raises NoResultError."""
        matrix = self.matrix
        name = self._name(matrix.arrays, array)
        return read_array(
            matrix.arrays[name],
            lambda rows, cols: self._client.slice(matrix.id, rows=rows, cols=cols, array=name),
        )

    def _name(self, arrays: Mapping[str, Json], wanted: str | None) -> str:
        if wanted is None:
            wanted = next((name for name in self.main_arrays if name in arrays), None)
            if wanted is None and len(arrays) == 1:
                return next(iter(arrays))
        if wanted is None or wanted not in arrays:
            raise NoResultError(
                f"{'Several arrays are there' if wanted is None else f'No array {wanted!r}'}.",
                advice=f"Name one of {', '.join(arrays)}.",
            )
        return wanted

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._job.type} {self._job.state}>"

    def _repr_html_(self) -> str:
        from service.client.html import job_html

        return job_html(self.job, self._stored())

    def _stored(self) -> Matrix | None:
        """The matrix of a job that has succeeded; asks the service, never waits."""
        job = self.job
        return self._client.matrix(job.matrix) if job.state == "succeeded" and job.matrix else None


class GramHandle(JobHandle):
    """A Gram matrix, being computed or stored."""

    main_arrays = ("ntk", "nngp")

    def cross(self, x: Any, *, y: Any | None = None, **options: Any) -> GramHandle:
        """The kernel of new samples `x` (rows) with those of this matrix (columns).

        Kept like every Gram matrix: for predictions that are wanted once, `SolveHandle.predict`
        stores nothing but the predictions. Raises NoResultError unless this was made by `gram`.
        """
        task = self.task
        if task["type"] != "gram":
            raise NoResultError(
                f"A {task['type']} matrix is not the kernel of two data sets.",
                advice="Make a Gram matrix with `Client.gram`.",
            )
        options = {"outputs": task["outputs"], "dtype": task["dtype"], **options}
        return self._client.gram(x, task["x1"], kernel=task["kernel"], y=y, **options)

    def solve(self, **options: Any) -> SolveHandle:
        """Kernel ridge regression on the targets of this matrix; see `Client.solve`."""
        return self._client.solve(self, **options)


class SolveHandle(JobHandle):
    """Kernel ridge regression: dual coefficients, and predictions from them."""

    main_arrays = ("dual",)

    @property
    def coefficients(self) -> NDArray[np.floating]:
        """The dual coefficients (m, k): a prediction is K(x, X) times these."""
        return self.numpy("dual")

    def predict(self, x: Any, *, y: Any | None = None, **options: Any) -> JobHandle:
        """Predictions (n, k) for new samples, with their score if `y` is given; nothing else is
        stored. `numpy()` of the handle has them, `result` the score."""
        return self._client.predict(self, x, y=y, **options)


MatrixLike = str | Matrix | Job | JobHandle
"""What names a stored matrix: its id, or what has made it."""

SamplesLike = Any
"""Samples: an array of any library, a `.npy` or `.npz` file, a Dataset, or its id."""


def named(task: Mapping[str, Any]) -> Json:
    """A task with ids in place of handles, jobs, matrices and data sets.

    Handles are waited for. Raises NoResultError for a job without a matrix.
    """
    return {name: _named(value) for name, value in task.items()}


def _named(value: Any) -> Any:
    if isinstance(value, JobHandle):
        return value.matrix.id
    if isinstance(value, Matrix | Dataset):
        return value.id
    if isinstance(value, Job):
        if value.matrix is None:
            raise NoResultError(f"Job {value.id} has made no matrix.", advice="Wait until it has.")
        return value.matrix
    return value


def dataset_id(value: object) -> str | None:
    """The id of a data set that is named by itself or its id; None for samples."""
    from service.client.samples import is_dataset_id

    if isinstance(value, Dataset):
        return value.id
    return str(value) if is_dataset_id(value) else None
