"""Data sets: content-addressed samples and targets, cut into chunks of rows.

A stored data set is `datasets/<id>/`: a Zarr v3 group with the array `samples` (m, ...) and, if
there are targets, `targets` (m,) or (m, k), chunked over rows with crc32c; and `dataset.json`,
written last, which publishes it. The id comes from the SHA-256 of the canonical content: a JSON
header (dtype, shape, targets' dtype and shape), a newline, the samples in C order little-endian,
the targets likewise. Uploading the same numbers again finds the same data set.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from storage.blobs import BlobStore
from storage.chunks import decode_values, encode_values
from storage.digest import canonical_json
from storage.documents import ArrayDocument, dimension_names, group_documents
from storage.errors import (
    ConflictError,
    InvalidArrayError,
    MissingChunkError,
    NotFoundError,
    TooLargeError,
    UnsupportedFormatError,
)
from storage.format import FORMAT_VERSION, DType
from storage.keys import check_dataset_id, chunk_key, dataset_id
from storage.uploads import UploadLimits

FOLDER = "datasets"
DOCUMENT = "dataset.json"
CHUNK_BYTES = 8 << 20  # most bytes of one chunk of rows, unless a single row is larger
_MAX_EXACT_INTEGER = 1 << 53

TargetKind = Literal["labels", "real"]


@dataclass(frozen=True)
class TargetsInfo:
    """`labels`: int64 (m,). `real`: float64 (m,) or (m, k), shape kept as given."""

    kind: TargetKind
    shape: tuple[int, ...]
    rows_per_chunk: int

    @property
    def dtype(self) -> str:
        return "int64" if self.kind == "labels" else "float64"


@dataclass(frozen=True)
class DatasetInfo:
    """Everything about a data set except its numbers."""

    id: str
    digest: str  # SHA-256 of the canonical content, 64 hex digits
    shape: tuple[int, ...]  # (m, ...)
    dtype: DType
    targets: TargetsInfo | None
    rows_per_chunk: int
    stored_bytes: int
    created_at: str | None = None  # ISO 8601, UTC
    format_version: int = FORMAT_VERSION

    @property
    def samples(self) -> int:
        """Number of samples m."""
        return self.shape[0]

    @property
    def features(self) -> int:
        """Numbers per sample."""
        return math.prod(self.shape[1:])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> DatasetInfo:
        """Inverse of `to_json`. Raises UnsupportedFormatError for other format versions."""
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            raise UnsupportedFormatError(
                f"This data set has format version {version!r}; this library reads "
                f"{FORMAT_VERSION}.",
                advice="Upload it again, or use the Gramian version that stored it.",
            )
        targets = document["targets"]
        return cls(
            id=document["id"],
            digest=document["digest"],
            shape=tuple(document["shape"]),
            dtype=document["dtype"],
            targets=targets
            and TargetsInfo(targets["kind"], tuple(targets["shape"]), targets["rows_per_chunk"]),
            rows_per_chunk=document["rows_per_chunk"],
            stored_bytes=document["stored_bytes"],
            created_at=document["created_at"],
        )


@dataclass(frozen=True)
class _Part:
    """`samples` or `targets` on the way in."""

    name: str
    source: npt.NDArray[np.generic]
    dtype: np.dtype[Any]
    rows_per_chunk: int

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return (self.rows_per_chunk, *self.source.shape[1:])

    def chunks(self) -> Iterator[npt.NDArray[np.generic]]:
        """Canonical rows, one stored chunk at a time. Raises InvalidArrayError if not finite."""
        for start in range(0, len(self.source), self.rows_per_chunk):
            rows = self.source[start : start + self.rows_per_chunk]
            if rows.dtype.kind in "iu" and rows.dtype.itemsize == 8:
                _check_exact(rows, self.dtype, self.name)
            values = np.ascontiguousarray(rows, dtype=self.dtype)
            if values.dtype.kind == "f":
                _check_finite(values, self.name, start)
            yield values


def ingest(
    blobs: BlobStore,
    x: npt.NDArray[np.generic],
    y: npt.NDArray[np.generic] | None = None,
    *,
    limits: UploadLimits | None = None,
) -> DatasetInfo:
    """Store samples `x` (m, ...) with optional targets `y`; the data set that has this content.

    x: bool, integers or floats with at least two dimensions; stored as float32 (from bool, 8- and
    16-bit integers, float16, float32) or float64. y: integers (m,) are labels; floats (m,) or
    (m, k), and integers (m, k), are real targets. Reads the input twice, once to hash and check it
    and once to store it, and holds one chunk of rows (CHUNK_BYTES) in its different forms. Nothing
    is visible before everything is stored; content that is there already is not stored again.
    Raises InvalidArrayError, TooLargeError; ConflictError if the input changes meanwhile.
    """
    limits = limits or UploadLimits()
    samples = _samples_part(x, limits)
    targets = None if y is None else _targets_part(y, len(x))
    parts = [samples] if targets is None else [samples, targets]
    total_bytes = sum(part.source.size * part.dtype.itemsize for part in parts)
    if total_bytes > limits.array_bytes:
        raise TooLargeError(
            f"This data set takes {total_bytes} bytes; the limit array_bytes is "
            f"{limits.array_bytes}.",
            advice="Upload fewer samples, float32 instead of float64, or have the limit raised.",
            limit="array_bytes",
            value=limits.array_bytes,
        )
    header = _header(parts)
    digest = _digest(header, (chunk for part in parts for chunk in part.chunks()))
    identity = dataset_id(digest)
    try:
        return load_info(blobs, identity)
    except NotFoundError:
        pass
    info = DatasetInfo(
        id=identity,
        digest=digest,
        shape=x.shape,
        dtype="float32" if samples.dtype.itemsize == 4 else "float64",
        targets=None if targets is None else _targets_info(targets),
        rows_per_chunk=samples.rows_per_chunk,
        stored_bytes=0,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return _store(blobs, info, parts, header)


def check_arrays(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic] | None = None) -> None:
    """Reads every number once. Raises InvalidArrayError where `ingest` would; knows no sizes."""
    parts = [_samples_part(x, UploadLimits())]
    if y is not None:
        parts.append(_targets_part(y, len(x)))
    for part in parts:
        for _ in part.chunks():
            pass


def load_info(blobs: BlobStore, identity: str) -> DatasetInfo:
    """Raises NotFoundError, InvalidKeyError, UnsupportedFormatError."""
    try:
        document = blobs.get(f"{FOLDER}/{check_dataset_id(identity)}/{DOCUMENT}")
    except NotFoundError:
        raise NotFoundError(
            f"There is no data set {identity}.", advice="Upload it with POST /v1/datasets."
        ) from None
    return DatasetInfo.from_json(json.loads(document))


def read_rows(
    blobs: BlobStore, info: DatasetInfo, start: int, stop: int
) -> npt.NDArray[np.floating]:
    """Samples [start, stop) as a new array (stop - start, ...). Checksums are verified.

    Raises ValueError outside the data set, MissingChunkError, CorruptChunkError.
    """
    return _read(blobs, info, "samples", info.shape, info.dtype, info.rows_per_chunk, start, stop)


def read_targets(blobs: BlobStore, info: DatasetInfo) -> npt.NDArray[Any] | None:
    """All targets (int64 labels or float64), or None. Raises as `read_rows`."""
    if info.targets is None:
        return None
    t = info.targets
    return _read(blobs, info, "targets", t.shape, t.dtype, t.rows_per_chunk, 0, t.shape[0])


def delete(blobs: BlobStore, identity: str) -> None:
    """Remove a data set; nothing happens when it is not there. Who uses it is not checked here."""
    folder = f"{FOLDER}/{check_dataset_id(identity)}"
    blobs.delete(f"{folder}/{DOCUMENT}")
    blobs.delete_prefix(folder)


def list_datasets(blobs: BlobStore) -> list[str]:
    """Ids of all published data sets, sorted."""
    return sorted(
        name
        for name in blobs.folders(FOLDER)
        if blobs.size(f"{FOLDER}/{name}/{DOCUMENT}") is not None
    )


def _store(blobs: BlobStore, info: DatasetInfo, parts: list[_Part], header: bytes) -> DatasetInfo:
    folder = f"{FOLDER}/{info.id}"
    stored_bytes = 0

    def store_chunks() -> Iterator[npt.NDArray[np.generic]]:
        nonlocal stored_bytes
        for part in parts:
            for index, chunk in enumerate(part.chunks()):
                coordinates = (index,) + (0,) * (part.source.ndim - 1)
                data = encode_values(chunk, part.chunk_shape, part.dtype)
                blobs.put(f"{folder}/{part.name}/{chunk_key(coordinates)}", data)
                stored_bytes += len(data)
                yield chunk

    if _digest(header, store_chunks()) != info.digest:
        raise ConflictError(
            "The input changed while it was being stored.", advice="Upload it again."
        )
    info = replace(info, stored_bytes=stored_bytes)
    documents = group_documents(
        [
            ArrayDocument(
                part.name,
                part.source.shape,
                part.chunk_shape,
                part.dtype.name,
                dimension_names(part.name, part.source.ndim, shared=False),
            )
            for part in parts
        ],
        {"gramian": {"format_version": FORMAT_VERSION, "id": info.id, "digest": info.digest}},
    )
    for key, document in documents.items():
        blobs.put(f"{folder}/{key}", document)
    published = json.dumps(info.to_json(), indent=2).encode()
    if not blobs.put_if_absent(f"{folder}/{DOCUMENT}", published):
        return load_info(blobs, info.id)  # somebody stored the same content at the same time
    # An upload of the same content that was killed may have left something half written.
    blobs.sweep_temporary(0, folder)
    return info


def _read(
    blobs: BlobStore,
    info: DatasetInfo,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    rows_per_chunk: int,
    start: int,
    stop: int,
) -> npt.NDArray[Any]:
    if not 0 <= start <= stop <= shape[0]:
        raise ValueError(f"rows {start}:{stop} of {shape[0]}")
    chunk_shape = (rows_per_chunk, *shape[1:])
    result = np.empty((stop - start, *shape[1:]), dtype)
    for index in range(start // rows_per_chunk, -(-stop // rows_per_chunk)):
        key = f"{FOLDER}/{info.id}/{name}/{chunk_key((index,) + (0,) * (len(shape) - 1))}"
        try:
            data = blobs.get(key)
        except NotFoundError:
            raise MissingChunkError(
                f"Chunk {key} is not there.",
                advice="Delete this data set and upload it again.",
                key=key,
            ) from None
        chunk = decode_values(data, chunk_shape, dtype, key)
        offset = index * rows_per_chunk
        first, last = max(start, offset), min(stop, offset + rows_per_chunk)
        result[first - start : last - start] = chunk[first - offset : last - offset]
    return result


def _samples_part(x: npt.NDArray[np.generic], limits: UploadLimits) -> _Part:
    if x.ndim < 2:
        raise InvalidArrayError(
            f"Samples need at least two dimensions, (samples, features); x has shape {x.shape}.",
            advice="For one feature per sample, upload x[:, None]; for one sample, x[None, :].",
        )
    if x.ndim > limits.dimensions:
        raise InvalidArrayError(f"x has {x.ndim} dimensions; at most {limits.dimensions} work.")
    if x.size == 0:
        raise InvalidArrayError(
            f"x is empty: its shape is {x.shape}.", advice="Upload at least one sample."
        )
    _check_kind(x, "x")
    small = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    dtype = np.dtype("<f4" if small else "<f8")
    return _Part("samples", x, dtype, _rows_per_chunk(x.shape, dtype.itemsize))


def _targets_part(y: npt.NDArray[np.generic], m: int) -> _Part:
    if y.ndim not in (1, 2) or y.shape[0] != m or y.size == 0:
        raise InvalidArrayError(
            f"Targets must have shape ({m},) or ({m}, k), one row per sample; "
            f"y has shape {y.shape}.",
            advice="Check that x and y hold the same samples in the same order.",
        )
    _check_kind(y, "y")
    labels = y.ndim == 1 and y.dtype.kind != "f"
    dtype = np.dtype("<i8" if labels else "<f8")
    return _Part("targets", y, dtype, _rows_per_chunk(y.shape, dtype.itemsize))


def _targets_info(part: _Part) -> TargetsInfo:
    kind: TargetKind = "labels" if part.dtype.kind == "i" else "real"
    return TargetsInfo(kind, part.source.shape, part.rows_per_chunk)


def _check_kind(values: npt.NDArray[np.generic], name: str) -> None:
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise InvalidArrayError(
            f"{name} holds values of type {values.dtype}.",
            advice="Gramian takes booleans, integers and floats of up to 64 bits.",
        )


def _check_exact(rows: npt.NDArray[np.generic], dtype: np.dtype[Any], name: str) -> None:
    limit = _MAX_EXACT_INTEGER if dtype.kind == "f" else np.iinfo(np.int64).max
    if int(rows.max()) > limit or (dtype.kind == "f" and int(rows.min()) < -limit):
        raise InvalidArrayError(
            f"{name} holds integers beyond {limit}, which {dtype.name} cannot represent.",
            advice="Rescale the values before uploading them.",
        )


def _check_finite(values: npt.NDArray[np.generic], name: str, start: int) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        where = np.argwhere(~finite)[0]
        position = [int(where[0]) + start, *map(int, where[1:])]
        raise InvalidArrayError(
            f"{name} holds a NaN or an infinity at index {position}.",
            advice="Remove these samples or replace these values before uploading.",
            index=position,
        )


def _rows_per_chunk(shape: tuple[int, ...], itemsize: int) -> int:
    """Rows of a chunk: the largest power of two within CHUNK_BYTES, but not more than there are."""
    row_bytes = math.prod(shape[1:]) * itemsize
    rows = max(1, CHUNK_BYTES // row_bytes)
    return min(shape[0], 1 << (rows.bit_length() - 1))


def _header(parts: list[_Part]) -> bytes:
    described = {
        part.name: {"dtype": part.dtype.name, "shape": list(part.source.shape)} for part in parts
    }
    return canonical_json({"targets": None, **described}) + b"\n"


def _digest(header: bytes, chunks: Iterator[npt.NDArray[np.generic]]) -> str:
    sha256 = hashlib.sha256(header)
    for chunk in chunks:
        sha256.update(chunk.data.cast("B"))
    return sha256.hexdigest()
