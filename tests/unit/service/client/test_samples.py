"""What the client makes of arrays of other libraries, and what it refuses before sending."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from service.client import Client
from service.client.samples import checked_samples
from storage.errors import InvalidArrayError

X = np.arange(12, dtype=np.float64).reshape(4, 3)


class Tensor:
    """Behaves like a torch tensor that needs a gradient and lives on a device: NumPy cannot
    convert it before it is detached and moved."""

    def __init__(self, values: np.ndarray, detached: bool = False, moved: bool = False) -> None:
        self._values, self._detached, self._moved = values, detached, moved

    def detach(self) -> Tensor:
        return Tensor(self._values, True, self._moved)

    def cpu(self) -> Tensor:
        return Tensor(self._values, self._detached, True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not (self._detached and self._moved):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self._values


@pytest.mark.parametrize(
    "value",
    [X, jnp.asarray(X, dtype=jnp.float32), Tensor(X), pd.DataFrame(X), X.tolist()],
    ids=["numpy", "jax", "torch", "pandas", "lists"],
)
def test_arrays_of_any_library(value: Any):
    samples, targets = checked_samples(value, pd.Series([0, 1, 0, 1]))
    np.testing.assert_array_equal(samples, X)
    assert targets.dtype.kind == "i"


def test_memory_maps_are_not_copied(tmp_path: Path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    samples, _ = checked_samples(mapped)
    assert np.shares_memory(samples, mapped)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (pd.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}), None, "x (DataFrame) holds objects"),
        (X.astype(object), None, "objects such as float"),
        ([[1.0], [1.0, 2.0]], None, "cannot be made"),
        (np.ma.masked_greater(X, 3), None, "masked"),
        (np.where(X == 7, np.nan, X), None, "NaN or an infinity at index [2, 1]"),
        (X.ravel(), None, "at least two dimensions"),
        (np.zeros((0, 3)), None, "empty"),
        (X.astype(complex), None, "complex128"),
        (X, np.arange(3), "y has shape (3,)"),
        (X, np.array(["cat", "dog", "cat", "dog"]), "y (ndarray) holds text"),
        (X, np.array([0.0, 1.0, np.inf, 0.0]), "targets holds a NaN or an infinity at index [2]"),
        (X, np.zeros((4, 2, 2)), "Targets must have shape"),
    ],
)
def test_refused_before_anything_is_sent(x: Any, y: Any, says: str):
    # Nothing listens there: a request would raise ServiceUnreachableError.
    with Client("http://127.0.0.1:1") as client, pytest.raises(InvalidArrayError) as refused:
        client.gram(x, kernel="fc", y=y)
    assert says in str(refused.value)
    assert refused.value.advice


def test_a_stored_data_set_has_the_targets_it_has():
    with Client("http://127.0.0.1:1") as client, pytest.raises(InvalidArrayError, match="stored"):
        client.gram("ds-" + "0" * 32, kernel="fc", y=[1, 2])


def test_torch_and_pandas_are_not_imported():
    import subprocess

    code = (
        "import numpy as np, sys\n"
        "from service.client.samples import checked_samples\n"
        "checked_samples(np.eye(3), [1, 2, 3])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'jax', 'sklearn')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
