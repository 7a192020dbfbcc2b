"""Strategies for files and specs that strangers send: near misses, not noise."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
from hypothesis import strategies as st

from workers.kernels.registry import catalogue

_DTYPES = ("<f4", ">f8", "<i8", "|b1", "<f2", "|u1", "<c8", "|O", "<U3", "<M8[s]", "|V4")
_NAMES = ("x.npy", "y.npy", "z.npy", "../x.npy", "/etc/passwd", "x.npy/", "X.NPY", "x.npy\x00", "")


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    return np.ones(shape, draw(st.sampled_from(["<f4", ">f8", "<i2", "|b1"])))


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """The text of a `.npy` header that may be anything from right to nonsense."""
    extent = st.one_of(st.integers(0, 4), st.integers(-3, 2**70), st.just("4"), st.just(True))
    shape: Any = draw(st.one_of(st.lists(extent, max_size=10).map(tuple), extent))
    fields = {
        "descr": draw(
            st.one_of(st.sampled_from(_DTYPES), st.text(max_size=6), st.just([("a", "f4")]))
        ),
        "fortran_order": draw(st.one_of(st.booleans(), st.integers(0, 2), st.none())),
        "shape": shape,
    }
    for name in draw(st.sets(st.sampled_from([*fields, "more"]), max_size=1)):
        fields.pop(name, None)
        if name == "more":
            fields[name] = 1
    text = repr(fields)
    return draw(
        st.one_of(
            st.just(text.encode()),
            st.integers(0, len(text)).map(lambda n: text[:n].encode()),
            st.integers(1, 3000).map(lambda n: b"(" * n),
            st.binary(max_size=60),
        )
    )


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([1, 2, 3, 0, 9]))
    text = draw(headers())
    length = draw(st.one_of(st.just(len(text)), st.integers(0, 2**16 - 1)))
    packed = struct.pack("<H" if version == 1 else "<I", min(length, 65535))
    return b"\x93NUMPY" + bytes([version, 0]) + packed + text + draw(st.binary(max_size=200))


@st.composite
def npz_files(draw: st.DrawFn) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw(st.sampled_from([0, 8, 12, 14]))) as archive:
        for name in draw(st.lists(st.sampled_from(_NAMES), max_size=4)):
            content = draw(st.one_of(npy_files(), arrays().map(saved)))
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


@st.composite
def damaged(draw: st.DrawFn, files: st.SearchStrategy[bytes]) -> bytes:
    """A file with bytes changed, taken out, put in or repeated, at places that a parser reads."""
    data = bytearray(draw(files))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "repeat", "end"]))
        piece = draw(st.binary(min_size=1, max_size=8))
        if kind == "change":
            data[at : at + len(piece)] = piece
        elif kind == "cut":
            del data[at : at + len(piece)]
        elif kind == "insert":
            data[at:at] = piece
        elif kind == "repeat":
            data[at:at] = data[at : at + 100]
        else:
            del data[at:]
    return bytes(data)


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _savez(pair: tuple[np.ndarray, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=pair[0], y=pair[1])
    return buffer.getvalue()


def uploads() -> st.SearchStrategy[bytes]:
    """Files as they may come with `POST /v1/datasets`."""
    whole = st.one_of(arrays().map(saved), st.tuples(arrays(), arrays()).map(_savez))
    return st.one_of(
        whole,
        damaged(whole),
        npy_files(),
        npz_files(),
        damaged(npz_files()),
        st.binary(max_size=300),
    )


_NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from([10**9, 2**63, 10**400, 0.5, -1.0, 1e308, 5e-324]),
    st.floats(),
)
_ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def specs() -> st.SearchStrategy[Any]:
    """Kernel specs made of the real words of the language, put together wrongly as often as not."""
    known = catalogue()
    ops = [(entry["name"], sorted(entry["schema"].get("properties", {}))) for entry in known["ops"]]
    presets = [(e["name"], sorted(e["schema"]["properties"])) for e in known["presets"]]
    functions = [entry["name"] for entry in known["activations"]]
    values = st.one_of(
        _NUMBERS, st.lists(_NUMBERS, max_size=3), st.sampled_from(functions), _ANYTHING
    )

    def named(key: str, entries: list[tuple[str, list[str]]]) -> st.SearchStrategy[dict[str, Any]]:
        return st.sampled_from(entries).flatmap(
            lambda entry: st.dictionaries(
                st.sampled_from([name for name in entry[1] if name != key] or ["none"]),
                values,
                max_size=2,
            ).map(lambda fields: {key: entry[0], **fields})
        )

    layer = named("op", [entry for entry in ops if entry[0] != "activation"])
    activation = st.sampled_from(functions).map(lambda fn: {"op": "activation", "fn": fn})
    layers = st.recursive(
        st.one_of(layer, activation),
        lambda inner: st.builds(
            lambda op, body: {"op": op, "body": body},
            st.sampled_from(["residual", "fixed_point"]),
            st.lists(inner, max_size=3),
        ),
        max_leaves=6,
    )
    network = st.lists(st.one_of(layers, _ANYTHING), max_size=6).map(
        lambda found: {"layers": found}
    )
    return st.one_of(network, named("preset", presets), _ANYTHING)
