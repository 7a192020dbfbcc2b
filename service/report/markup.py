"""HTML in which every string is escaped unless it was made here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


_VOID = frozenset({"meta", "img", "br", "hr"})  # elements without an end (WHATWG HTML 13.1.2)


def tag(name: str, /, *children: str, **attributes: str) -> Markup:
    """An element. Children that are not `Markup` and all values of attributes are escaped;
    underscores in names of attributes stand for hyphens, one at the end is dropped."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """One after the other, escaped where needed."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children))


def table(rows: Sequence[tuple[str, ...]], *, head: tuple[str, ...] = ()) -> Markup:
    """Rows whose first cell names the row."""
    top = [tag("tr", *(tag("th", name, scope="col") for name in head))] if head else []
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    return tag("div", tag("table", *top, *body), class_="wide")
