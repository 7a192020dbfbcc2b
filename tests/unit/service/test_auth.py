"""Keys are compared by digest, all of them, whatever is presented."""

from __future__ import annotations

import secrets

import pytest

from service.auth import hash_key, is_known

DIGESTS = (hash_key("first"), hash_key("second"), hash_key("third"))


@pytest.mark.parametrize(
    "value", ["Bearer first", "bearer second", "BEARER  third", "Bearer third "]
)
def test_known_keys(value: str) -> None:
    assert is_known(value, DIGESTS)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "first",
        "Basic first",
        "Bearer first second",
        "Bearer " + DIGESTS[0],
    ],
)
def test_everything_else(value: str) -> None:
    assert not is_known(value, DIGESTS)
    assert not is_known(value, ())


def test_every_digest_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = secrets.compare_digest

    def watch(a: str, b: str) -> bool:
        compared.append(b)
        return real(a, b)

    monkeypatch.setattr(secrets, "compare_digest", watch)
    assert is_known("Bearer first", DIGESTS)
    assert compared == list(DIGESTS)
