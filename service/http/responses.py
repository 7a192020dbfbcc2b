"""The response that carries a stored object: whole, partial, or only its headers."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import problem, problem_response
from service.http.byte_ranges import (
    ByteRange,
    UnsatisfiableRangeError,
    matches_etag,
    parse_range,
    range_applies,
)
from storage.blobs import BlobStore
from storage.errors import MissingChunkError
from storage.reader import StoredObject

# Of SVG pictures: they have a style of their own and nothing else; opened by themselves they must
# not be able to more.
NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

# Small pieces spend the time in thread switches: 64 KiB pieces serve a 4 MiB tile at 0.2 GB/s,
# 4 MiB pieces at 0.5 GB/s.
_PIECE_BYTES = 4 << 20


class StoredObjectResponse(Response):
    """GET or HEAD of a `StoredObject`, with ETag, conditional requests and single ranges.

    Files and remote blobs are streamed in bounded pieces; objects that were built in memory
    (mirrored chunks, documents) are sent from there.
    """

    def __init__(self, blobs: BlobStore, stored: StoredObject) -> None:
        self._blobs = blobs
        self._stored = stored
        self._etag = stored.etag
        self.status_code = 200
        self.background = None
        self.body = b""
        self.media_type = stored.media_type
        # Sealed matrices never change, so neither do their bytes (design invariant 5).
        cache = "private, max-age=31536000, immutable" if stored.immutable else "no-cache"
        self.init_headers(
            {
                "etag": self._etag,
                "accept-ranges": "bytes",
                "cache-control": cache,
                "content-length": str(stored.size),
                "x-content-type-options": "nosniff",
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        size = self._stored.size
        if matches_etag(headers.get("if-none-match"), self._etag):
            await self._start(send, 304, drop=("content-length", "content-type"))
            await send({"type": "http.response.body", "body": b""})
            return
        applies = range_applies(headers.get("if-range"), self._etag)
        wanted = headers.get("range") if applies else None
        try:
            part = parse_range(wanted, size)
        except UnsatisfiableRangeError:
            document = problem(
                "range-not-satisfiable",
                f"The range {wanted!r} names no byte of this object of {size} bytes.",
                advice="Ask for bytes inside the object, or a suffix such as 'bytes=-4'.",
                instance=scope["path"],
            )
            response = problem_response(document, {"Content-Range": f"bytes */{size}"})
            await response(scope, receive, send)
            return
        sent = part or ByteRange(0, size)
        if scope["method"] == "HEAD":
            # RFC 9110 section 14.2: Range has a meaning for GET only.
            await self._start(send, 200)
            await send({"type": "http.response.body", "body": b""})
        elif self._stored.data is not None:
            await self._start_part(send, part)
            body = memoryview(self._stored.data)[sent.start : sent.stop]
            await send({"type": "http.response.body", "body": bytes(body)})
        elif self._stored.path is not None:
            await self._send_file(send, self._stored.path, part, sent)
        else:
            await self._send_blob(send, part, sent)

    async def _send_file(
        self, send: Send, path: Path, part: ByteRange | None, sent: ByteRange
    ) -> None:
        # Opened before the status line goes out, so that a lost file is an error and not an
        # empty 200.
        try:
            file: BinaryIO = await run_in_threadpool(path.open, "rb")
        except FileNotFoundError as error:
            raise MissingChunkError(
                "A stored object vanished while it was being read.",
                advice="Was the matrix deleted? If not, recompute it.",
            ) from error
        with file:
            await self._start_part(send, part)
            position = sent.start
            while position < sent.stop:
                count = min(_PIECE_BYTES, sent.stop - position)
                piece = await run_in_threadpool(_read_at, file, position, count)
                if len(piece) != count:
                    # The headers are out; breaking the connection is the only honest signal.
                    raise MissingChunkError(f"{path.name} is shorter than its recorded size.")
                position += count
                more = position < sent.stop
                await send({"type": "http.response.body", "body": piece, "more_body": more})
            if sent.start == sent.stop:
                await send({"type": "http.response.body", "body": b""})

    async def _send_blob(self, send: Send, part: ByteRange | None, sent: ByteRange) -> None:
        started = False
        for start in range(sent.start, sent.stop, _PIECE_BYTES):
            stop = min(start + _PIECE_BYTES, sent.stop)
            piece = await run_in_threadpool(
                self._blobs.get, self._stored.key, start=start, stop=stop
            )
            if len(piece) != stop - start:
                raise MissingChunkError(f"{self._stored.key} is shorter than its recorded size.")
            if not started:  # after the first read, so that a lost blob is an error status
                await self._start_part(send, part)
                started = True
            more = stop < sent.stop
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    async def _start_part(self, send: Send, part: ByteRange | None) -> None:
        if part is None:
            await self._start(send, 200)
            return
        self.headers["content-range"] = part.content_range(self._stored.size)
        self.headers["content-length"] = str(part.stop - part.start)
        await self._start(send, 206)

    async def _start(self, send: Send, status: int, *, drop: tuple[str, ...] = ()) -> None:
        for name in drop:
            if name in self.headers:
                del self.headers[name]
        self.status_code = status
        await send({"type": "http.response.start", "status": status, "headers": self.raw_headers})


def _read_at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
