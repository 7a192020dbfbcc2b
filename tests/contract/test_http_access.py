"""Who may talk to the service: keys, local pages, CORS, and the headers every answer carries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import zarr

from service.access.keyring import hash_key
from service.client import ApiError
from support.server import LiveServer, live_server, offline_settings, raw_request
from support.service_state import put_sealed_gram

KEYS = ("gk_first-key-of-the-test", "gk_second-key")
ORIGIN = "https://console.example.org"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A service with keys and one allowed browser origin."""
    settings = offline_settings(
        tmp_path_factory.mktemp("guarded"),
        api_key_sha256=tuple(map(hash_key, KEYS)),
        cors_origins=(ORIGIN,),
    )
    with live_server(settings) as running:
        yield running


PROTECTED = [
    "/v1",
    "/v1/jobs",
    "/v1/datasets",
    "/v1/matrices/mx-" + "0" * 32 + "/zarr/zarr.json",
    "/v1/kernels",
    "/openapi.json",
    "/docs",
    "/no/such/place",
    "/healthz/",
    "//healthz",
]


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic " + KEYS[0], KEYS[0]]
)
def test_nothing_is_told_without_a_key(guarded: LiveServer, path: str, header: str | None) -> None:
    # As written: a client would make `/` of `//healthz`.
    status, headers, body = raw_request(
        guarded, "GET", path, {} if header is None else {"Authorization": header}
    )
    assert status == 401
    assert json.loads(body)["kind"] == "unauthorized"
    assert headers["www-authenticate"] == "Bearer"


def test_probes_need_no_key(guarded: LiveServer) -> None:
    with guarded.http() as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        ready = http.get("/readyz")
    assert ready.status_code == 503
    checks = ready.json()["checks"]
    assert checks["catalog"]["ok"] is checks["store"]["ok"] is checks["runner"]["ok"] is True
    assert checks["scheduler"]["ok"] is False


def test_the_guide_needs_no_key_and_tells_only_what_the_program_is(guarded: LiveServer) -> None:
    settings = guarded.services.settings
    with guarded.http() as http:
        for page in ("", "gram", "reference-settings", "reference-rest", "style.css"):
            answer = http.get(f"/guide/{page}")
            assert answer.status_code == 200
            told = (str(settings.data_dir), settings.scheduler_address, *settings.api_key_sha256)
            assert not any(value in answer.text for value in told)
        assert http.post("/guide/").status_code == 401
    for path in ("/guidebook", "/guide/../v1/jobs", "/guide/%2e%2e/v1/jobs", "/guide//v1/jobs"):
        assert raw_request(guarded, "GET", path)[0] in (401, 404), path


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens_everything(guarded: LiveServer, key: str) -> None:
    with guarded.client(api_key=key) as client:
        assert client.about()["name"] == "gramian"
        assert list(client.jobs()) == []
    with guarded.client(api_key=key + "x") as client, pytest.raises(ApiError) as caught:
        client.about()
    assert (caught.value.status, caught.value.kind) == (401, "unauthorized")


def test_zarr_clients_send_the_key_as_a_header(guarded: LiveServer) -> None:
    manifest, arrays = put_sealed_gram(guarded)
    with guarded.client() as client:
        url = client.zarr_url(manifest.id)
    options = {"headers": {"Authorization": f"Bearer {KEYS[0]}"}}
    group = zarr.open(url, mode="r", storage_options=options)
    assert (group["ntk"][:] == arrays["ntk"]).all()


def test_cors_lets_the_named_origin_read_ranges(guarded: LiveServer) -> None:
    manifest, _ = put_sealed_gram(guarded, (24, 24))
    url = f"/v1/matrices/{manifest.id}/zarr/ntk/c/0/0"
    with guarded.http() as http:
        preflight = http.options(
            url,
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "range,authorization",
            },
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        response = http.get(
            url,
            headers={
                "Origin": ORIGIN,
                "Authorization": f"Bearer {KEYS[0]}",
                "Range": "bytes=0-3",
            },
        )
        assert response.status_code == 206
        exposed = response.headers["access-control-expose-headers"].lower()
        assert "content-range" in exposed
        assert "etag" in exposed
        foreign = http.get(url, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 422),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "["}, 403),
        ({"Host": "localhost:1234"}, 422),
    ],
)
def test_web_pages_cannot_use_an_open_local_service(
    http: httpx2.Client, headers: dict[str, str], status: int
) -> None:
    """A multipart form is the request that a foreign page can send without a preflight."""
    response = http.post("/v1/datasets", files={"y": ("y", b"")}, headers=headers)
    assert response.status_code == status, response.text
    if status == 403:
        assert response.json()["kind"] == "forbidden-origin"


def test_pages_of_the_service_itself_may(http: httpx2.Client, server: LiveServer) -> None:
    response = http.post("/v1/datasets", files={"y": ("y", b"")}, headers={"Origin": server.url})
    assert response.status_code == 422


def test_every_answer_has_a_request_id_and_a_duration(http: httpx2.Client) -> None:
    for path in ("/healthz", "/v1/jobs", "/nothing"):
        response = http.get(path)
        assert len(response.headers["x-request-id"]) == 16
        assert response.headers["server-timing"].startswith("app;dur=")
        assert "server" not in response.headers
    echoed = http.get("/healthz", headers={"X-Request-ID": "trace-7"})
    assert echoed.headers["x-request-id"] == "trace-7"
    forged = http.get("/healthz", headers={"X-Request-ID": "a b"})
    assert forged.headers["x-request-id"] != "a b"


def test_readiness_notices_a_store_that_cannot_be_written(
    server: LiveServer, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(server.services.blobs), "put", full)
    check = http.get("/readyz").json()["checks"]["store"]
    assert check == {"ok": False, "detail": "The store cannot be written: No space left on device."}


def test_a_second_service_on_the_same_folder_is_refused(server: LiveServer, tmp_path: Path) -> None:
    folder = server.services.settings.data_dir
    with (
        pytest.raises(RuntimeError, match="did not start"),
        live_server(offline_settings(tmp_path, data_dir=folder)),
    ):
        pytest.fail("two services work on one folder")
    with server.http() as http:
        assert http.get("/v1/jobs").status_code == 200
