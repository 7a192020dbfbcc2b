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

from service.client.client import Client
from service.client.errors import ApiError, ServiceUnreachableError, WaitTimeoutError
from service.client.models import TERMINAL_STATES, Answer, Dataset, Event, Job, Matrix

__all__ = [
    "TERMINAL_STATES",
    "Answer",
    "ApiError",
    "Client",
    "Dataset",
    "Event",
    "Job",
    "Matrix",
    "ServiceUnreachableError",
    "WaitTimeoutError",
]
