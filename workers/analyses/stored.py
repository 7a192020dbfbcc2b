"""Analyses of stored Gram matrices: read the whole matrix in one worker, analyse, report.

These are what jobs run (`workers.one_worker`); the analyses themselves know nothing of storage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.analyses.errors import InvalidAnalysisError
from workers.one_worker import CheckStop, Computed
from workers.solves.dense import load_dense
from workers.solves.source import TileSource

ANALYSIS_COPIES = 5
"""Float64 squares alive at once while a Gram is checked, symmetrised and factored."""

MAX_SUMMARY_NUMBERS = 10_000
"""Arrays that are not stored go into the summary, which is JSON, up to this size."""


def stored_spectrum(
    source: TileSource,
    ridge: float,
    ridge_relative: bool,
    components: int,
    centred: bool,
    check_stop: CheckStop,
) -> Computed:
    """`eigenvalues` (m,), descending; with `components` c > 0 also `components` and `scores`,
    both (m, c). Raises InvalidAnalysisError if the matrix is no Gram matrix."""
    from workers.analyses.kernel_pca import kernel_pca
    from workers.analyses.spectrum import spectrum

    matrix = load_dense(source, check_stop)
    trace = float(np.trace(matrix, dtype=np.float64))
    added = ridge * (trace / len(matrix) if ridge_relative else 1.0)
    found = spectrum(matrix, ridge=added)
    arrays: dict[str, NDArray[Any]] = {"eigenvalues": found.eigenvalues}
    summary = {k: v for k, v in asdict(found).items() if k != "eigenvalues"}
    summary |= {"rows": len(matrix), "trace": trace}
    if components:
        check_stop()
        pca = kernel_pca(matrix, components, centred=centred)
        arrays |= {"scores": pca.scores, "components": pca.vectors}
        summary["kernel_pca"] = {
            "centred": centred,
            "eigenvalues": pca.eigenvalues.tolist(),
            "explained": pca.explained.tolist(),
            "noise_floor": pca.noise_floor,
            "notes": list(pca.notes),
        }
    return Computed(summary, arrays)


def stored_analysis(
    function: str,
    grams: Sequence[TileSource],
    arrays: Sequence[NDArray[Any]],
    parameters: Mapping[str, Any],
    stored: Sequence[str],
    check_stop: CheckStop,
) -> Computed:
    """`function` ("module:name") of the Grams, then `arrays` (targets or samples).

    Its result is a number, or a dataclass: fields named in `stored` become arrays (complex ones
    with a last axis real, imaginary), the others the summary.
    """
    module, _, name = function.partition(":")
    call: Callable[..., Any] = getattr(import_module(module), name)
    given: list[Any] = [load_dense(source, check_stop) for source in grams]
    check_stop()
    return as_computed(call(*given, *arrays, **parameters), stored)


def as_computed(result: Any, stored: Sequence[str]) -> Computed:
    """The result of an analysis in two parts. Raises InvalidAnalysisError for an array that is
    neither stored nor small."""
    if not is_dataclass(result) or isinstance(result, type):
        return Computed({"value": result})
    fields = {name: getattr(result, name) for name in result.__dataclass_fields__}
    arrays = {name: _real(fields.pop(name)) for name in stored}
    return Computed({name: _plain(name, value) for name, value in fields.items()}, arrays)


def _plain(name: str, value: Any) -> Any:
    """`value` without arrays and dataclasses, at any depth."""
    if isinstance(value, np.ndarray):
        if value.size > MAX_SUMMARY_NUMBERS:
            raise InvalidAnalysisError(
                f"{name} has {value.size} numbers; a summary holds {MAX_SUMMARY_NUMBERS}.",
                advice="Ask for fewer.",
            )
        return _real(value).tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(key, getattr(value, key)) for key in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: _plain(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    return value


def _real(values: NDArray[Any]) -> NDArray[Any]:
    if np.iscomplexobj(values):
        return np.stack([values.real, values.imag], axis=-1)
    return values
