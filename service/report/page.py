"""A report as one HTML document: no scripts, no requests, every foreign string escaped."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from service.pictures.line_chart import Axis, Curve, NothingToDrawError, line_chart
from service.report.collect import ArrayReport, Report
from service.report.markup import Markup, joined, table, tag

# Nothing may be fetched or run, whatever the page holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
:root{color-scheme:light dark;--line:#8884}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}
.wide{overflow-x:auto}table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0;font-weight:normal}
th{opacity:.75}td{overflow-wrap:anywhere}
pre{overflow-x:auto;padding:.6rem;border:1px solid var(--line);border-radius:6px;font-size:13px}
img{image-rendering:pixelated;width:min(100%,32rem);min-height:1rem;max-height:32rem;
object-fit:fill;border:1px solid var(--line)}
figure{margin:0}figcaption,.note{font-size:14px;opacity:.8}svg{max-width:100%}
"""

# Keys of estimates and the keys of summaries that tell what became of them.
_COMPARED = (
    ("tiles", "tiles"),
    ("seconds", "wall_seconds"),
    ("bytes_written", "stored_bytes"),
    ("peak_bytes_per_worker", None),
    ("flops", None),
    ("workers", None),
)


def page(report: Report) -> str:
    """The whole document."""
    job = report.job
    title = f"{job['type']} {job['id']}"
    body = joined(
        tag("h1", title),
        _facts(report),
        _section("What was asked", _asked(report)),
        _section("Estimate and actual", _estimate(report)),
        *(_array(array) for array in report.arrays),
        _section("Plot", Markup(report.plot)) if report.plot else Markup(""),
        _section("Summary", _scalars(report.summary)) if report.summary else Markup(""),
        _section("Tiles", _tiles(report.tiles)) if report.tiles else Markup(""),
        _section("Provenance", _provenance(report)),
        _section("Open it", _snippets(report)) if report.matrix else Markup(""),
        *(tag("p", f"Not in this report: {why}", class_="note") for why in report.missing),
        tag("p", f"Written {_time(report.moment)} by Gramian {report.version}.", class_="note"),
    )
    head = joined(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width"),
        tag("title", title),
        tag("style", Markup(_STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def _facts(report: Report) -> Markup:
    job, matrix = report.job, report.matrix or {}
    rows = [
        ("state", str(job["state"])),
        ("service", report.url),
        ("owner", str(job.get("owner") or "")),
        ("created", str(job["created_at"])),
        ("finished", str(job["finished_at"] or "")),
        ("matrix", str(job["matrix"] or "")),
        ("digest", str(matrix.get("digest") or "")),
        ("stored bytes", _shown(matrix.get("stored_bytes"))),
    ]
    if job["error"]:
        rows += [
            ("error", str(job["error"]["message"])),
            ("advice", str(job["error"]["advice"])),
        ]
    return table([row for row in rows if row[1]])


def _asked(report: Report) -> Markup:
    sets = [
        (
            str(found["name"] or found["id"]),
            str(found["id"]),
            " x ".join(map(str, found["shape"])),
            str(found["dtype"]),
            "none" if found["targets"] is None else str(found["targets"]["dtype"]),
        )
        for found in report.datasets
    ]
    head = ("data set", "id", "shape", "dtype", "targets")
    return joined(_json(report.job["task"]), table(sets, head=head) if sets else "")


def _estimate(report: Report) -> Markup:
    estimate, summary = report.job["estimate"] or {}, report.summary or {}
    actual = {"stored_bytes": (report.matrix or {}).get("stored_bytes"), **summary}
    if "wall_seconds" not in actual:
        actual["wall_seconds"] = _elapsed(report.job)
    rows = [
        (
            name.replace("_", " "),
            _shown(estimate.get(name)),
            _shown(actual.get(becomes)) if becomes else "",
        )
        for name, becomes in _COMPARED
        if estimate.get(name) is not None
    ]
    note = f"The estimate rests on: {estimate.get('basis', 'nothing')}."
    return joined(table(rows, head=("", "estimate", "actual")), tag("p", note, class_="note"))


def _array(array: ArrayReport) -> Markup:
    info = array.info
    shape = " x ".join(map(str, info["shape"]))
    half = ", symmetric" if info["symmetric"] else ""
    parts: list[Markup] = [tag("p", f"{shape} {info['dtype']}{half}")]
    if array.picture is not None:
        parts.append(_picture(str(info["name"]), array.picture.png, array.picture.about))
    if array.statistics is not None:
        parts += [_statistics(array.statistics), _histogram(array.statistics["histogram"])]
    parts += [tag("p", why, class_="note") for why in array.missing]
    return _section(f"Array {info['name']}", *parts)


def _picture(name: str, png: bytes, about: Mapping[str, str]) -> Markup:
    low, _, high = about.get("scale", "").partition(",")
    rows, columns = about["cell"], about["cell-columns"]
    what = "one entry" if rows == columns == "1" else f"the mean of {rows} x {columns} entries"
    caption = (
        f"Each pixel is {what}; dark is {_shown(_number(low))}, bright is {_shown(_number(high))}."
    )
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    image = tag("img", src=source, alt=f"Heat map of {name}")
    return tag("figure", image, tag("figcaption", caption))


def _statistics(found: Mapping[str, Any]) -> Markup:
    diagonal = found["diagonal"] or {}
    rows = [
        ("minimum", _shown(found["minimum"])),
        ("maximum", _shown(found["maximum"])),
        ("not finite", _shown(found["nonfinite"])),
        ("diagonal, mean", _shown(diagonal.get("mean"))),
        ("trace", _shown(diagonal.get("trace"))),
    ]
    return table([row for row in rows if row[1]])


def _histogram(found: Mapping[str, Any]) -> Markup:
    edges, counts = found["edges"], found["counts"]
    points = [
        (x, float(count))
        for (low, high), count in zip(pairwise(edges), counts, strict=True)
        for x in (low, high)
    ]
    title = f"Histogram of {found['of']}"
    try:
        drawn = line_chart(
            title, Axis("value"), Axis("number"), [Curve("number", points)], standalone=False
        )
    except NothingToDrawError:
        return Markup("")
    return Markup(drawn)


def _tiles(tiles: Mapping[str, Any]) -> Markup:
    done, total = tiles["tiles_done"], tiles["tiles_total"]
    rows = [
        ("done", f"{done} of {total}"),
        ("rows per tile", _shown(tiles["tile_rows"])),
        ("seconds of work", _shown(tiles["tile_seconds"])),
        ("seconds per tile", _shown(tiles["tile_seconds"] / done if done else None)),
    ]
    workers = [
        (str(w["worker"]), _shown(w["tiles"]), _shown(w["seconds"])) for w in tiles["workers"]
    ]
    failures = [
        (str(tuple(f["tile"])), str(f["at"]), str(f["kind"]), str(f["message"]))
        for f in tiles["failures"]
    ]
    return joined(
        table(rows),
        table(workers, head=("worker", "tiles", "seconds")) if workers else "",
        table(failures, head=("failed tile", "when", "kind", "why")) if failures else "",
    )


def _scalars(summary: Mapping[str, Any]) -> Markup:
    """Numbers and words; histories and tables are left to the result itself."""
    rows = [
        (name.replace("_", " "), value if isinstance(value, str) else _shown(value))
        for name, value in summary.items()
        if isinstance(value, str | int | float)
    ]
    return table(rows)


def _provenance(report: Report) -> Markup:
    if report.matrix is None:
        return tag("p", "The job makes no matrix; its summary is all.")
    return _json(report.matrix["provenance"])


def _snippets(report: Report) -> Markup:
    assert report.matrix is not None
    name, matrix = str(report.matrix["arrays"][0]["name"]), str(report.matrix["id"])
    url = f"{report.url}/v1/matrices/{matrix}"
    python = (
        f"import zarr\n\nk = zarr.open({url + '/zarr'!r}, mode='r')[{name!r}]\n"
        "print(k.shape, k[:2])\n\n"
        "from service.client import Client\n\n"
        f"with Client({report.url!r}) as client:\n"
        f"    print(client.slice({matrix!r}, array={name!r}, rows=slice(0, 2)))\n"
    )
    shell = (
        f"gramian fetch {matrix} --array {name} --url {report.url}\n"
        f"curl -H 'Accept: application/json' '{url}/slice?array={name}&rows=0:2'\n"
    )
    return joined(tag("pre", python), tag("pre", shell))


def _section(title: str, *content: str) -> Markup:
    return tag("section", tag("h2", title), *content)


def _json(document: Any) -> Markup:
    return tag("pre", json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))


def _number(text: str) -> float | None:
    return float(text) if text else None


def _shown(value: Any) -> str:
    """A number for people; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (abs(value) < 1e15 and value == math.floor(value)):
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.6g}"


def _elapsed(job: Mapping[str, Any]) -> float | None:
    started, finished = job.get("started_at"), job.get("finished_at")
    if not started or not finished:
        return None
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
