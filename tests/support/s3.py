"""A server that speaks S3, on loopback, for tests: moto, which keeps objects in memory."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import pytest

from support.server import free_port

# moto takes any.
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "nothing-secret"}


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{next(self._numbers)}"
        httpx2.put(f"{self.endpoint}/{name}").raise_for_status()
        return name

    def url(self, bucket: str, prefix: str = "kept/here", **options: object) -> str:
        """The URL of a store in a bucket that gives up soon."""
        query = {"endpoint": self.endpoint, "retry_seconds": 1, **options}
        return f"s3://{bucket}/{prefix}?" + "&".join(f"{k}={v}" for k, v in query.items())

    def store_url(self) -> str:
        """The URL of a new, empty store."""
        return self.url(self.bucket())

    def deny_everything(self, bucket: str) -> None:
        """A bucket policy that lets nobody do anything with its objects."""
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        answer = httpx2.put(f"{self.endpoint}/{bucket}?policy", content=policy.encode())
        answer.raise_for_status()

    def allow_again(self, bucket: str) -> None:
        """The opposite of `deny_everything`."""
        httpx2.delete(f"{self.endpoint}/{bucket}?policy").raise_for_status()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with no buckets; while it runs, this process and its children have keys to it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = S3Server(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 60
        while not _answers(server.endpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the S3 server of the tests did not start")
            time.sleep(0.05)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in KEYS.items():
                patch.setenv(name, value)
            yield server
    finally:
        process.terminate()
        process.wait(30)


def _answers(endpoint: str) -> bool:
    try:
        return httpx2.get(endpoint, timeout=5.0).status_code == 200
    except httpx2.TransportError:
        return False
