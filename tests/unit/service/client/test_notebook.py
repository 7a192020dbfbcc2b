"""What notebooks show: escaped, self-contained, and alive without ipywidgets."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from service.client.html import job_html
from service.client.models import Job, Matrix
from service.client.progress import NotebookBar, job_bar

EVIL = "<script>alert(1)</script>\"'&"


class Tags(HTMLParser):
    """The tags and the text of a document; fails on anything that loads or runs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"table", "caption", "tbody", "tr", "th", "td", "code", "progress"}
        assert {name for name, _ in attrs} <= {"style", "max", "value"}

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def _job(**changes: Any) -> Job:
    document = {
        "id": "job-" + "1" * 32,
        "type": "gram",
        "state": "succeeded",
        "matrix": "mx-" + "2" * 32,
        "error": None,
        "progress": None,
        "task": {"type": "gram", "kernel": {"preset": "fc", "depth": 3}, "x1": "ds-1"},
    }
    return Job.of(document | changes)


def test_a_finished_job_says_what_is_stored():
    matrix = Matrix.of(
        {
            "id": "mx-" + "2" * 32,
            "kind": "gram",
            "state": "sealed",
            "digest": "ab" * 32,
            "stored_bytes": 18_874_440,
            "arrays": [{"name": "ntk", "shape": [4000, 4000], "dtype": "float32"}],
        }
    )
    text = Tags(job_html(_job(), matrix)).text
    for part in ("4000 × 4000 float32", "18.9 MB", "ab" * 32, '{"preset": "fc", "depth": 3}'):
        assert part in text


def test_what_users_wrote_is_escaped():
    error = {"kind": "x", "message": EVIL, "advice": EVIL}
    job = _job(state="failed", error=error, matrix=None, task={"kernel": {"preset": EVIL}})
    shown = job_html(job, None)
    assert "<script" not in shown
    assert Tags(shown).text.count(EVIL) == 2


def test_the_notebook_bar_replaces_one_line():
    class Shown:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def update(self, value: Any) -> None:
            self.seen.append(value._repr_html_())

    shown = Shown()
    bar = NotebookBar("gram job-1", lambda value, display_id: shown)
    bar.update("state", {"state": "running"})
    bar.update("progress", {"fraction": 0.5, "tiles_done": 2, "tiles_total": 4, "phase": EVIL})
    bar.update("state", {"state": "succeeded"})
    assert "2/4 tiles" in Tags(shown.seen[1]).text
    assert "value='0.5000'" in shown.seen[1]
    assert "value='1.0000'" in shown.seen[2]


def test_no_bar_where_nobody_can_see_it_move(capsys: Any):
    with job_bar("gram") as update:
        update("progress", {"fraction": 0.5})
    assert capsys.readouterr() == ("", "")
