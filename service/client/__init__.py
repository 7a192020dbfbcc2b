"""The Python client: everything the REST API does, as plain calls.

    from service.client import Client

    with Client("http://127.0.0.1:8000") as client:
        gram = client.gram(x, y=y, kernel={"preset": "fc", "depth": 3})
        solve = gram.solve(ridge=1e-3)
        print(solve.result, solve.predict(x_new).numpy())

Calls that start work return handles at once; whatever needs a result waits for it.
NumPy is imported only by the calls that move arrays, so command-line tools start fast.
"""

from __future__ import annotations

from service.client.client import Client
from service.client.errors import (
    ApiError,
    ServiceUnreachableError,
    WaitTimeoutError,
)
from service.client.handles import GramHandle, JobHandle, NoResultError, SolveHandle
from service.client.models import TERMINAL_STATES, Answer, Dataset, Event, Job, Matrix

__all__ = [
    "TERMINAL_STATES",
    "Answer",
    "ApiError",
    "Client",
    "Dataset",
    "Event",
    "GramHandle",
    "Job",
    "JobHandle",
    "Matrix",
    "NoResultError",
    "ServiceUnreachableError",
    "SolveHandle",
    "WaitTimeoutError",
]
