"""Every page of the console: names, headings, contrast, order of the focus, widths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from support.browser import Watched, watched_page
from support.experiments import EXPERIMENT, leave_result
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram
from workers.kernels.spec import parse_kernel

LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3
WIDTHS = {"wide": 1280, "narrow": 390}
CONTROLS = {
    *("button", "link", "textbox", "combobox", "checkbox", "radio", "spinbutton", "application"),
    *("img", "progressbar", "meter", "table", "region", "navigation", "radiogroup"),
}

# Text against what lies behind it, colours mixed by their transparency: the ratios below the limit.
CONTRASTS = """(least) => {
  const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = color;
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(rgba(getComputedStyle(e).backgroundColor));
    }
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    const page = dark ? [18, 18, 18] : [255, 255, 255];
    return layers.reverse().reduce((below, layer) => over(layer, below), page);
  };
  const luminance = (color) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = color.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.nodeValue.trim();
    if (!text || !element.checkVisibility()) continue;
    if (element.closest('.visually-hidden, option, title')) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const below = behind(element);
    const color = over(rgba(element instanceof SVGElement ? style.fill : style.color), below);
    const [a, b] = [luminance(color), luminance(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) found.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  return { texts, found };
}"""

STRUCTURE = """() => {
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  const shown = (e) => e.checkVisibility();
  const headings = [...document.querySelectorAll('h1, h2, h3, h4')].filter(shown);
  const levels = headings.map((e) => Number(e.tagName[1]));
  return {
    levels,
    twice: ids.filter((id, i) => ids.indexOf(id) !== i),
    dangling: [...document.querySelectorAll('[aria-describedby], [for]')]
      .flatMap((e) => (e.getAttribute('aria-describedby') ?? e.htmlFor).split(' '))
      .filter((id) => !document.getElementById(id)),
    positive: [...document.querySelectorAll('[tabindex]')].filter((e) => e.tabIndex > 0).length,
    mains: document.querySelectorAll('main').length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    inline: document.querySelectorAll('[style]:not(canvas), script:not([src]), style').length,
  };
}"""

# Whether the element in focus comes after the one before, and shows that it has the focus.
FOCUS = """() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  const style = getComputedStyle(element);
  const forward = !window.before ||
    Boolean(window.before.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING);
  window.before = element;
  const marked = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  return { name: element.outerHTML.slice(0, 80), forward, marked };
}"""


@dataclass(frozen=True)
class Place:
    path: str
    ready: str  # a selector of what the page shows last


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = offline_settings(tmp_path_factory.mktemp("console"), compute_block_rows=64)
    with live_server(settings) as running:
        yield running


@pytest.fixture(scope="module")
def places(server: LiveServer) -> dict[str, Place]:
    """Every page, on a service with something of everything."""
    rng = np.random.default_rng(0)
    kernel = parse_kernel({"preset": "fc", "depth": 1}).canonical()
    leave_result(server.services.settings.data_dir)
    with server.client() as client:
        images = client.upload(rng.random((20, 8, 8, 3)).astype(np.float32), name="images").id
        rows = client.upload(rng.standard_normal((120, 64)), np.arange(120) % 3, name="rows").id
        request = {"request": {"kernel": kernel, "x1": rows}}
        names = ("ntk", "nngp")
        gram = put_sealed_gram(server, (120, 120), provenance=request, names=names)[0].id
        job = client.gram(rows, kernel={"preset": "fc", "depth": 2}).id
    return {
        "overview": Place("/", "tbody tr"),
        "new-job": Place(f"/new?x1={rows}", ".estimate"),
        "new-analysis": Place("/new?type=analysis", "#variant-analysis"),
        "datasets": Place("/datasets", "tbody tr"),
        "dataset": Place(f"/datasets/{images}", ".pictures canvas"),
        "job": Place(f"/jobs/{job}", "canvas.tile-map"),
        "matrices": Place("/matrices", "tbody tr"),
        "matrix": Place(f"/matrices/{gram}", ".chart"),
        "compare": Place(f"/compare?a={gram}&b={gram}&b_array=nngp", "canvas.heat-map[data-cell]"),
        "experiments": Place("/experiments", "tbody a"),
        "experiment": Place(f"/experiments/{EXPERIMENT}", "img.drawing"),
        "sign-in": Place("/sign-in", "#key"),
        "nothing": Place("/no-such-page", "main a"),
    }


def show(console: Watched, place: Place) -> Page:
    page = console.open(place.path)
    page.wait_for_selector(place.ready)
    return page


def names(page: Page) -> list[tuple[str, str]]:
    """(role, name) of everything that Chromium's accessibility tree shows."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read(
    browser: Browser, server: LiveServer, places: dict[str, Place], scheme: str
) -> None:
    with watched_page(browser, server.url, color_scheme=scheme) as console:
        for name, place in places.items():
            page = show(console, place)
            contrasts = page.evaluate(CONTRASTS, LEAST_CONTRAST)
            assert contrasts["found"] == [], name
            assert contrasts["texts"] > 8, name
            for width, pixels in WIDTHS.items():
                page.set_viewport_size({"width": pixels, "height": 900})
                console.picture(f"{name}-{scheme}-{width}")


def test_every_page_has_names_headings_and_landmarks(
    browser: Browser, server: LiveServer, places: dict[str, Place]
) -> None:
    with watched_page(browser, server.url) as console:
        for name, place in places.items():
            page = show(console, place)
            found = names(page)
            nameless = [role for role, text in found if role in CONTROLS and not text.strip()]
            assert nameless == [], name
            roles = [role for role, _ in found]
            assert {"banner", "main", "navigation", "heading", "link"} <= set(roles), name
            structure = page.evaluate(STRUCTURE)
            levels = structure.pop("levels")
            assert levels[0] == 1, name
            assert levels.count(1) == 1, name
            assert all(b <= a + 1 for a, b in pairwise(levels)), (name, levels)
            assert structure["mains"] == 1
            assert structure["overflow"] <= 0, name
            for fault in ("twice", "dangling"):
                assert structure[fault] == [], name
            for fault in ("positive", "inline"):
                assert structure[fault] == 0, name
            page.set_viewport_size({"width": WIDTHS["narrow"], "height": 900})
            assert page.evaluate(STRUCTURE)["overflow"] <= 0, f"{name} is wider than a phone"
            page.set_viewport_size({"width": WIDTHS["wide"], "height": 900})


def test_the_focus_moves_in_reading_order_and_is_seen(
    browser: Browser, server: LiveServer, places: dict[str, Place]
) -> None:
    with watched_page(browser, server.url) as console:
        for name in ("overview", "new-job", "matrix"):
            page = show(console, places[name])
            stops = 0
            while True:
                page.keyboard.press("Tab")
                stop = page.evaluate(FOCUS)
                if stop is None or (stops and not stop["forward"]):
                    break  # around: the next one would be the browser's own
                assert stop["marked"], stop["name"]
                stops += 1
                assert stops < 200
            assert stops >= 10, name


def test_the_page_begins_anew_at_its_heading(browser: Browser, server: LiveServer) -> None:
    """What a screen reader needs where no document is loaded."""
    with watched_page(browser, server.url) as console:
        page = console.open("/")
        page.get_by_role("link", name="Data sets", exact=True).first.click()
        page.wait_for_selector("h1:focus")
        assert page.title() == "Data sets – Gramian"
        assert page.locator("#announcer").inner_text() == "Data sets"
        assert page.locator("nav [aria-current=page]").inner_text() == "Data sets"
        page.go_back()
        page.wait_for_selector("h1:has-text('Overview')")
