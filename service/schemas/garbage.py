"""Wire models of garbage collection."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.common import Wire


class GarbageRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    delete: bool = Field(default=False, description="False: only say what would go.")


class GarbageItem(Wire):
    kind: Literal["matrix", "dataset", "checkpoint", "flag"]
    name: str
    reason: str
    stored_bytes: int
    recorded: bool = Field(description="Whether it has a row in the catalog.")


class GarbageOut(Wire):
    """What may go, or what is gone. `kept`: somebody needs it by now."""

    deleted: bool
    items: list[GarbageItem]
    kept: list[GarbageItem]
    stored_bytes: int = Field(description="Sum over `items`.")
    events: int = Field(description="Events of ended jobs that were deleted.")
    audit_entries: int = Field(description="Audit entries that were deleted.")
