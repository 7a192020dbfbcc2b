"""One Chromium for all browser tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from support.browser import chromium, find_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Missing on a developer's machine it skips; in CI it fails."""
    try:
        find_chromium()
    except RuntimeError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with chromium() as running:
        yield running
