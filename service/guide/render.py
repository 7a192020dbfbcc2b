"""Markdown to whole HTML pages: no scripts, no inline styles, every link relative."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from service.guide.contents import PAGES, GuidePage


def page_html(page: GuidePage, document: dict[str, Any]) -> str:
    """A page with its navigation. `document`: the OpenAPI document, for generated pages."""
    parser = _parser()
    tokens = parser.parse(page.text(document))
    headings = _anchor(tokens)
    body = parser.renderer.render(tokens, parser.options, {})
    title = page.title if page.name == "index" else f"{page.title} – Gramian"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
<a class="skip" href="#content">Skip to the text</a>
<nav aria-label="Pages">{_navigation(page)}</nav>
<main id="content">
{body}
{_next(page)}
</main>
<aside aria-label="On this page">{_contents(headings)}</aside>
</body>
</html>
"""


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    """CommonMark with tables; HTML in the text is shown, not obeyed."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _anchor(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Give headings an id; those of the second level as (id, text)."""
    seen: dict[str, int] = {}
    found = []
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        anchor = re.sub(r"[^a-z0-9]+", "-", inline.content.lower()).strip("-") or "section"
        seen[anchor] = seen.get(anchor, 0) + 1
        if seen[anchor] > 1:
            anchor = f"{anchor}-{seen[anchor]}"
        opening.attrSet("id", anchor)
        if opening.tag == "h2":
            found.append((anchor, inline.content.replace("`", "")))
    return found


def _navigation(current: GuidePage) -> str:
    parts = ['<a class="home" href="/">Gramian</a>']
    for section in dict.fromkeys(page.section for page in PAGES):
        links = "".join(
            f'<li><a href="{_href(page)}"{_current(page, current)}>{escape(page.title)}</a></li>'
            for page in PAGES
            if page.section == section
        )
        parts.append(f"<h2>{escape(section)}</h2><ul>{links}</ul>")
    return "".join(parts)


def _current(page: GuidePage, current: GuidePage) -> str:
    return ' aria-current="page"' if page is current else ""


def _contents(headings: list[tuple[str, str]]) -> str:
    if len(headings) < 2:
        return ""
    links = "".join(f'<li><a href="#{a}">{escape(text)}</a></li>' for a, text in headings)
    return f"<h2>On this page</h2><ul>{links}</ul>"


def _next(current: GuidePage) -> str:
    index = PAGES.index(current) + 1
    if index == len(PAGES):
        return ""
    following = PAGES[index]
    return f'<p class="next">Next: <a href="{_href(following)}">{escape(following.title)}</a></p>'


def _href(page: GuidePage) -> str:
    return "./" if page.name == "index" else page.name
