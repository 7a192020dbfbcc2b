"""The catalogue of kernels that can be asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from service.schemas.common import error_responses
from storage.errors import NotFoundError
from workers.kernels.errors import InvalidKernelError
from workers.kernels.registry import catalogue, preset_entry

router = APIRouter(prefix="/v1/kernels", tags=["kernels"])


@router.get("", summary="The kernel language", responses=error_responses())
def list_kernels() -> dict[str, Any]:
    """Every op, activation and preset with its JSON schema: what `task.kernel` accepts."""
    return catalogue()


@router.get("/{preset}", summary="One preset", responses=error_responses("not-found"))
def get_preset(
    preset: Annotated[str, Path(max_length=64, openapi_examples={"fc": {"value": "fc"}})],
) -> dict[str, Any]:
    """A preset's parameters, and the layers it stands for."""
    try:
        return preset_entry(preset)
    except InvalidKernelError as error:
        raise NotFoundError(error.message, advice=error.advice) from error
