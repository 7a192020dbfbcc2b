"""The commands `gramian solve ridge | classify | posterior | dynamics | likelihood`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.connection import (
    DEFAULT_URL,
    JsonOption,
    UrlOption,
    connected,
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
from service.cli.sending import EstimateOption, WatchOption, send, without_nulls

if TYPE_CHECKING:
    from service.client import Client

RidgesOption = Annotated[
    list[float] | None, typer.Option("--ridge", help="A ridge to try; may be repeated.")
]
FoldsOption = Annotated[
    int | None, typer.Option(help="Choose by this many folds instead of leave-one-out.")
]


def ridge(
    matrix: MatrixArgument,
    ridges: RidgesOption = None,
    ridge_absolute: RidgeAbsoluteOption = False,
    folds: FoldsOption = None,
    cross: CrossOption = None,
    array: ArrayOption = None,
    targets: TargetsOption = None,
    encoding: Annotated[
        str | None, typer.Option(help="auto, one_hot, centred_one_hot or real.")
    ] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Ridge regression for several ridges at once; keeps the best by held-out error."""
    with connected(url) as client:
        task = {
            "type": "ridge",
            **_selection(client, matrix, ridges, ridge_absolute, folds, cross),
            "array": array,
            "targets": targets,
            "encoding": encoding,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


def classify(
    matrix: MatrixArgument,
    ridges: RidgesOption = None,
    ridge_absolute: RidgeAbsoluteOption = False,
    folds: FoldsOption = None,
    cross: CrossOption = None,
    array: ArrayOption = None,
    targets: TargetsOption = None,
    encoding: Annotated[str | None, typer.Option(help="centred_one_hot or one_hot.")] = None,
    criterion: Annotated[
        str | None, typer.Option(help="error_rate (default) or mean_squared_error.")
    ] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Classes by ridge regression on encoded labels: accuracy and confusion matrix."""
    with connected(url) as client:
        task = {
            "type": "classify",
            **_selection(client, matrix, ridges, ridge_absolute, folds, cross),
            "array": array,
            "targets": targets,
            "encoding": encoding,
            "criterion": criterion,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


def posterior(
    matrix: MatrixArgument,
    cross: Annotated[str, typer.Option(help="The cross-Gram: mx-..., or the job's id.")],
    test_matrix: Annotated[
        str | None, typer.Option(help="The Gram matrix of the test set, unless --output mean.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="mean, variance (default) or covariance.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="nngp (default) or ensemble.")] = None,
    time: Annotated[
        float | None, typer.Option(help="Of training (ensemble); without: to the end.")
    ] = None,
    ridge: Annotated[float | None, typer.Option(help="Noise variance, or weight decay.")] = None,
    ridge_absolute: RidgeAbsoluteOption = False,
    targets: TargetsOption = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Mean and variance of a Gaussian process, or of an ensemble of trained networks."""
    with connected(url) as client:
        task = {
            "type": "posterior",
            "matrix": matrix_id(client, matrix),
            "cross": matrix_id(client, cross),
            "test_matrix": matrix_id_or_none(client, test_matrix),
            "output": output,
            "model": model,
            "time": time,
            "ridge": ridge,
            "ridge_relative": False if ridge_absolute else None,
            "targets": targets,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


def dynamics(
    matrix: MatrixArgument,
    times: Annotated[
        list[float] | None, typer.Option("--time", help="Of gradient flow; inf: to the end.")
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option("--steps", help="Of gradient descent; may be repeated.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of gradient descent.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="squared, cross_entropy or binary_cross_entropy.")
    ] = None,
    ridge: Annotated[float | None, typer.Option(help="Weight decay towards the start.")] = None,
    ridge_absolute: RidgeAbsoluteOption = False,
    cross: CrossOption = None,
    array: ArrayOption = None,
    targets: TargetsOption = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Outputs of infinitely wide networks during training."""
    with connected(url) as client:
        task = {
            "type": "dynamics",
            "matrix": matrix_id(client, matrix),
            "times": [None if math.isinf(t) else t for t in times] if times else None,
            "steps": steps or None,
            "learning_rate": learning_rate,
            "loss": loss,
            "ridge": ridge,
            "ridge_relative": False if ridge_absolute else None,
            "cross": matrix_id_or_none(client, cross),
            "array": array,
            "targets": targets,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


def likelihood(
    matrix: MatrixArgument,
    ridge: Annotated[float | None, typer.Option(help="Variance of the noise.")] = None,
    ridge_absolute: RidgeAbsoluteOption = False,
    array: Annotated[str | None, typer.Option(help="nngp (default) or ntk.")] = None,
    targets: TargetsOption = None,
    method: Annotated[str | None, typer.Option(help="auto, cholesky or lanczos.")] = None,
    probes: Annotated[int | None, typer.Option(help="Random vectors of lanczos.")] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Log marginal likelihood of the targets under a Gaussian process."""
    with connected(url) as client:
        task = {
            "type": "log_marginal_likelihood",
            "matrix": matrix_id(client, matrix),
            "ridge": ridge,
            "ridge_relative": False if ridge_absolute else None,
            "array": array,
            "targets": targets,
            "method": method,
            "probes": probes,
        }
        send(client, without_nulls(task), watch=watch, estimate=estimate, as_json=as_json)


def _selection(
    client: Client,
    matrix: str,
    ridges: list[float] | None,
    ridge_absolute: bool,
    folds: int | None,
    cross: str | None,
) -> dict[str, Any]:
    return {
        "matrix": matrix_id(client, matrix),
        "ridges": ridges or None,
        "ridge_relative": False if ridge_absolute else None,
        "selection": None if folds is None else "k_fold",
        "folds": folds,
        "cross": matrix_id_or_none(client, cross),
    }
