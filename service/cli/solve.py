"""`gramian solve`: answers from stored Gram matrices."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.connection import (
    DEFAULT_URL,
    JsonOption,
    UrlOption,
    connected,
    dataset_id,
    matrix_id,
    matrix_id_or_none,
)
from service.cli.gram_options import (
    ArrayOption,
    CrossOption,
    MatrixArgument,
    RidgeAbsoluteOption,
    TargetsOption,
)
from service.cli.outcome import UsageError
from service.cli.predictions import classify, dynamics, likelihood, posterior, ridge
from service.cli.sending import EstimateOption, WatchOption, send, without_nulls

app = typer.Typer(no_args_is_help=True, help="Get answers from a stored Gram matrix.")

for _command in (ridge, classify, posterior, dynamics, likelihood):
    app.command()(_command)


@app.callback()
def solve() -> None:
    """Get answers from a stored Gram matrix."""


@app.command()
def spectrum(
    matrix: MatrixArgument,
    array: ArrayOption = None,
    components: Annotated[
        int | None, typer.Option(help="Kernel principal components to store.")
    ] = None,
    centred: Annotated[
        bool, typer.Option("--centred", help="Components without the mean feature.")
    ] = False,
    ridge: Annotated[
        float | None, typer.Option(help="For the effective dimension, in units of trace(K)/m.")
    ] = None,
    ridge_absolute: RidgeAbsoluteOption = False,
    method: Annotated[
        str | None,
        typer.Option(help="dense (all, in one worker), lanczos (the largest, at any size), auto."),
    ] = None,
    largest: Annotated[int | None, typer.Option(help="How many eigenvalues lanczos finds.")] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Eigenvalues, condition number, effective ranks, learning rates, kernel PCA."""
    with connected(url) as client:
        task = {
            "type": "spectrum",
            "matrix": matrix_id(client, matrix),
            "array": array,
            "components": components,
            "centred": centred or None,
            "ridge": ridge,
            "ridge_relative": False if ridge_absolute else None,
            "method": method,
            "largest": largest,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


@app.command()
def predict(
    solution: Annotated[str, typer.Argument(help="A finished solve: mx-..., or the job's id.")],
    x: Annotated[
        str | None, typer.Option(help="New inputs: a .npy/.npz file, or a data set (ds-...).")
    ] = None,
    cross: Annotated[
        str | None, typer.Option(help="A stored cross-Gram instead: mx-..., or the job's id.")
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Data set of the targets to compare with (ds-...).")
    ] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Predictions for new inputs. Example: gramian solve predict job-... --x test.npy --watch"""
    with connected(url) as client:
        if (x is None) == (cross is None):
            raise UsageError(
                "Predictions need new inputs or a stored cross-Gram.",
                advice="give one of --x and --cross",
            )
        task = {
            "type": "predict",
            "solution": matrix_id(client, solution),
            "x": None if x is None else dataset_id(client, x),
            "cross": matrix_id_or_none(client, cross),
            "targets": targets,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


@app.command()
def svm(
    matrix: MatrixArgument,
    array: ArrayOption = None,
    targets: TargetsOption = None,
    kind: Annotated[
        str | None, typer.Option(help="classification or regression; left out: by the targets.")
    ] = None,
    cost: Annotated[float | None, typer.Option(help="C, the weight of violations.")] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Errors up to this cost nothing (regression).")
    ] = None,
    tolerance: Annotated[float | None, typer.Option(help="Of the optimality conditions.")] = None,
    cross: CrossOption = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Support vector machines (needs the extra gramian[svm] where the service runs)."""
    with connected(url) as client:
        task = {
            "type": "svm",
            "matrix": matrix_id(client, matrix),
            "array": array,
            "targets": targets,
            "kind": kind,
            "cost": cost,
            "epsilon": epsilon,
            "tolerance": tolerance,
            "cross": matrix_id_or_none(client, cross),
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


@app.command("label-kernel")
def label_kernel(
    matrix: MatrixArgument,
    mixing: Annotated[float, typer.Option(help="0: the kernel itself; 1: labels alone.")],
    array: ArrayOption = None,
    targets: TargetsOption = None,
    bandwidth: Annotated[
        float | None, typer.Option(help="In units of the kernel; left out: Silverman's rule.")
    ] = None,
    cross: Annotated[
        str | None, typer.Option(help="Mix this cross-Gram instead: mx-..., or the job's id.")
    ] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """A Gram matrix mixed with what kernel values say about labels, to solve with."""
    with connected(url) as client:
        task = {
            "type": "label-kernel",
            "matrix": matrix_id(client, matrix),
            "mixing": mixing,
            "array": array,
            "targets": targets,
            "bandwidth": bandwidth,
            "cross": matrix_id_or_none(client, cross),
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)
