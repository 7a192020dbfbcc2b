"""Multipart bodies straight to disk (RFC 7578).

Starlette's own parser spools files into the system's temporary folder, often a RAM disk, and
copies them from there; here each file part is written once, next to where it will be read.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.errors import InvalidRequestError, UnsupportedMediaTypeError
from storage.errors import GramianError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Network pieces are gathered to about this size before a thread parses and writes them.
_GATHER_BYTES = 1 << 20
_MAX_VALUE_BYTES = 1024


class MalformedBodyError(GramianError):
    """The multipart body breaks its own grammar or ends too early."""

    kind = "malformed-body"


@dataclass(frozen=True)
class ReceivedFile:
    """One file part on disk. `filename` is what the client called it: a label, never a path."""

    path: Path
    filename: str


@dataclass(frozen=True)
class ReceivedForm:
    """The parts of a body; only names that the caller allowed, each at most once."""

    files: dict[str, ReceivedFile] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def received_form(
    request: Request, scratch: Path, *, file_fields: frozenset[str], value_fields: frozenset[str]
) -> AsyncIterator[tuple[ReceivedForm, Path]]:
    """The multipart body of `request` and the private folder that holds its files.

    The folder is removed at the end, also when the client goes away. The size of the body is
    bounded by `middleware.BodyLimit`. Raises UnsupportedMediaTypeError, MalformedBodyError, or
    InvalidRequestError for parts that are not among the allowed fields.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    folder = scratch / secrets.token_hex(8)
    await run_in_threadpool(folder.mkdir, parents=True)
    try:
        parts = _Parts(folder, file_fields, value_fields)
        try:
            await _feed(request, boundary, parts)
        finally:
            parts.close()
        yield parts.form, folder
    finally:
        await run_in_threadpool(shutil.rmtree, folder, True)


async def _feed(request: Request, boundary: bytes, parts: _Parts) -> None:
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        gathered = bytearray()
        async for piece in request.stream():
            gathered += piece
            if len(gathered) >= _GATHER_BYTES:
                await run_in_threadpool(parser.write, bytes(gathered))
                gathered.clear()
        await run_in_threadpool(parser.write, bytes(gathered))
    except FormParserError as error:
        raise MalformedBodyError(
            "The multipart body is malformed.", advice="Let an HTTP library build it."
        ) from error
    if not parts.ended:
        raise MalformedBodyError(
            "The multipart body ends before its closing boundary.",
            advice="The upload was cut off; send it again.",
        )


def _boundary(content_type: str) -> bytes:
    essence, options = parse_options_header(content_type)
    if essence != b"multipart/form-data":
        raise UnsupportedMediaTypeError(
            f"This route takes multipart/form-data, not {content_type[:100] or 'an unnamed type'}.",
            advice="For example: curl -F x=@train.npy -F y=@labels.npy -F name=train ...",
        )
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise MalformedBodyError(
            "The Content-Type header names no boundary.", advice="Let an HTTP library build it."
        )
    return boundary


class _Parts:
    """Parser callbacks: writes file parts to disk and keeps the short value parts."""

    def __init__(
        self, folder: Path, file_fields: frozenset[str], value_fields: frozenset[str]
    ) -> None:
        self.form = ReceivedForm()
        self.ended = False
        self._folder = folder
        self._file_fields = file_fields
        self._value_fields = value_fields
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._file: BinaryIO | None = None
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda d, s, e: self._header_name.extend(d[s:e]),
            "on_header_value": lambda d, s, e: self._header_value.extend(d[s:e]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name in self.form.files or self._name in self.form.values:
            raise InvalidRequestError(
                f"The part {self._name!r} occurs twice.", advice="Send each part once."
            )
        if self._name in self._file_fields:
            path = self._folder / f"{self._name}.bin"
            filename = options.get(b"filename", b"").decode("utf-8", "replace")
            self._file = path.open("xb")
            self.form.files[self._name] = ReceivedFile(path, filename)
        elif self._name in self._value_fields:
            self._value.clear()
        else:
            allowed = ", ".join(sorted(self._file_fields | self._value_fields))
            raise InvalidRequestError(
                f"There is no part {self._name[:64]!r} here.", advice=f"Possible parts: {allowed}."
            )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_VALUE_BYTES:
            raise InvalidRequestError(
                f"The part {self._name!r} is longer than {_MAX_VALUE_BYTES} bytes.",
                advice="Only x and y carry data.",
            )

    def _on_part_end(self) -> None:
        if self._file is not None:
            self.close()
            return
        try:
            self.form.values[self._name] = self._value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"The part {self._name!r} is not UTF-8 text.", advice="Encode it as UTF-8."
            ) from error

    def _on_end(self) -> None:
        self.ended = True


def sweep(scratch: Path, *, untouched_seconds: float = 0.0) -> None:
    """Remove what uploads left behind when an earlier process died. Only before serving.

    `untouched_seconds`: keep what was written to since; it may be the upload of another service.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    for folder in scratch.iterdir():
        if not untouched_seconds or _newest(folder) < time.time() - untouched_seconds:
            shutil.rmtree(folder, ignore_errors=True)


def _newest(folder: Path) -> float:
    """When something in `folder` was last written to; now, if it vanishes meanwhile."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return time.time()
