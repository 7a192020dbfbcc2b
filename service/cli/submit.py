"""`gramian submit`: asking for Gram matrices and solves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

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
    DTypeOption,
    MatrixArgument,
    OutputOption,
    RidgeAbsoluteOption,
    TargetsOption,
)
from service.cli.outcome import UsageError
from service.cli.sending import EstimateOption, WatchOption, json_object, send, without_nulls

app = typer.Typer(no_args_is_help=True, help="Ask for a Gram matrix or a solve.")


@app.callback()
def submit() -> None:
    """Ask for a Gram matrix or a solve."""


def kernel_from_flags(kernel: str | None, preset: str | None, **parameters: Any) -> Any:
    """The kernel of a task: JSON text, a JSON file, or a preset with the parameters given.

    Raises UsageError when both or neither are named, or when the JSON cannot be read.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if kernel is not None:
        if preset is not None or given:
            raise UsageError(
                "--kernel describes the whole network.",
                advice="leave out --preset and its parameters, or leave out --kernel",
            )
        text = kernel
        if not kernel.lstrip().startswith("{"):
            path = Path(kernel)
            if not path.is_file():
                raise UsageError(
                    f"--kernel {kernel!r} is neither a JSON object nor a file.",
                    advice="write --kernel network.json, or --preset fc --depth 3",
                )
            text = path.read_text()
        return json_object(text, "--kernel")
    return {"preset": preset or "fc", **given}


@app.command()
def gram(
    x1: Annotated[str, typer.Option(help="Rows: a .npy/.npz file, or a data set (ds-...).")],
    x2: Annotated[
        str | None, typer.Option(help="Columns, likewise. Left out: the symmetric Gram of x1.")
    ] = None,
    y1: Annotated[
        Path | None, typer.Option(help="Targets to store with x1 (.npy), for solves.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="fc (default) or nngp-fc.")] = None,
    depth: Annotated[int | None, typer.Option(help="Hidden layers of the preset.")] = None,
    activation: Annotated[str | None, typer.Option(help="Activation of the preset.")] = None,
    w_std: Annotated[float | None, typer.Option(help="Weight deviation of the preset.")] = None,
    b_std: Annotated[float | None, typer.Option(help="Bias deviation of the preset.")] = None,
    normalize: Annotated[
        str | None, typer.Option(help="unit: scale rows to unit norm; none (default).")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Any network: a JSON file or JSON text, see /v1/kernels.")
    ] = None,
    output: OutputOption = None,
    dtype: DTypeOption = None,
    tile_rows: Annotated[int | None, typer.Option(help="Edge of a tile in rows.")] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Compute a Gram matrix. Example: gramian submit gram --x1 train.npy --depth 3 --watch"""
    with connected(url) as client:
        network = kernel_from_flags(
            kernel,
            preset,
            depth=depth,
            activation=activation,
            w_std=w_std,
            b_std=b_std,
            normalize=normalize,
        )
        task = {
            "type": "gram",
            "kernel": network,
            "x1": dataset_id(client, x1, y1),
            "x2": None if x2 is None else dataset_id(client, x2),
            "outputs": output or None,
            "dtype": dtype,
            "tile_rows": tile_rows,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


@app.command("pixel-gram")
def pixel_gram(
    x: Annotated[str, typer.Option(help="Images: a .npy/.npz file, or a data set (ds-...).")],
    kernel: Annotated[
        str, typer.Option(help="A network that ends with a conv: a JSON file or JSON text.")
    ],
    image: Annotated[int, typer.Option(help="Which image, from 0 on.")] = 0,
    other: Annotated[
        int | None, typer.Option(help="Image of the columns. Left out: the same, symmetric.")
    ] = None,
    output: OutputOption = None,
    dtype: DTypeOption = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Compute the kernel of all pixel pairs of an image, as a matrix. Example: gramian submit
    pixel-gram --x images.npy --kernel network.json --watch"""
    network = kernel_from_flags(kernel, None)
    with connected(url) as client:
        task = {
            "type": "pixel_gram",
            "kernel": network,
            "x": dataset_id(client, x),
            "image": image,
            "other": other,
            "outputs": output or None,
            "dtype": dtype,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


@app.command()
def solve(
    matrix: MatrixArgument,
    cross: CrossOption = None,
    method: Annotated[
        str | None,
        typer.Option(help="auto (default), cg, cholesky, tiled-cholesky, nystrom or falkon."),
    ] = None,
    preconditioner: Annotated[
        str | None, typer.Option(help="Of cg: auto, none, jacobi, nystrom or rpcholesky.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Columns of the preconditioner.")] = None,
    factor_precision: Annotated[
        str | None, typer.Option(help="Of tiled-cholesky: auto, float32 or float64.")
    ] = None,
    ridge: Annotated[float | None, typer.Option(help="In units of trace(K)/m.")] = None,
    ridge_absolute: RidgeAbsoluteOption = False,
    inducing: Annotated[int | None, typer.Option(help="Inducing points (nystrom, falkon).")] = None,
    tolerance: Annotated[float | None, typer.Option(help="Relative residual to reach.")] = None,
    array: ArrayOption = None,
    targets: TargetsOption = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Kernel ridge regression over a stored Gram matrix."""
    with connected(url) as client:
        task = {
            "type": "solve",
            "matrix": matrix_id(client, matrix),
            "cross": matrix_id_or_none(client, cross),
            "method": method,
            "preconditioner": preconditioner,
            "rank": rank,
            "factor_precision": factor_precision,
            "ridge": ridge,
            "ridge_relative": False if ridge_absolute else None,
            "inducing": inducing,
            "tolerance": tolerance,
            "array": array,
            "targets": targets,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


@app.command("task")
def task_file(
    file: Annotated[str, typer.Argument(help="JSON file of a task; - reads standard input.")],
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Send a task written as JSON: what POST /v1/jobs takes, or the object inside "task"."""
    with connected(url) as client:
        if file == "-":
            text = sys.stdin.read()
        elif Path(file).is_file():
            text = Path(file).read_text()
        else:
            raise UsageError(f"There is no file {file!r}.", advice="name a JSON file, or -")
        body = json_object(text, file)
        task = body.get("task", body)
        if not isinstance(task, dict):
            raise UsageError(f'"task" in {file} is not an object.', advice="see /openapi.json")
        send(client, task, watch=watch, estimate=estimate, as_json=as_json)
