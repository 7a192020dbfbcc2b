"""Keys: how they are made and found; what their scopes allow; how fast they may be used."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.access.identity import Caller, Scope, required_scope
from service.access.keyring import Keyring, hash_key, new_key, presented_key
from service.access.request_rate import RequestRates
from storage.catalog import Catalog, KeyQuota, open_catalog

DIGESTS = (hash_key("first"), hash_key("second"), hash_key("third"))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}") as opened:
        yield opened


def add(catalog: Catalog, **given: object) -> str:
    made = new_key()
    arguments = {"owner": "alice", "scope": "submit", "created_by": "operator", **given}
    catalog.add_key(id=made.id, digest=made.digest, **arguments)  # type: ignore[arg-type]
    return made.key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("Bearer first", "first"),
        ("bearer second", "second"),
        ("BEARER  third", "third"),
        ("Bearer third ", "third"),
        ("", ""),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("first", ""),
        ("Basic first", ""),
        ("Bearer first second", "first second"),
    ],
)
def test_the_key_in_a_header(value: str, key: str) -> None:
    assert presented_key(value) == key


def test_operators_are_known_by_the_digests_of_the_settings(catalog: Catalog) -> None:
    ring = Keyring(catalog, DIGESTS, cache_seconds=60)
    for key in ("first", "second", "third"):
        caller = ring.operator(key)
        assert caller is not None
        assert caller.is_admin
    for key in ("", "fourth", "first second", DIGESTS[0]):
        assert ring.operator(key) is None
        assert ring.look_up(key) is None
    assert Keyring(catalog, (hash_key(""),), cache_seconds=60).operator("") is None


def test_every_digest_is_compared_in_constant_time(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    real = secrets.compare_digest

    def watch(a: str, b: str) -> bool:
        compared.append(b)
        return real(a, b)

    monkeypatch.setattr(secrets, "compare_digest", watch)
    assert Keyring(catalog, DIGESTS, cache_seconds=60).operator("first")
    assert compared == list(DIGESTS)


def test_made_keys_show_an_id_and_nothing_else_of_themselves(catalog: Catalog) -> None:
    first, second = new_key(), new_key()
    assert first.key.startswith(f"{first.id}_")
    secret = first.key.removeprefix(f"{first.id}_")
    assert len(secret) == 43  # 256 bits in base64
    assert secret != second.key.removeprefix(f"{second.id}_")
    assert first.digest == hash_key(first.key)
    key = add(catalog)
    stored = repr(catalog.list_keys())
    assert key not in stored
    assert key.split("_", 2)[2] not in stored


def test_a_key_of_the_catalog_is_found_until_it_is_revoked(catalog: Catalog) -> None:
    ring = Keyring(catalog, (), cache_seconds=3600)
    key = add(catalog, quota=KeyQuota(max_open_jobs=3))
    assert ring.cached(key) is None
    caller = ring.look_up(key)
    assert caller == Caller("alice", key[:11], Scope.SUBMIT, KeyQuota(max_open_jobs=3))
    assert ring.cached(key) == caller
    assert ring.look_up(key[:-1] + ("a" if key[-1] != "a" else "b")) is None
    catalog.revoke_key(key[:11])
    ring.forget(key[:11])
    assert ring.cached(key) is None
    assert ring.look_up(key) is None


def test_an_expired_key_is_not_believed_however_fresh_the_cache(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keyring(catalog, (), cache_seconds=3600)
    key = add(catalog, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert ring.look_up(key)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(hours=2)

    monkeypatch.setattr("service.access.keyring.datetime", Later)
    assert ring.cached(key) is None
    assert ring.look_up(key) is None


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/jobs", Scope.READ),
        ("HEAD", "/v1/matrices/x/zarr/y", Scope.READ),
        ("POST", "/v1/estimates", Scope.READ),
        ("POST", "/v1/jobs", Scope.SUBMIT),
        ("DELETE", "/v1/matrices/x", Scope.SUBMIT),
        ("PUT", "/v1/access/x/bob", Scope.SUBMIT),
        ("PATCH", "/something/new", Scope.SUBMIT),
        ("GET", "/v1/admin", Scope.ADMIN),
        ("GET", "/v1/admin/keys", Scope.ADMIN),
        ("POST", "/v1/admin/anything/new", Scope.ADMIN),
    ],
)
def test_what_a_request_needs(method: str, path: str, scope: Scope) -> None:
    assert required_scope(method, path) is scope
    including = [s for s in Scope if s.includes(scope)]
    assert including == list(Scope)[list(Scope).index(scope) :]


def test_rates_allow_a_burst_of_a_minute_and_then_a_steady_flow() -> None:
    now = 0.0
    rates = RequestRates(clock=lambda: now)
    assert [rates.wait_seconds("a", 30) for _ in range(30)] == [0.0] * 30
    assert rates.wait_seconds("a", 30) == pytest.approx(2.0)
    assert rates.wait_seconds("b", 30) == 0.0  # each key has its own
    now = 2.0
    assert rates.wait_seconds("a", 30) == 0.0
    assert rates.wait_seconds("a", 30) == pytest.approx(2.0)
    now = 1000.0
    assert [rates.wait_seconds("a", 30) for _ in range(31)] == [0.0] * 30 + [pytest.approx(2.0)]
