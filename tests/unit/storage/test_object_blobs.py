"""What is particular about stores in a bucket: their URL, their errors, their check."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Mapping

import numpy as np
import pytest
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore

from storage import datasets, open_matrix
from storage.blobs import BlobStore, open_blobs
from storage.errors import (
    InvalidKeyError,
    MissingExtraError,
    StoreRefusedError,
    StoreUnavailableError,
)
from storage.object_blobs import ObjectBlobs
from storage.s3_location import S3Location, parse_s3_url
from support.matrices import sealed_gram
from support.s3 import S3Server
from support.server import free_port

AWS_ENVIRONMENT = {"AWS_ENDPOINT_URL": "http://minio:9000/", "AWS_REGION": "eu-central-1"}


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("s3://data", {}, S3Location("data")),
        ("s3://data/a/b/", {}, S3Location("data", "a/b")),
        (
            "s3://data/a",
            AWS_ENVIRONMENT,
            S3Location("data", "a", "http://minio:9000", "eu-central-1"),
        ),
        (
            "s3://data/a?endpoint=https://other:1&region=r1&timeout_seconds=5&retry_seconds=0",
            AWS_ENVIRONMENT,
            S3Location("data", "a", "https://other:1", "r1", 5.0, 0.0),
        ),
        (
            "s3://data",
            {"AWS_ENDPOINT_URL_S3": "https://s3:1", "AWS_ENDPOINT_URL": "https://all:1"},
            S3Location("data", endpoint="https://s3:1"),
        ),
    ],
)
def test_urls_say_where_and_the_environment_what_they_leave_open(
    url: str, environment: Mapping[str, str], expected: S3Location
) -> None:
    found = parse_s3_url(url, environment)
    assert found == expected
    # What travels to workers needs nothing of this environment.
    assert parse_s3_url(found.url, {}) == found


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://key:secret@bucket/x", "AWS_ACCESS_KEY_ID"),
        ("s3:///x", "not the name of a bucket"),
        ("s3://Bucket/x", "not the name of a bucket"),
        ("s3://bucket/../x", "prefix"),
        ("s3://bucket/a b", "prefix"),
        ("s3://bucket?secret=1", "no option"),
        ("s3://bucket?endpoint", "name=value"),
        ("s3://bucket?endpoint=minio:9000", "endpoint"),
        ("s3://bucket?endpoint=http://key:secret@minio", "endpoint"),
        ("s3://bucket?region=a/b", "region"),
        ("s3://bucket?timeout_seconds=0", "timeout_seconds"),
        ("s3://bucket?retry_seconds=soon", "retry_seconds"),
    ],
)
def test_urls_that_name_no_store_are_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidKeyError, match=reason) as caught:
        open_blobs(url)
    assert "secret@" not in caught.value.message


def plain_store(s3: S3Server, bucket: str, prefix: str | None = None) -> S3Store:
    return S3Store(
        bucket,
        prefix=prefix,
        endpoint=s3.endpoint,
        region="us-east-1",
        client_options={"allow_http": True},
    )


def test_a_store_travels_as_its_url_and_pickles(s3: S3Server) -> None:
    blobs = open_blobs(s3.store_url())
    blobs.put("a", b"x")
    assert open_blobs(blobs.url) == blobs == pickle.loads(pickle.dumps(blobs))
    assert open_blobs(blobs.url).get("a") == b"x"
    assert blobs.path("a") is None
    assert blobs.free_bytes() is None
    assert "nothing-secret" not in blobs.url


def test_the_url_goes_before_the_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = open_blobs(s3.store_url()).url
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_REGION", "elsewhere-1")
    open_blobs(url).check()


def test_two_prefixes_of_a_bucket_do_not_meet(s3: S3Server) -> None:
    bucket = s3.bucket()
    one, more = (open_blobs(s3.url(bucket, prefix)) for prefix in ("one", "one-more"))
    whole = open_blobs(s3.url(bucket, ""))
    one.put("m/a", b"1")
    more.put("m/a", b"2")
    assert sorted(whole.list("one")) == ["one/m/a"]
    one.delete_prefix("m")
    assert list(one.list("m")) == []
    assert whole.get("one-more/m/a") == b"2"


@pytest.mark.slow
def test_more_objects_than_one_request_lists_or_deletes(s3: S3Server) -> None:
    blobs = open_blobs(s3.store_url())
    names = [f"m/{n}" for n in range(1001)]
    for name in names:
        blobs.put(name, b"")
    assert sorted(blobs.list("m")) == sorted(names)
    blobs.delete_prefix("m")
    assert list(blobs.list("m")) == []


def test_foreign_objects_are_not_listed(s3: S3Server) -> None:
    bucket = s3.bucket()
    blobs = open_blobs(s3.url(bucket, ""))
    blobs.put("m/a", b"x")
    plain_store(s3, bucket).put("m/.tmp-1/b", b"y")
    assert list(blobs.list("m")) == ["m/a"]


def actions(blobs: BlobStore) -> list[object]:
    return [
        blobs.check,
        lambda: blobs.put("a", b"x"),
        lambda: blobs.put_if_absent("a", b"x"),
        lambda: blobs.get("a"),
        lambda: blobs.get("a", start=0, stop=2),
        lambda: blobs.delete("a"),
    ]


def test_a_bucket_that_is_not_there_is_named(s3: S3Server) -> None:
    blobs = open_blobs(s3.url("never-made"))
    listing = [lambda: list(blobs.list("a")), lambda: blobs.delete_prefix("a")]
    for action in [*actions(blobs), *listing]:
        with pytest.raises(StoreRefusedError, match="no bucket 'never-made'") as caught:
            action()
        assert caught.value.advice


def test_a_bucket_that_may_not_be_used_is_named(s3: S3Server) -> None:
    bucket = s3.bucket()
    s3.deny_everything(bucket)
    blobs = open_blobs(s3.url(bucket))
    for action in [*actions(blobs), lambda: blobs.size("a")]:
        with pytest.raises(StoreRefusedError, match="denies access") as caught:
            action()
        assert "AWS_ACCESS_KEY_ID" in caught.value.advice


def test_a_server_that_is_away_is_given_up_in_time() -> None:
    blobs = open_blobs(f"s3://bucket/x?endpoint=http://127.0.0.1:{free_port()}&retry_seconds=1")
    started = time.monotonic()
    for action in [blobs.check, lambda: blobs.get("a"), lambda: blobs.size("a")]:
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1") as caught:
            action()
        assert not isinstance(caught.value, StoreRefusedError)
    assert time.monotonic() - started < 30


def test_a_server_without_conditional_writes_is_refused(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite(self: ObjectBlobs, key: str, data: bytes) -> bool:
        self.put(key, data)  # what a server does that does not know If-None-Match
        return True

    blobs = open_blobs(s3.store_url())
    monkeypatch.setattr(ObjectBlobs, "put_if_absent", overwrite)
    with pytest.raises(StoreRefusedError, match="If-None-Match"):
        blobs.check()
    assert list(blobs.list("probes")) == []


def test_without_the_extra_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match="obstore") as caught:
        open_blobs("s3://bucket/prefix")
    assert "gramian[s3]" in caught.value.advice


def test_local_stores_load_nothing_of_it() -> None:
    code = (
        "import sys, tempfile\n"
        "from storage.blobs import open_blobs\n"
        "from service.settings import ServiceSettings\n"
        "open_blobs(tempfile.mkdtemp()).put('a', b'x')\n"
        "assert not {'obstore', 'storage.object_blobs'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plain_zarr_reads_the_bucket(s3: S3Server) -> None:
    bucket = s3.bucket()
    blobs = open_blobs(s3.url(bucket, "kept"))
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    info = datasets.ingest(blobs, x)
    manifest, arrays = sealed_gram(blobs, (37, 53), symmetric=False)
    symmetric, whole = sealed_gram(blobs, (40, 40))

    def opened(prefix: str) -> zarr.Group:
        store = plain_store(s3, bucket, prefix=f"kept/{prefix}")
        return zarr.open_group(ObjectStore(store, read_only=True), mode="r")

    np.testing.assert_array_equal(opened(f"datasets/{info.id}")["samples"][...], x)
    np.testing.assert_array_equal(opened(f"matrices/{manifest.id}")["ntk"][...], arrays["ntk"])
    np.testing.assert_array_equal(open_matrix(blobs.url, symmetric.id)["ntk"][...], whole["ntk"])
