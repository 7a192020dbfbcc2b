"""A real Chromium without a window, and what must never happen in a page of the console."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "console"

# Debian's Chromium; without a sandbox, because tests in containers run as root.
_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_WIDE = {"width": 1280, "height": 900}
# Only what never happens waits this long.
_PATIENCE_MS = 60_000

# Runs before any script of the page: what the policy blocked, and every count the tile map showed.
_WATCH = """
window.violations = [];
window.tileCounts = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
new MutationObserver((records) => {
  for (const { target } of records) window.tileCounts.push(Number(target.dataset.done));
}).observe(document, { subtree: true, attributes: true, attributeFilter: ['data-done'] });
"""


def find_chromium() -> str:
    """Path of the program; RuntimeError says what to install."""
    for name in ("chromium", "chromium-browser"):
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError(
        "These tests drive a browser and found no `chromium` on PATH. Install it: apt-get install"
        " chromium (the Debian package `chromium`)."
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and everything it did that a page of the console must not do."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    # Statuses that the test provokes: Chromium reports them on the console, too.
    expected_statuses: set[int] = field(default_factory=set)

    def open(self, path: str) -> Page:
        """Show a page of the console by its address after `#`, as if typed in."""
        self.page.goto(f"{self.url}/#{path}")
        shown = "hash => document.getElementById('main').dataset.page === hash"
        self.page.wait_for_function(shown, arg=f"#{path}")
        return self.page

    def picture(self, name: str) -> None:
        """Keep how the page looks, for people."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)

    def check(self) -> None:
        """Fails for errors, for requests to other origins and for what the policy blocked."""
        assert self.faults == []
        assert self.page.evaluate("window.violations ?? []") == []

    def on_message(self, message: Any) -> None:
        if message.type not in ("error", "warning"):
            return
        if any(f"status of {status} " in message.text for status in self.expected_statuses):
            return
        self.faults.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def on_request(self, request: Request) -> None:
        allowed = (f"{self.url}/", "data:", f"blob:{self.url}/")
        if not request.url.startswith(allowed):
            self.faults.append(f"a request to {request.url}")


@contextmanager
def watched_page(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """A page in a context of its own: no cookies, storage or cache of others. `check` is called at
    the end of a block that did not fail."""
    context: BrowserContext = browser.new_context(
        **{"viewport": _WIDE, "reduced_motion": "reduce", **options}
    )
    try:
        context.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        page = context.new_page()
        page.add_init_script(_WATCH)
        watched = Watched(page, url)
        page.on("console", watched.on_message)
        page.on("pageerror", lambda error: watched.faults.append(f"not caught: {error}"))
        page.on("request", watched.on_request)
        yield watched
        watched.check()
    finally:
        context.close()


def tab_to(page: Page, wanted: Callable[[str], bool] | str, *, most: int = 120) -> None:
    """Press Tab until the focus is on what is called so."""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        name = page.evaluate(
            """() => {
              const e = document.activeElement;
              return e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent;
            }"""
        ).strip()
        seen.append(name[:40])
        if name == wanted if isinstance(wanted, str) else wanted(name):
            return
    raise AssertionError(f"Tab never came to {wanted}: {seen}")
