"""Blobs in an S3-compatible object store, through obstore (the extra `s3`).

What `BlobStore` promises holds because S3 promises it: an object appears whole or not at all, a
request that begins after a PUT has returned sees it, and `If-None-Match: *` lets one of several
writers win. Servers that ignore that header exist: `check` finds them out, before any work.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from storage.blobs import split_key
from storage.errors import (
    MissingExtraError,
    NotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
)
from storage.s3_location import S3Location, parse_s3_url

if TYPE_CHECKING:
    from obstore.store import S3Store

_PAGE_OBJECTS = 1000  # of one LIST or DELETE request: the most that S3 takes
_CONNECT_SECONDS = 5.0
# What S3 answers to a range that begins at the end, or to any of an empty object.
_BEYOND_THE_END = ("416 Range Not Satisfiable", "non-partial response")
_MOST_RETRIES = 1000  # never what ends the attempts: `retry_seconds` does
# `check` has somebody waiting for it.
_CHECK_SECONDS = 5.0
_CHECK_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class ObjectBlobs:
    """Blobs as objects of a bucket, their keys behind the prefix of the location."""

    location: S3Location

    @property
    def url(self) -> str:
        return self.location.url

    def get(self, key: str, *, start: int | None = None, stop: int | None = None) -> bytes:
        if start is None and stop is None:
            with self._reported(key):
                return bytes(self._objects(key).get(key).bytes())
        first = start or 0
        if stop is not None and stop <= first:
            self._stored_size(key)
            return b""
        part = {"offset": first} if stop is None else (first, stop)
        return self._part(key, part, first)[1]

    def get_into(
        self, key: str, buffer: memoryview, seen: Callable[[memoryview], None] | None = None
    ) -> int:
        with self._reported(key):
            found = self._objects(key).get(key)
            size = int(found.meta["size"])
            whole = size <= len(buffer)
            if whole:
                buffer[:size] = memoryview(found.bytes())
        if not whole:
            buffer[:] = self.get(key, start=0, stop=len(buffer))
        if seen is not None:
            seen(buffer[:size])
        return size

    def tail(self, key: str, count: int) -> tuple[int, bytes]:
        return self._part(key, {"suffix": count}, 0)

    def size(self, key: str) -> int | None:
        try:
            return self._stored_size(key)
        except NotFoundError:
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        with self._reported(key, writing=True):
            # One request: parts of an upload that was cut off would stay, unseen and paid for.
            self._objects(key).put(key, memoryview(data).cast("B"), use_multipart=False)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with self._reported(key, writing=True):
            try:
                self._objects(key).put(key, memoryview(data).cast("B"), mode="create")
            except AlreadyExistsError:
                return False
        return True

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFoundError), self._reported(key):
            self._objects(key).delete(key)

    def delete_prefix(self, prefix: str) -> None:
        with self._reported(prefix):
            # The listing is read to its end first: whether a page of it that is asked for while
            # its objects vanish leaves some out is up to the server.
            keys = list(self.list(prefix))
            for first in range(0, len(keys), _PAGE_OBJECTS):
                self._objects(prefix).delete(keys[first : first + _PAGE_OBJECTS])

    def list(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self.scan(prefix))

    def scan(self, prefix: str) -> Iterator[tuple[str, int]]:
        return ((found["path"], int(found["size"])) for found in self._listed(prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        with self._reported(prefix):
            found = self._objects(prefix).list_with_delimiter(prefix)["common_prefixes"]
        return (path.rpartition("/")[2] for path in found)

    def newest(self, prefix: str) -> float:
        moments = (found["last_modified"].timestamp() for found in self._listed(prefix))
        return max(moments, default=0.0)

    def path(self, key: str) -> None:
        split_key(key)

    def free_bytes(self) -> None:
        """Nobody knows."""

    def sweep_temporary(self, older_than_seconds: float, prefix: str | None = None) -> int:
        return 0  # a PUT that was cut off leaves nothing

    def check(self) -> None:
        impatient = ObjectBlobs(
            replace(
                self.location,
                timeout_seconds=min(self.location.timeout_seconds, _CHECK_SECONDS),
                retry_seconds=min(self.location.retry_seconds, _CHECK_RETRY_SECONDS),
            )
        )
        folder = f"probes/{secrets.token_hex(8)}"
        key = f"{folder}/probe"
        first = impatient.put_if_absent(key, b"probe")
        try:
            second = impatient.put_if_absent(key, b"other")
            seen = (impatient.get(key, start=1, stop=4), list(impatient.list(folder)))
        finally:
            impatient.delete(key)
        if not first or second:
            raise StoreRefusedError(
                f"{self.location} ignores If-None-Match, by which one of two writers wins.",
                advice="Use a server that honours conditional writes, as Amazon S3 does.",
            )
        if seen != (b"rob", [key]):
            raise StoreRefusedError(
                f"{self.location} does not give back what was just stored there.",
                advice="Use a server that honours ranges and lists an object once it is stored.",
            )

    def _objects(self, key: str) -> S3Store:
        """The bucket, for a key that may be used."""
        split_key(key)
        return _bucket(self.location)

    def _listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        with self._reported(prefix):
            for page in self._objects(prefix).list(prefix, chunk_size=_PAGE_OBJECTS):
                for found in page:
                    if "/." not in found["path"]:  # not ours: no key has such a part
                        yield dict(found)

    def _stored_size(self, key: str) -> int:
        with self._reported(key):
            return int(self._objects(key).head(key)["size"])

    def _part(self, key: str, part: Any, first: int) -> tuple[int, bytes]:
        """Size of a blob and some of its bytes, from `first` on."""
        from obstore.exceptions import GenericError

        with self._reported(key):
            try:
                found = self._objects(key).get(key, options={"range": part})
                return int(found.meta["size"]), bytes(found.bytes())
            except GenericError as error:
                if not any(sign in str(error) for sign in _BEYOND_THE_END):
                    raise
                size = self._objects(key).head(key)["size"]
                if size > first:
                    raise
                return int(size), b""

    @contextmanager
    def _reported(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """What obstore raises, in our words."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (FileNotFoundError, BaseError) as error:
            denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
            if denied or "AccessDenied" in str(error):  # of one object of a bulk request
                raise StoreRefusedError(
                    f"{self.location} denies access: {_reason(error)}.",
                    advice="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on the service and on"
                    " all workers, to keys that may list, read, write and delete objects of this"
                    " bucket.",
                ) from error
            if "NoSuchBucket" in str(error) or (writing and isinstance(error, FileNotFoundError)):
                raise StoreRefusedError(
                    f"There is no bucket {self.location.bucket!r}"
                    f" at {self.location.endpoint or 'Amazon S3'}.",
                    advice="Create it, or correct the URL of the store.",
                ) from error
            if isinstance(error, FileNotFoundError):
                raise NotFoundError(f"There is no stored object {key!r}.") from None
            raise StoreUnavailableError(
                f"{self.location} does not answer as it should: {_reason(error)}.",
                advice="Look whether it runs and can be reached from here: endpoint, region,"
                " network, certificates.",
            ) from error


