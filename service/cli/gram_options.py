"""Options that commands which make a Gram matrix, or work on a stored one, share."""

from __future__ import annotations

from typing import Annotated

import typer

MatrixArgument = Annotated[str, typer.Argument(help="The Gram matrix: mx-..., or the job's id.")]
OutputOption = Annotated[
    list[str] | None, typer.Option(help="ntk or nngp; give it twice for both.")
]
DTypeOption = Annotated[str | None, typer.Option(help="float32 or float64.")]
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
