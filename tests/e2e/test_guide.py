"""The examples of the guide run as they are shown, and its pages are served as they should be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest

from service.guide.contents import PAGES

PAGES_FOLDER = Path(__file__).parents[2] / "service" / "guide" / "pages"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# All of them take a minute; these show that pages and service go together.
QUICK = {"index", "tutorial", "gram", "machines", "reference-cli"}


def _examples() -> list[object]:
    pages = [page.name for page in PAGES if page.generate is None]
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in pages]


@pytest.mark.parametrize("name", _examples())
def test_examples_run(
    name: str, shared_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = tmp_path / "bin" / "gramian"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m service.cli "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "GRAMIAN_URL": shared_url, "PATH": path}
    namespace: dict[str, object] = {"__name__": "guide"}
    for language, code in BLOCK.findall((PAGES_FOLDER / f"{name}.md").read_text()):
        assert language in ("python", "bash", "text"), f"{name}: a block in {language!r}"
        if language == "python":
            there = code.replace("Client()", f"Client({shared_url!r})")
            exec(compile(there, f"{name}.md", "exec"), namespace)
        elif language == "bash":
            done = subprocess.run(
                ["bash", "-ec", code], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr


class Links(HTMLParser):
    """Targets of links and pictures, ids, and the tags that were used."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.pictures_without_text = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag not in ("script", "style", "iframe", "object"), tag
        assert not any(name == "style" or name.startswith("on") for name in given), (tag, given)
        self.targets += [str(given[name]) for name in ("href", "src") if given.get(name)]
        if given.get("id"):
            assert given["id"] not in self.ids, f"{given['id']} is there twice"
            self.ids.add(str(given["id"]))
        if tag == "img" and not given.get("alt"):
            self.pictures_without_text += 1


def test_every_page_is_served_strictly_and_every_link_leads_somewhere(shared_url: str) -> None:
    with httpx2.Client(base_url=shared_url) as http:
        seen = {"/", "/docs"}  # the console and FastAPI's own page
        for page in PAGES:
            address = "/guide/" + ("" if page.name == "index" else page.name)
            answer = http.get(address)
            assert answer.status_code == 200, address
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            links = Links(answer.text)
            assert links.pictures_without_text == 0
            for target in links.targets:
                assert "://" not in target, f"{page.name} links to {target}"
                if target.startswith("#"):
                    assert target[1:] in links.ids, f"{page.name}: {target}"
                    continue
                full = target if target.startswith("/") else f"/guide/{target.removeprefix('./')}"
                if full not in seen:
                    assert http.get(full).status_code == 200, f"{page.name}: {target}"
                    seen.add(full)


def test_titles_in_the_navigation_are_those_of_the_pages() -> None:
    for page in PAGES:
        if page.generate is None:
            assert page.text({}).startswith(f"# {page.title}\n"), page.name
    assert {page.name for page in PAGES if page.generate is None} == {
        path.stem for path in PAGES_FOLDER.iterdir()
    }


def test_what_is_no_page_is_not_found(shared_url: str) -> None:
    with httpx2.Client(base_url=shared_url) as http:
        for name in ("nothing", "..%2Fsettings.py", "pages/gram.md", "render.py", "figures/x.svg"):
            assert http.get(f"/guide/{name}").status_code == 404, name
        assert http.get("/guide", follow_redirects=True).url.path == "/guide/"


def test_the_reference_names_every_task_route_and_setting(shared_url: str) -> None:
    from service.jobs.registry import TASK_TYPES
    from service.settings import ServiceSettings

    with httpx2.Client(base_url=shared_url) as http:
        tasks, rest, settings = (
            http.get(f"/guide/reference-{name}").text for name in ("tasks", "rest", "settings")
        )
        document = http.get("/openapi.json").json()
    assert all(f">{kind.name}</h2>" in tasks for kind in TASK_TYPES)
    assert all(f"GET {path}<" in rest for path, ops in document["paths"].items() if "get" in ops)
    assert all(f"<code>{name}</code>" in settings for name in ServiceSettings.model_fields)


@pytest.mark.slow
def test_the_pictures_are_those_that_the_program_draws() -> None:
    from service.guide.draw import figures

    folder = PAGES_FOLDER.parent / "figures"
    assert {path.name for path in folder.iterdir()} == set(figures())
    for name, draw in figures().items():
        assert (folder / name).read_bytes() == draw(), name
