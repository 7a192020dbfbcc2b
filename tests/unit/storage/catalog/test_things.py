"""Data sets, matrices and rates: stored once, protected while in use."""

from __future__ import annotations

import math

import pytest

from storage.catalog import Catalog, JobEvent, MatrixState
from storage.errors import ConflictError, NotFoundError
from support.catalogs import add_dataset, create_job, ds, hex_digest, mx, tile


def test_a_data_set_is_stored_once(catalog: Catalog) -> None:
    info = {"id": ds("a"), "shape": [5, 2], "targets": None}
    first = catalog.add_dataset(info, "digits")
    assert (first.id, first.name, first.info) == (ds("a"), "digits", info)
    assert catalog.add_dataset(info, "another name") == first
    assert catalog.get_dataset(ds("a")) == first
    assert catalog.list_datasets() == ([first], None)


def test_unknown_things(catalog: Catalog) -> None:
    for ask in (
        lambda: catalog.get_dataset(ds("x")),
        lambda: catalog.delete_dataset(ds("x")),
        lambda: catalog.get_matrix(mx("x")),
        lambda: catalog.delete_matrix(mx("x")),
        lambda: catalog.seal_matrix(mx("x"), hex_digest("x"), 1),
    ):
        with pytest.raises(NotFoundError) as caught:
            ask()
        assert caught.value.advice


def test_bytes_of_everything_are_summed(catalog: Catalog) -> None:
    assert catalog.stored_bytes() == 0
    huge = 3 << 40  # beyond what PostgreSQL calls an integer
    catalog.add_dataset({"id": ds("a"), "stored_bytes": huge})
    catalog.add_dataset({"id": ds("b"), "stored_bytes": 5}, owner="alice")
    for name in ("begun", "sealed"):
        catalog.add_matrix(mx(name), "gram", {"id": mx(name)})
        catalog.add_tiles(mx(name), [tile(0, j, stored_bytes=70) for j in range(2)])
    catalog.seal_matrix(mx("sealed"), hex_digest("k"), 1000)
    assert catalog.stored_bytes() == huge + 5 + 140 + 1000
    assert catalog.usage("alice").stored_bytes == 5


def test_a_data_set_stays_while_an_open_job_reads_it(catalog: Catalog) -> None:
    x1 = add_dataset(catalog)
    job = create_job(catalog, task={"deep": [{"x1": x1}]})
    for event in (JobEvent.START, JobEvent.FAIL):
        with pytest.raises(ConflictError) as caught:
            catalog.delete_dataset(x1)
        assert caught.value.details == {"jobs": [job.id]}
        catalog.apply(job.id, event)
    catalog.delete_dataset(x1)
    with pytest.raises(NotFoundError):
        catalog.get_dataset(x1)
    assert catalog.get_job(job.id).inputs == (x1,)


def test_inputs_that_the_task_does_not_spell_out(catalog: Catalog) -> None:
    x1 = add_dataset(catalog)
    create_job(catalog, task={"dataset": "by name"}, inputs=[x1])
    with pytest.raises(ConflictError):
        catalog.delete_dataset(x1)


def test_a_data_set_stays_while_a_matrix_came_from_it(catalog: Catalog) -> None:
    x1 = add_dataset(catalog)
    catalog.add_matrix(mx("k"), "gram", {"id": mx("k"), "provenance": {"x1": x1}})
    with pytest.raises(ConflictError) as caught:
        catalog.delete_dataset(x1)
    assert caught.value.details == {"matrices": [mx("k")]}
    catalog.delete_matrix(mx("k"))
    catalog.delete_dataset(x1)


