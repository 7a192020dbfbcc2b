"""What the console must withstand: names that are markup, other origins, missing keys."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from service.access.keyring import hash_key
from service.console import CONTENT_SECURITY_POLICY
from support.browser import watched_page
from support.server import LiveServer, live_server, offline_settings, raw_request
from support.service_state import put_sealed_gram

OPERATOR = "operator-key-of-the-browser-tests"
HOSTILE = """<img src=x onerror="window.broken=1">'"><script>window.broken=1</script>&amp;"""

# Whether one of the elements has the text, as text.
SHOWS = """([selector, text]) =>
  [...document.querySelectorAll(selector)].some((element) => element.textContent.includes(text))"""


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("keyed")
    settings = offline_settings(folder, api_key_sha256=(hash_key(OPERATOR),))
    with live_server(settings) as running:
        yield running


@pytest.fixture(scope="module")
def hostile(keyed: LiveServer) -> dict[str, str]:
    """Things whose names, specs and errors try to become markup."""
    with keyed.client(api_key=OPERATOR) as client:
        data = client.upload(np.random.default_rng(0).random((30, 4)), name=HOSTILE).id
        job = client.gram(data, kernel={"preset": "fc", "depth": 1}).id
    provenance = {"request": {"kernel": {"preset": HOSTILE, HOSTILE: HOSTILE}, "x1": data}}
    names = ("ntk", "nngp")  # two, to have something to compare
    matrix = put_sealed_gram(keyed, (12, 12), provenance=provenance, names=names)[0].id
    catalog = keyed.services.catalog
    error = {"kind": HOSTILE, "message": HOSTILE, "advice": HOSTILE}
    catalog.append_event(job, "progress", {"phase": HOSTILE, "fraction": 0.5})
    catalog.save_progress(job, {"phase": HOSTILE, "fraction": 0.5, "workers": []})
    return {"data": data, "job": job, "matrix": matrix, "kind": error["kind"]}


def test_markup_in_names_is_shown_as_text(
    browser: Browser, keyed: LiveServer, hostile: dict[str, str]
) -> None:
    pages = {
        "/datasets": "tbody",
        f"/datasets/{hostile['data']}": "h1",
        "/new": "option",
        f"/matrices/{hostile['matrix']}": "h1",
        "/matrices": "tbody",
        f"/compare?a={hostile['matrix']}": "option",
    }
    with watched_page(browser, keyed.url) as console:
        page = console.open("/sign-in")
        page.get_by_label("API key").fill(OPERATOR)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("h1:has-text('Overview')")
        for path, selector in pages.items():
            page = console.open(path)
            page.wait_for_function(SHOWS, arg=[f"main {selector}", HOSTILE[-40:]])
            assert page.evaluate("window.broken") is None, path
            assert page.locator("main script, main img[src=x]").count() == 0, path
        page = console.open(f"/jobs/{hostile['job']}")
        page.wait_for_selector("dl.facts")
        assert page.evaluate("window.broken") is None


def test_an_error_text_is_shown_as_text(browser: Browser, keyed: LiveServer) -> None:
    """The service quotes what it refuses; a proxy may even answer with a page."""
    problem = {"kind": HOSTILE, "detail": HOSTILE, "advice": HOSTILE, "status": 422}
    with watched_page(browser, keyed.url) as console:
        console.expected_statuses.add(422)
        console.page.route("**/v1/datasets*", lambda route: route.fulfill(status=422, json=problem))
        page = console.open("/datasets")
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("<script>window.broken=1</script>")
        assert page.evaluate("window.broken") is None
        assert alert.locator("script, img").count() == 0


def test_without_a_key_there_is_only_the_sign_in_form(browser: Browser, keyed: LiveServer) -> None:
    with watched_page(browser, keyed.url) as console:
        console.expected_statuses.add(401)
        page = console.open("/matrices")
        page.get_by_label("API key").fill("not-a-key")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("This service needs an API key")
        page.get_by_label("API key").fill(OPERATOR)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Matrices")
        expect(page.get_by_text("operator (admin)")).to_be_visible()
        assert page.evaluate("localStorage.length") == 0
        assert page.evaluate("document.cookie") == ""
        assert OPERATOR not in page.content()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        assert page.evaluate("sessionStorage.length") == 0


def test_the_policy_stops_scripts_that_get_in(browser: Browser, keyed: LiveServer) -> None:
    """The second line of defence, should the first one ever be forgotten."""
    with watched_page(browser, keyed.url) as console:
        console.expected_statuses.add(401)
        page = console.open("/")
        page.evaluate(
            """() => {
              const script = document.createElement('script');
              script.textContent = 'window.broken = 1';
              document.body.append(script);
              const image = document.createElement('img');
              image.setAttribute('onerror', 'window.broken = 1');
              image.src = 'https://example.invalid/x.png';
              document.body.append(image);
            }"""
        )
        page.wait_for_function("window.violations.length >= 2")
        assert page.evaluate("window.broken") is None
        console.faults.clear()
        page.evaluate("window.violations.length = 0")


def test_files_are_public_the_api_is_not(keyed: LiveServer) -> None:
    with keyed.http() as http:
        for path in ("/", "/console/main.js", "/console/base.css", "/console/icon.svg"):
            answer = http.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            again = http.get(path, headers={"If-None-Match": answer.headers["ETag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = http.head(path)
            assert (head.status_code, head.content) == (200, b"")
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        for path in ("/v1/jobs", "/v1/me", "/docs", "/openapi.json", "/metrics"):
            assert http.get(path).status_code == 401, path
        for method in ("POST", "DELETE", "PUT"):
            assert http.request(method, "/").status_code == 401
        docs = http.get("/docs", headers={"Authorization": f"Bearer {OPERATOR}"})
        assert docs.status_code == 200
        assert "Content-Security-Policy" not in docs.headers


@pytest.mark.parametrize(
    "path",
    [
        *("/console/../settings.py", "/console/..%2fsettings.py", "/console/%2e%2e/settings.py"),
        *("/console/__init__.py", "/console/README.md", "/console/lib", "/console/lib/"),
        *("/console//etc/passwd", "/console/lib/../main.js", "/console/index.html%00.js"),
        *("/console/a/b/c.js", "/console/missing.js", "/console/"),
    ],
)
def test_nothing_else_is_served(keyed: LiveServer, path: str) -> None:
    status, headers, body = raw_request(keyed, "GET", path)
    assert status == 404, body[:200]
    assert headers["content-type"] == "application/problem+json"


def test_other_methods_are_refused_with_what_is_possible(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with live_server(offline_settings(tmp_path_factory.mktemp("open"))) as server:
        answer: httpx2.Response
        with server.http() as http:
            answer = http.post("/")
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET, HEAD"
