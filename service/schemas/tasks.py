"""What all tasks of `POST /v1/jobs` have in common.

Each task type has its schema next to the code that plans and runs it (`service/jobs/tasks`). What
only the stored objects can tell (do they exist, do their shapes agree) is checked there too.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.schemas.common import MatrixId

ArrayName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Asked(BaseModel):
    """Base of everything a client sends: unknown fields are errors, numbers are finite, and what
    the schema calls a boolean or a number is one in JSON, too (`"1"` and `0` are not `true`).

    A tuple field takes a JSON array only with `strict=False`; its items stay strict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class OnGram(Asked):
    """A task over one stored symmetric Gram matrix."""

    matrix: MatrixId = Field(description="A sealed symmetric Gram matrix.")
    array: ArrayName = Field(default="ntk", description="Which array of it to use.")
