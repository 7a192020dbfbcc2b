"""PNG pictures with a palette (ISO/IEC 15948:2004): the header, the colours, and zlib."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE_COLORS = 3  # colour type: one byte per pixel, an index into PLTE
_COMPRESSION = 6


def encode(indices: NDArray[np.uint8], palette: NDArray[np.uint8], opacity: bytes) -> bytes:
    """A PNG file. `indices` (height, width) into `palette` (n <= 256, 3), sRGB; `opacity`: alpha
    of the first colours, the others being opaque. Equal input gives equal bytes."""
    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE_COLORS, 0, 0, 0)
    # Each row begins with its filter; indices are not numbers, so there is nothing to filter.
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = indices
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", palette.astype(np.uint8).tobytes()),
            _chunk(b"tRNS", opacity),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), _COMPRESSION)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
