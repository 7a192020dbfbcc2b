"""A catalog has one name, for ever, whoever asks first."""

from __future__ import annotations

import threading

from storage.catalog import Catalog, open_catalog


def test_the_name_stays(catalog: Catalog, catalog_url: str) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(catalog.identity())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 1
    with open_catalog(catalog_url) as again:
        assert again.identity() == names[0]
    assert len(names[0]) == 32