def test_a_matrix_from_start_to_seal(catalog: Catalog) -> None:
    manifest = {"id": mx("k"), "shape": (4, 4), "ridge": 0.1}
    building = catalog.add_matrix(mx("k"), "gram", manifest)
    assert building.manifest == {"id": mx("k"), "shape": [4, 4], "ridge": 0.1}
    assert (building.state, building.digest, building.sealed) == (MatrixState.BUILDING, None, False)
    assert catalog.add_matrix(mx("k"), "gram", manifest) == building

    sealed = catalog.seal_matrix(mx("k"), hex_digest("k"), 2**40)
    assert (sealed.state, sealed.digest, sealed.stored_bytes) == (
        MatrixState.SEALED,
        hex_digest("k"),
        2**40,
    )
    assert sealed.sealed_at is not None
    assert sealed.sealed_at >= building.created_at
    # A runner that was killed between sealing and finishing does both again.
    assert catalog.seal_matrix(mx("k"), hex_digest("k"), 2**40) == sealed
    assert catalog.add_matrix(mx("k"), "gram", manifest) == sealed
    assert catalog.get_matrix(mx("k")) == sealed
    assert catalog.list_matrices(state=MatrixState.SEALED)[0] == [sealed]
    assert catalog.list_matrices(state=MatrixState.BUILDING)[0] == []


def test_what_contradicts_a_matrix_is_refused(catalog: Catalog) -> None:
    manifest = {"id": mx("k"), "shape": [4, 4]}
    catalog.add_matrix(mx("k"), "gram", manifest)
    with pytest.raises(ConflictError, match="another manifest"):
        catalog.add_matrix(mx("k"), "gram", manifest | {"shape": [5, 5]})
    with pytest.raises(ConflictError, match="another manifest"):
        catalog.add_matrix(mx("k"), "solve", manifest)
    sealed = catalog.seal_matrix(mx("k"), hex_digest("k"), 10)
    with pytest.raises(ConflictError, match="another digest"):
        catalog.seal_matrix(mx("k"), hex_digest("other"), 10)
    assert catalog.get_matrix(mx("k")) == sealed


def test_a_matrix_stays_while_an_open_job_builds_or_reads_it(catalog: Catalog) -> None:
    matrix = mx("k")
    catalog.add_matrix(matrix, "gram", {"id": matrix})
    catalog.add_tiles(matrix, [tile(0, 0)])
    builder = create_job(catalog, "build", matrix_id=matrix)
    reader = create_job(catalog, "read", task={"matrix": matrix})
    with pytest.raises(ConflictError) as caught:
        catalog.delete_matrix(matrix)
    assert caught.value.details["jobs"] == sorted([builder.id, reader.id])

    catalog.apply(builder.id, JobEvent.CANCELLED)
    with pytest.raises(ConflictError):
        catalog.delete_matrix(matrix)
    catalog.apply(reader.id, JobEvent.CANCELLED)
    catalog.delete_matrix(matrix)
    assert catalog.tile_count(matrix) == 0
    assert catalog.list_matrices() == ([], None)


def test_numbers_that_json_does_not_have_are_refused(catalog: Catalog) -> None:
    with pytest.raises(Exception, match="JSON compliant"):
        catalog.add_dataset({"id": ds("a"), "mean": math.nan})
    assert catalog.list_datasets() == ([], None)


def test_rates_average_over_pairs(catalog: Catalog) -> None:
    assert catalog.rate("fc3/784/float32") is None
    catalog.record_rate("fc3/784/float32", 2e-9, 3_000_000_000_000)
    catalog.record_rate("fc3/784/float32", 6e-9, 1_000_000_000_000)
    catalog.record_rate("other", 1.0, 1)
    assert catalog.rate("fc3/784/float32") == pytest.approx(3e-9, rel=1e-12, abs=0)


@pytest.mark.parametrize(("seconds", "pairs"), [(math.nan, 1), (-1.0, 1), (1.0, 0), (math.inf, 1)])
def test_impossible_rates_are_refused(catalog: Catalog, seconds: float, pairs: int) -> None:
    with pytest.raises(ValueError, match="pairs"):
        catalog.record_rate("key", seconds, pairs)
    assert catalog.rate("key") is None
