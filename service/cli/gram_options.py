"""Options that commands over a stored Gram matrix share."""

from __future__ import annotations

from typing import Annotated

import typer

MatrixArgument = Annotated[str, typer.Argument(help="The Gram matrix: mx-..., or the job's id.")]
ArrayOption = Annotated[str | None, typer.Option(help="ntk (default) or nngp.")]
RidgeAbsoluteOption = Annotated[
    bool, typer.Option("--ridge-absolute", help="--ridge is the number added itself.")
]
CrossOption = Annotated[
    str | None, typer.Option(help="Cross-Gram to predict through: mx-..., or the job's id.")
]
TargetsOption = Annotated[
    str | None, typer.Option(help="Data set of the targets (ds-...); left out: the Gram's own.")
]
