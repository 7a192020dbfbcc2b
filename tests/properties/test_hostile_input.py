"""Whatever bytes an upload holds and whatever a kernel spec says: a result, or an error of ours."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from support.hostile import specs, uploads
from support.hostile_checks import check_spec, check_upload


@settings(max_examples=200)
@given(uploads())
def test_uploads(data: bytes) -> None:
    check_upload(data)


@settings(max_examples=200)
@given(specs())
def test_kernel_specs(source: Any) -> None:
    check_spec(source)
