"""The console in a real browser, against a service with workers of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import Watched, tab_to, watched_page
from support.server import ServiceProcess

pytestmark = pytest.mark.cluster

SAMPLES, FEATURES, CLASSES = 600, 64, 3
ENTRY = (123, 456)
# Over a thousand tiles of it take a minute.
SLOW = {"preset": "fc", "depth": 300, "activation": "erf"}


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SAMPLES, FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def files(x: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", np.arange(SAMPLES) % CLASSES)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("console")
    settings = {"compute_block_rows": 64, "tile_rows": 64, "event_throttle_seconds": 0.0}
    with ServiceProcess(folder, n_workers=1, **settings, batch_seconds=0.05) as running:
        running.start()
        yield running


@pytest.fixture(scope="module")
def dataset(service: ServiceProcess, x: np.ndarray) -> str:
    with service.client() as client:
        return client.upload(x, (np.arange(SAMPLES) + 1) % CLASSES, name="train").id


@pytest.fixture(scope="module")
def many(service: ServiceProcess) -> str:
    with service.client() as client:
        return client.upload(np.random.default_rng(1).standard_normal((3000, 64))).id


@pytest.fixture(scope="module")
def gram(service: ServiceProcess, dataset: str) -> str:
    """A sealed Gram matrix; none of the flows computes this one."""
    with service.client() as client:
        return str(client.wait(client.gram(dataset, kernel={"preset": "fc", "depth": 2}).id).matrix)


@pytest.fixture
def console(browser: Browser, service: ServiceProcess) -> Iterator[Watched]:
    with watched_page(browser, service.url) as watched:
        yield watched


def shallow_ntk(x: np.ndarray, i: int, j: int) -> float:
    """NTK of one hidden ReLU layer, weight deviation sqrt(2), no bias: in float64, by hand."""
    a, b = x[i].astype(np.float64), x[j].astype(np.float64)
    scale = 2 / x.shape[1]
    size = scale * np.sqrt((a @ a) * (b @ b))
    angle = np.arccos(scale * (a @ b) / size)
    covariance = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    slope = (np.pi - angle) / (2 * np.pi)
    return float(2 * covariance + 2 * scale * (a @ b) * slope)


def shown_entry(page: Page) -> tuple[int, int, float]:
    """Row, column and value under the mark of the heat map."""
    readout = page.locator(".readout")
    expect(readout).to_have_text(re.compile(r"row \d+, column \d+: [-\d]"))
    row, column, value = re.findall(r"-?[\d.]+(?:e-?\d+)?", readout.inner_text())
    return int(row), int(column), float(value)


def test_from_upload_to_solve(console: Watched, files: Path, x: np.ndarray) -> None:
    page = console.open("/datasets")
    expect(page.get_by_text("No data sets yet")).to_be_visible()
    page.get_by_label("Samples").set_input_files(files / "x.npy")
    page.get_by_label("Targets").set_input_files(files / "y.npy")
    page.get_by_label("Name").fill("from the browser")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("from the browser")
    expect(page.get_by_role("img", name="Sample 1, target 1")).to_be_visible()
    first = page.get_by_role("row").nth(1).get_by_role("cell").nth(2)
    expect(first).to_have_text(f"{float(x[0, 0]):.4g}")
    console.picture("dataset")

    page.get_by_role("link", name="New job with it").click()
    submit = page.get_by_role("button", name="Submit")
    expect(submit).to_be_enabled()
    console.expected_statuses.add(422)  # of the estimate with depth 0
    page.get_by_label("depth", exact=True).fill("0")
    expect(page.get_by_text("greater than or equal to 1").first).to_be_visible()
    expect(submit).to_be_disabled()
    page.get_by_label("depth", exact=True).fill("1")
    expect(submit).to_be_enabled()
    console.picture("new-job")
    submit.click()

    page.wait_for_url("**/#/jobs/job-*")
    expect(page.locator(".job-state .badge")).to_contain_text("succeeded")
    tiles = 10 * 11 // 2
    expect(page.locator("canvas.tile-map")).to_have_attribute("data-done", str(tiles))
    seen = page.evaluate("window.tileCounts")
    assert seen == sorted(seen)
    assert seen[-1] == tiles
    assert len(set(seen)) > 1, "the map was never seen half full"
    expect(page.get_by_role("table", name="Tiles by worker")).to_be_visible()
    console.picture("job")

    page.get_by_role("link", name="Open the matrix").click()
    expect(page.locator("canvas.heat-map")).to_have_attribute("data-cell", re.compile(r"[1-9]"))
    console.picture("matrix")
    page.get_by_label("row", exact=True).fill(str(ENTRY[0]))
    page.get_by_label("column", exact=True).fill(str(ENTRY[1]))
    page.get_by_role("button", name="Go to the entry").click()
    expect(page.locator("canvas.heat-map")).to_have_attribute("data-cell", "1")
    row, column, value = shown_entry(page)
    assert (row, column) == ENTRY
    assert value == pytest.approx(shallow_ntk(x, *ENTRY), rel=1e-5)
    console.picture("matrix-entries")

    page.get_by_role("link", name="Solve with it").click()
    page.get_by_label("method").select_option("cg")
    page.get_by_label("ridge", exact=True).fill("0.01")
    expect(submit).to_be_enabled()
    submit.click()
    page.wait_for_url("**/#/jobs/job-*")
    expect(page.locator(".job-state .badge")).to_contain_text("succeeded")
    expect(page.get_by_role("img", name=re.compile("Relative residual"))).to_be_visible()
    expect(page.get_by_text("converged", exact=True)).to_be_visible()
    console.picture("solve")


def test_cancel_and_resume(console: Watched, service: ServiceProcess, many: str) -> None:
    """A job that would take minutes is stopped, and goes on from its finished tiles."""
    with service.client() as client:
        slow = client.gram(many, kernel=SLOW)
    page = console.open(f"/jobs/{slow.id}")
    state = page.locator(".job-state .badge")
    expect(state).to_contain_text("running")
    expect(page.locator("canvas.tile-map")).to_have_attribute("data-done", re.compile(r"[1-9]"))
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job?").click()
    expect(state).to_contain_text("cancelled")
    expect(page.locator("#announcer")).to_have_text("The job has been cancelled.")
    console.picture("cancelled")
    page.get_by_role("button", name="Resume").click()
    expect(state).to_contain_text(re.compile("queued|running"))
    assert slow.id not in page.url
    expect(page.get_by_text("found from before")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job?").click()
    expect(state).to_contain_text("cancelled")


def test_by_keyboard_alone(console: Watched, dataset: str, x: np.ndarray) -> None:
    page = console.open("/")
    keys = page.keyboard
    keys.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab_to(page, "New job")
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page, lambda name: name.startswith("x1"))
    keys.type("train")
    tab_to(page, lambda name: name.startswith("depth"))
    keys.type("1")
    tab_to(page, lambda name: name.startswith("dtype"))
    keys.press("End")  # float64: not the matrix of another test
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    tab_to(page, "Submit")
    keys.press("Enter")
    page.wait_for_url("**/#/jobs/job-*")
    expect(page.locator(".job-state .badge")).to_contain_text("succeeded")
    tab_to(page, "Open the matrix")
    keys.press("Enter")
    expect(page.locator("canvas.heat-map")).to_have_attribute("data-cell", re.compile(r"[1-9]"))
    tab_to(page, lambda name: name.startswith("ntk of"))
    keys.press("Enter")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        keys.press(key)
    expect(page.locator(".readout")).to_contain_text("row 2, column 1:")
    row, column, value = shown_entry(page)
    assert value == pytest.approx(shallow_ntk(x, row, column), rel=1e-8)
    keys.press("0")
    expect(page.locator("canvas.heat-map")).to_have_attribute("data-rows", f"0:{SAMPLES}")


def test_the_wheel_zooms_only_a_map_in_focus(console: Watched, gram: str) -> None:
    page = console.open(f"/matrices/{gram}")
    heat = page.locator("canvas.heat-map")
    expect(heat).to_have_attribute("data-cell", re.compile(r"[1-9]"))
    before = heat.get_attribute("data-scale")
    heat.hover()
    page.mouse.wheel(0, -300)
    assert heat.get_attribute("data-scale") == before
    page.mouse.wheel(0, 300)
    heat.click()
    page.mouse.wheel(0, -480)
    page.wait_for_function(
        "before => document.querySelector('canvas.heat-map').dataset.scale > 3 * before",
        arg=float(before or "nan"),
    )


@pytest.mark.slow
def test_compare(console: Watched, service: ServiceProcess, dataset: str, gram: str) -> None:
    with service.client() as client:
        other = str(
            client.wait(client.gram(dataset, kernel={"preset": "fc", "depth": 4}).id).matrix
        )
        values = [client.slice(matrix)[2, 1] for matrix in (gram, other)]
        full = [client.slice(matrix).astype(np.float64) for matrix in (gram, other)]
    page = console.open(f"/compare?a={gram}&b={other}")
    heat = page.locator("canvas.heat-map")
    expect(heat).to_have_attribute("data-cell", re.compile(r"[1-9]"))
    page.get_by_label("row", exact=True).fill("2")
    page.get_by_label("column", exact=True).fill("1")
    page.get_by_role("button", name="Go to the entry").click()
    expect(page.locator(".readout")).to_contain_text("row 2, column 1:")
    assert shown_entry(page)[2] == pytest.approx(float(values[0]) - float(values[1]), rel=1e-5)
    page.get_by_role("button", name="Compute Alignment").click()
    alignment = np.sum(full[0] * full[1]) / np.sqrt(np.sum(full[0] ** 2) * np.sum(full[1] ** 2))
    expect(page.get_by_text(f"{alignment:.6g}")).to_be_visible()
    console.picture("compare")


@pytest.mark.slow
def test_snippets_do_what_they_say(console: Watched, service: ServiceProcess, gram: str) -> None:
    with service.client() as client:
        corner = client.slice(gram)[:2, :2]
    page = console.open(f"/matrices/{gram}")
    for name in ("zarr", "NumPy", "xarray", "Python client"):
        code = page.get_by_label(name, exact=True).inner_text()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        if name != "xarray":
            assert str(corner) in done.stdout
    line = page.get_by_label("curl", exact=True).inner_text()
    done = subprocess.run(
        ["bash", "-c", f"{line} -sS --fail"], capture_output=True, text=True, check=True
    )
    assert f"{float(corner[0, 1])}" in done.stdout


@pytest.mark.slow
def test_a_service_that_goes_away_and_comes_back(
    browser: Browser, service: ServiceProcess, many: str
) -> None:
    """Last in this file: it restarts the service. The page goes on by itself."""
    with service.client() as client:
        slow = client.gram(many, kernel={**SLOW, "depth": 299})
    with watched_page(browser, service.url) as console:
        page = console.open(f"/jobs/{slow.id}")
        tiles = page.locator("canvas.tile-map")
        expect(tiles).to_have_attribute("data-done", re.compile(r"[1-9]"))
        service.kill()
        expect(page.get_by_text("The connection broke")).to_be_visible()
        service.start()
        expect(page.get_by_text("The connection broke")).to_be_hidden()
        with service.client() as client:
            client.cancel(slow.id)
        expect(page.locator(".job-state .badge")).to_contain_text("cancelled")
        # Chromium reports what could not be reached: that is the point here.
        console.faults[:] = [fault for fault in console.faults if "ERR_" not in fault]
