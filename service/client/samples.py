"""Arrays of any library on their way in: converted and checked before anything is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import InvalidArrayError
from storage.keys import DATASET_ID_PATTERN

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_dataset_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(DATASET_ID_PATTERN, value) is not None


def checked_samples(x: Any, y: Any | None = None) -> tuple[Any, Any | None]:
    """Samples x (m, ...) and targets y, (m,) or (m, k), as NumPy arrays; paths stay as they are.

    Takes what NumPy converts (JAX arrays, pandas and xarray objects, torch tensors on any device,
    lists); none of these libraries is imported. Raises InvalidArrayError for objects and text,
    other shapes, NaN and infinities; files are checked by the service.
    """
    from storage.datasets import check_arrays

    if isinstance(x, str | Path) or isinstance(y, str | Path):
        return (
            x if isinstance(x, str | Path) else as_array(x, "x"),
            y if y is None or isinstance(y, str | Path) else as_array(y, "y"),
        )
    samples = as_array(x, "x")
    targets = None if y is None else as_array(y, "y")
    check_arrays(samples, targets)
    return samples, targets


def as_array(value: Any, name: str) -> NDArray[Any]:
    """`value` as a NumPy array of numbers, without a copy where that is possible.

    Raises InvalidArrayError for masked values and for what holds anything but numbers.
    """
    import numpy as np

    if hasattr(value, "detach"):  # a torch tensor, perhaps on a device or with a gradient
        value = value.detach().cpu()
    if np.ma.is_masked(value):
        raise InvalidArrayError(
            f"{name} has masked values.", advice="Remove these samples, or fill the values."
        )
    try:
        array: NDArray[Any] = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArrayError(
            f"{name} ({type(value).__name__}) cannot be made a NumPy array: {error}",
            advice="Give samples of equal length, all of them numbers.",
        ) from error
    if array.dtype.kind in "OSUT":
        raise InvalidArrayError(
            f"{name} ({type(value).__name__}) holds {_content(array)}, not numbers.",
            advice="Encode names of classes as integers with numpy.unique(y, return_inverse=True)."
            if name == "y"
            else "Choose the columns with numbers, and convert them with .astype(float).",
        )
    return array


def _content(array: NDArray[Any]) -> str:
    """What an array of objects or text holds, by its first element."""
    if array.dtype.kind != "O" or array.size == 0:
        return "text"
    return f"objects such as {type(array.flat[0]).__name__}"
