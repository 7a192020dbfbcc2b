"""Several users on one service: what each may see, share, end and use up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from service.access.keyring import hash_key
from service.cli.app import build
from service.client import ApiError, Client
from storage.catalog import Role
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram

OPERATOR = "gk_operator-of-the-test"
KERNEL = {"preset": "fc", "depth": 1}


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = offline_settings(
        tmp_path_factory.mktemp("tenants"),
        api_key_sha256=(hash_key(OPERATOR),),
        compute_block_rows=64,
        key_cache_seconds=3600.0,
    )
    with live_server(settings) as running:
        yield running


@pytest.fixture
def operator(tenants: LiveServer) -> Iterator[Client]:
    with tenants.client(api_key=OPERATOR) as client:
        yield client


class Users:
    """Clients of users by name, each with a key of its own."""

    def __init__(self, server: LiveServer, operator: Client) -> None:
        self.server = server
        self.operator = operator
        self.opened: list[Client] = []

    def __call__(self, owner: str, **given: object) -> Client:
        key = self.operator.create_key(owner, **given)["key"]  # type: ignore[arg-type]
        client = self.server.client(api_key=key)
        self.opened.append(client)
        return client


@pytest.fixture
def user(tenants: LiveServer, operator: Client) -> Iterator[Users]:
    users = Users(tenants, operator)
    yield users
    for client in users.opened:
        client.close()


def rows(seed: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


def kind_of(call: object, *arguments: object, **options: object) -> str:
    with pytest.raises(ApiError) as caught:
        call(*arguments, **options)  # type: ignore[operator]
    return f"{caught.value.status} {caught.value.kind}"


def test_users_do_not_see_each_other(user: Users, operator: Client, tenants: LiveServer) -> None:
    alice, bob = user("alice"), user("bob")
    data = alice.upload(rows(1)).id
    job = alice.gram(data, kernel=KERNEL).id
    matrix = put_sealed_gram(tenants, (8, 8))[0].id
    tenants.services.catalog.grant(matrix, "alice", Role.OWNER)
    for client, found in ((alice, True), (bob, False), (operator, True)):
        assert (data in {d.id for d in client.datasets()}) is found
        assert (job in {j.id for j in client.jobs()}) is found
        assert (matrix in {m.id for m in client.matrices()}) is found
    hidden = [
        (bob.dataset, data),
        (bob.delete_dataset, data),
        (bob.job, job),
        (bob.cancel, job),
        (bob.result, job),
        (bob.matrix, matrix),
        (bob.slice, matrix),
        (bob.delete_matrix, matrix),
        (bob.access, matrix),
        (partial(bob.gram, kernel=KERNEL), data),
        (bob.solve, matrix),
        (bob.estimate, {"type": "gram", "kernel": KERNEL, "x1": data}),
    ]
    assert {kind_of(*call) for call in hidden} == {"404 not-found"}
    assert kind_of(bob.share, matrix, "bob") == "404 not-found"
    with tenants.http(headers=bob._transport.headers) as http:
        of_job = ("events", "tiles", "preview.png", "plot.svg")
        of_matrix = ("zarr/zarr.json", "preview", "preview.png", "statistics")
        for path in (
            *(f"/v1/jobs/{job}/{what}" for what in of_job),
            *(f"/v1/matrices/{matrix}/{what}" for what in of_matrix),
        ):
            assert http.get(path).status_code == 404, path
    assert alice.job(job).document["owner"] == "alice"


def test_sharing_lets_read_and_nothing_else(user: Users, tenants: LiveServer) -> None:
    alice, bob = user("alice"), user("bob")
    data = alice.upload(rows(2)).id
    assert alice.share(data, "bob") == {"id": data, "owners": ["alice"], "readers": ["bob"]}
    assert bob.dataset(data).id == data
    assert bob.estimate({"type": "gram", "kernel": KERNEL, "x1": data})["admitted"]
    assert kind_of(bob.delete_dataset, data) == "403 forbidden"
    assert kind_of(bob.share, data, "carol") == "403 forbidden"
    assert alice.unshare(data, "bob")["readers"] == []
    assert kind_of(bob.dataset, data) == "404 not-found"
    alice.share(data, "*")
    assert user("carol", scope="read").dataset(data).id == data
    assert kind_of(alice.share, data, "../etc") in ("404 not-found", "422 invalid-request")


def test_what_two_have_asked_for_goes_with_the_second(user: Users, operator: Client) -> None:
    alice, bob = user("alice"), user("bob")
    data = alice.upload(rows(3)).id
    assert bob.upload(rows(3)).id == data
    job = alice.submit({"type": "gram", "kernel": KERNEL, "x1": data}, idempotency_key="same").id
    same = bob.submit({"type": "gram", "kernel": KERNEL, "x1": data}, idempotency_key="same").id
    assert same == job
    other = bob.submit(
        {"type": "gram", "kernel": {"preset": "fc", "depth": 2}, "x1": data},
        idempotency_key="mine",
    )
    # The key is bob's own: to alice it is new.
    assert alice.submit(
        {"type": "gram", "kernel": KERNEL, "x1": data}, idempotency_key="mine"
    ).id == (job)
    assert alice.access(job)["owners"] == ["alice", "bob"]
    assert not alice.cancel(job).document["cancelling"]
    assert alice.access(job) == {"id": job, "owners": ["bob"], "readers": ["alice"]}
    assert kind_of(alice.cancel, job) == "403 forbidden"
    bob.cancel(other.id)
    assert bob.wait(bob.cancel(job).id, timeout_seconds=20).state == "cancelled"
    alice.delete_dataset(data)
    assert kind_of(alice.dataset, data) == "404 not-found"
    assert bob.dataset(data).id == data
    bob.wait(other.id, timeout_seconds=20)
    bob.delete_dataset(data)
    assert kind_of(operator.dataset, data) == "404 not-found"


def test_scopes(user: Users, operator: Client) -> None:
    reader, admin = user("reader", scope="read"), user("second", scope="admin")
    assert list(reader.jobs()) == []
    assert reader.me()["scope"] == "read"
    assert kind_of(reader.upload, rows(4)) == "403 forbidden"
    assert kind_of(reader.gram, "ds-" + "0" * 32, kernel=KERNEL) == "403 forbidden"
    for client in (reader, user("dave")):
        assert kind_of(lambda c=client: list(c.keys())) == "403 forbidden"
        assert kind_of(client.create_key, "mallory", scope="admin") == "403 forbidden"
        assert kind_of(lambda c=client: list(c.audit())) == "403 forbidden"
    assert {k["owner"] for k in admin.keys("dave")} == {"dave"}
    assert operator.me()["owner"] == "operator"


def test_keys_end(user: Users, operator: Client) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    brief, victim = user("brief", expires_at=soon), user("victim")
    victim.me()  # in the cache for an hour
    found = next(iter(operator.keys("victim")))
    assert found["active"]
    assert "key" not in found
    assert not operator.revoke_key(found["id"])["active"]
    assert kind_of(victim.me) == "401 unauthorized"
    while datetime.now(UTC) <= soon:
        pass
    assert kind_of(brief.me) == "401 unauthorized"
    past = datetime.now(UTC) - timedelta(days=1)
    assert kind_of(operator.create_key, "late", expires_at=past) == "422 invalid-request"
    assert kind_of(operator.create_key, "Not A Name") == "422 invalid-request"
    assert kind_of(operator.revoke_key, "gk_ffffffff") == "404 not-found"


def test_quotas_refuse_with_numbers(user: Users, tenants: LiveServer) -> None:
    small = user("small", max_open_jobs=1, max_stored_bytes=40_000, max_matrix_rows=50)
    data = small.upload(rows(5)).id
    large = small.upload(rows(6, 51)).id
    job = small.gram(data, kernel=KERNEL)
    assert small.gram(data, kernel=KERNEL).id == job.id  # a repeat costs nothing
    with pytest.raises(ApiError) as caught:
        small.gram(data, kernel={"preset": "fc", "depth": 2})
    assert (caught.value.status, caught.value.kind) == (429, "too-many-jobs")
    assert caught.value.problem["max_open_jobs"] == 1
    small.wait(small.cancel(job.id).id, timeout_seconds=20)
    with pytest.raises(ApiError) as caught:
        small.gram(large, kernel=KERNEL)
    assert (caught.value.status, caught.value.problem["max_matrix_rows"]) == (403, 50)
    with pytest.raises(ApiError) as caught:
        small.upload(rows(7, 4000))
    assert (caught.value.kind, caught.value.problem["needed_bytes"]) == ("quota-exceeded", 48_000)
    refusal = small.estimate({"type": "gram", "kernel": KERNEL, "x1": large})["refusal"]
    assert refusal["kind"] == "quota-exceeded"
    assert small.me()["usage"]["open_jobs"] == 0


def test_a_key_has_a_request_rate(user: Users, tenants: LiveServer) -> None:
    limited = user("limited", max_requests_per_minute=5)
    with tenants.http(headers=limited._transport.headers) as http:
        answers = [http.get("/v1/me") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[-1].json()["kind"] == "too-many-requests"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
    assert user("limited").me()["owner"] == "limited"  # another key of the same owner


def test_the_audit_log_names_who_did_what(user: Users, operator: Client) -> None:
    eve = user("eve")
    data = eve.upload(rows(8)).id
    job = eve.gram(data, kernel=KERNEL).id
    eve.estimate({"type": "gram", "kernel": KERNEL, "x1": data})
    eve.cancel(job)
    kind_of(eve.create_key, "mallory")
    found = [(e["action"], e["thing"], e["status"]) for e in operator.audit("eve")]
    assert found == [
        ("POST /v1/admin/keys", "/v1/admin/keys", 403),
        ("DELETE /v1/jobs/{id}", f"/v1/jobs/{job}", 202),
        ("POST /v1/jobs", f"/v1/jobs/{job}", 202),
        ("POST /v1/datasets", f"/v1/datasets/{data}", 201),
    ]
    made = next(e for e in operator.audit("operator"))
    assert made["action"] == "POST /v1/admin/keys"
    assert made["thing"].startswith("/v1/admin/keys/gk_")


def test_the_commands(operator: Client, tenants: LiveServer) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        environment = {"GRAMIAN_URL": tenants.url, "GRAMIAN_API_KEY": OPERATOR}
        result = CliRunner().invoke(build(), list(arguments), env=environment)
        assert result.exit_code == code, result.output
        return result.output

    made = run("keys", "create", "frank", "--max-stored", "5GB", "--days", "30")
    key = made.split("GRAMIAN_API_KEY=")[1].split()[0]
    key_id = key[:11]
    assert f"{key_id}  frank  submit  active" in run("keys", "list", "--owner", "frank")
    with tenants.client(api_key=key) as frank:
        assert frank.me()["quota"]["max_stored_bytes"] == 5_000_000_000
        data = frank.upload(rows(9)).id
    assert '["frank"]' in run("share", data)
    assert "*" in run("share", data, "*")
    assert '"readers": []' in run("share", data, "*", "--end", "--json")
    assert "operator" in run("whoami")
    assert "POST /v1/datasets" in run("audit", "--owner", "frank")
    assert "revoked" in run("keys", "revoke", key)  # a whole key is cut to its beginning
    assert not any(k["active"] for k in operator.keys("frank"))
    run("keys", "create", "x", "--max-stored", "much", code=2)


def test_an_open_service_makes_no_keys(server: LiveServer) -> None:
    with server.client() as client:
        assert client.me()["owner"] == "local"
        assert kind_of(client.create_key, "alice") == "409 conflict"