def open_object_blobs(url: str) -> ObjectBlobs:
    """See `storage.blobs.open_blobs`. What the URL leaves open comes from the environment now."""
    location = parse_s3_url(url, os.environ)
    try:
        import obstore  # noqa: F401 - only asks whether it is there
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "Stores at s3:// need the package obstore, which is not installed.",
            advice="Install the extra, on the service and on all workers:"
            " pip install 'gramian[s3]'.",
        ) from error
    return ObjectBlobs(location)


# One per location and process: it holds the connections, and stores are opened for every task.
@lru_cache(maxsize=16)
def _bucket(location: S3Location) -> S3Store:
    from obstore.store import S3Store

    # Under both of its names: the environment of a worker must not send its keys elsewhere.
    names = () if location.endpoint is None else ("endpoint", "aws_endpoint_url_s3")
    endpoint: dict[str, Any] = dict.fromkeys(names, location.endpoint)
    return S3Store(
        location.bucket,
        prefix=location.prefix or None,
        region=location.region,
        **endpoint,
        client_options={
            # Who writes http:// means it.
            "allow_http": (location.endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "timeout": timedelta(seconds=location.timeout_seconds),
        },
        retry_config={
            "max_retries": _MOST_RETRIES,
            "retry_timeout": timedelta(seconds=location.retry_seconds),
        },
    )


def _reason(error: Exception) -> str:
    """The first line of what obstore says; pages of its own types follow."""
    return str(error).partition("\n")[0].removesuffix(".")[:300]
