"""Keys, owners, readers and the audit log, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage.catalog import (
    EVERYBODY,
    Catalog,
    JobEvent,
    KeyQuota,
    NotOwnerError,
    Role,
)
from storage.errors import NotFoundError
from support.catalogs import add_dataset, create_job, ds, hex_digest, mx, submit, tile


def owners(catalog: Catalog, thing: str) -> list[str]:
    return [g.grantee for g in catalog.grants_of(thing) if g.role is Role.OWNER]


def test_keys_are_listed_found_and_revoked(catalog: Catalog) -> None:
    expires = datetime.now(UTC) + timedelta(days=1)
    quota = KeyQuota(max_stored_bytes=2**40)
    made = catalog.add_key(
        id="gk_00000001",
        digest=hex_digest("one"),
        owner="alice",
        scope="read",
        created_by="operator",
        quota=quota,
        note="n",
        expires_at=expires,
    )
    catalog.add_key(
        id="gk_00000002", digest=hex_digest("two"), owner="bob", scope="admin", created_by="alice"
    )
    assert catalog.key_by_digest(hex_digest("one")) == catalog.get_key("gk_00000001") == made
    assert (made.quota, made.expires_at) == (quota, expires)
    assert catalog.key_by_digest(hex_digest("three")) is None
    assert [k.id for k in catalog.list_keys()[0]] == ["gk_00000002", "gk_00000001"]
    assert [k.id for k in catalog.list_keys(owner="alice")[0]] == ["gk_00000001"]
    assert made.active(datetime.now(UTC))
    assert not made.active(expires)
    ended = catalog.revoke_key("gk_00000001")
    assert not ended.active(datetime.now(UTC))
    assert catalog.revoke_key("gk_00000001") == ended
    for call in (catalog.revoke_key, catalog.get_key):
        with pytest.raises(NotFoundError):
            call("gk_0000000f")


def test_what_is_not_yours_does_not_exist(catalog: Catalog) -> None:
    catalog.add_dataset({"id": ds("a"), "stored_bytes": 10}, owner="alice")
    add_dataset(catalog, "nobody's")
    catalog.add_matrix(mx("a"), "gram", {"id": mx("a")})
    job = create_job(catalog, matrix_id=mx("a"), owner="alice").id
    for look, thing in (
        (catalog.get_dataset, ds("a")),
        (catalog.get_matrix, mx("a")),
        (catalog.get_job, job),
    ):
        assert look(thing, visible_to="alice") == look(thing)
        with pytest.raises(NotFoundError) as hidden:
            look(thing, visible_to="bob")
        with pytest.raises(NotFoundError) as absent:
            look(thing[:-8] + "0" * 8)
        assert str(hidden.value).replace(thing, "") == str(absent.value).replace(
            thing[:-8] + "0" * 8, ""
        )
    lists = (catalog.list_datasets, catalog.list_matrices, catalog.list_jobs)
    assert [len(f(visible_to="alice")[0]) for f in lists] == [1, 1, 1]
    assert [len(f(visible_to="bob")[0]) for f in lists] == [0, 0, 0]
    assert len(catalog.list_datasets()[0]) == 2
    things = [ds("a"), mx("a"), job, ds("nobody's")]
    assert catalog.unreadable(things, "alice") == [ds("nobody's")]
    assert catalog.unreadable(things, "bob") == sorted(things)


def test_sharing_with_one_and_with_everybody(catalog: Catalog) -> None:
    catalog.add_dataset({"id": ds("a"), "stored_bytes": 10}, owner="alice")
    catalog.grant(ds("a"), "bob", Role.READER)
    catalog.grant(ds("a"), "alice", Role.READER)  # an owner stays one
    assert catalog.get_dataset(ds("a"), visible_to="bob")
    assert owners(catalog, ds("a")) == ["alice"]
    assert not catalog.is_owner(ds("a"), "bob")
    assert catalog.withdraw_reader(ds("a"), "bob")
    assert not catalog.withdraw_reader(ds("a"), "bob")
    assert not catalog.withdraw_reader(ds("a"), "alice")
    assert catalog.unreadable([ds("a")], "bob")
    catalog.grant(ds("a"), EVERYBODY, Role.READER)
    assert catalog.get_dataset(ds("a"), visible_to="carol")


def test_many_who_ask_for_jobs_at_once_get_what_each_would_get_alone(catalog: Catalog) -> None:
    names = [f"n{n}" for n in range(600)]  # more than fit into one statement
    jobs = [
        create_job(catalog, name, task={"x1": add_dataset(catalog, name)}, owner=name).id
        for name in ("alice", "bob")
    ]
    catalog.grant(jobs[0], "carol", Role.READER)
    shared = create_job(catalog, "shared", owner="alice").id
    catalog.grant(shared, EVERYBODY, Role.READER)
    absent = shared[:-8] + "0" * 8
    readers = [None, "alice", "bob", "carol", *names]
    asked = [(job, reader) for job in (*jobs, shared, absent) for reader in readers]

    found = catalog.jobs_for(asked)
    allowed = {(jobs[0], "alice"), (jobs[0], "carol"), (jobs[1], "bob")}
    allowed |= {(job, None) for job in (*jobs, shared)} | {(shared, reader) for reader in readers}
    assert set(found) == allowed
    assert all(record == catalog.get_job(job) for (job, _), record in found.items())
    assert catalog.jobs_for([]) == {}


def test_the_same_request_has_several_owners_and_goes_with_the_last(catalog: Catalog) -> None:
    job = create_job(catalog, matrix_id=mx("m"), idempotency_key="k", owner="alice")
    again, created = submit(catalog, matrix_id=mx("m"), owner="bob")
    assert (again.id, created, again.owner) == (job.id, False, "alice")
    retried, _ = submit(catalog, matrix_id=mx("m"), idempotency_key="k", owner="carol")
    assert retried.id == job.id
    assert owners(catalog, job.id) == owners(catalog, mx("m")) == ["alice", "bob", "carol"]
    assert catalog.leave(job.id, "alice", keep_reading=True)
    assert catalog.leave(job.id, "carol")
    assert catalog.get_job(job.id, visible_to="alice")
    with pytest.raises(NotOwnerError):
        catalog.leave(job.id, "alice")
    assert not catalog.leave(job.id, "bob")
    assert owners(catalog, job.id) == ["bob"]


def test_deleting_a_thing_deletes_its_grants(catalog: Catalog) -> None:
    catalog.add_dataset({"id": ds("a"), "stored_bytes": 10}, owner="alice")
    catalog.add_matrix(mx("m"), "gram", {"id": mx("m")})
    catalog.grant(mx("m"), "alice", Role.OWNER)
    catalog.delete_matrix(mx("m"))
    catalog.delete_dataset(ds("a"))
    assert catalog.grants_of(mx("m")) == catalog.grants_of(ds("a")) == []


def test_usage_counts_what_is_owned_complete_or_not(catalog: Catalog) -> None:
    assert catalog.usage("alice").stored_bytes == 0
    catalog.add_dataset({"id": ds("a"), "stored_bytes": 10}, owner="alice")
    catalog.add_dataset({"id": ds("a"), "stored_bytes": 10}, owner="bob")
    catalog.add_dataset({"id": ds("b"), "stored_bytes": 100}, owner="bob")
    for name in ("sealed", "begun"):
        catalog.add_matrix(mx(name), "gram", {"id": mx(name)})
        catalog.add_tiles(mx(name), [tile(0, 0), tile(0, 1)])
        catalog.grant(mx(name), "alice", Role.OWNER)
    catalog.seal_matrix(mx("sealed"), hex_digest("s"), 2**40)
    catalog.grant(mx("sealed"), "bob", Role.READER)  # reading is not owning
    first = create_job(catalog, "1", owner="alice").id
    ended = create_job(catalog, "2", owner="alice").id
    catalog.apply(ended, JobEvent.CANCELLED)
    used = catalog.usage("alice")
    assert used.stored_bytes == 10 + 2**40 + 2000
    assert used.open_jobs == (first,)
    assert catalog.usage("bob").stored_bytes == 110


def test_the_audit_log_is_paged_newest_first_and_pruned(catalog: Catalog) -> None:
    for n in range(5):
        catalog.add_audit(
            owner="alice" if n % 2 else "bob",
            key_id="gk_00000001",
            action="POST /v1/jobs",
            thing=f"/v1/jobs/{n}",
            status=202,
            request_id=str(n),
        )
    seen, cursor = catalog.list_audit(3)
    rest, end = catalog.list_audit(3, cursor)
    assert [entry.request_id for entry in seen + rest] == ["4", "3", "2", "1", "0"]
    assert end is None
    assert {e.owner for e in catalog.list_audit(owner="bob")[0]} == {"bob"}
    assert catalog.prune_audit(rest[0].created_at) == 1
    assert len(catalog.list_audit()[0]) == 4
