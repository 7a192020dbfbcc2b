"""One service with one worker, shared by the tests that only use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.demo.embedded import embedded_service


@pytest.fixture(scope="session")
def shared_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("shared")
    with embedded_service(folder / "data", options=["--workers", "1"]) as service:
        yield service.url
