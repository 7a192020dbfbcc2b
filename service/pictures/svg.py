"""SVG (W3C SVG 2) as text: elements with everything escaped, the same text for the same picture."""

from __future__ import annotations

import re
from html import escape

# What XML 1.0 does not let into a document at all, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Text and axes take the colour of the page they stand in; a file of its own follows the reader's
# choice of light or dark.
_OWN_COLORS = (
    ".gramian-plot{color:#1c2430;background:#fff}"
    "@media (prefers-color-scheme:dark){.gramian-plot{color:#e4e9f0;background:#14181f}}"
)


def element(name: str, *children: str, **attributes: str | float) -> str:
    """An element. `children` are SVG already; attribute values are escaped here. Underscores in
    names of attributes stand for hyphens, one at the end is dropped."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(number(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(children)}</{name}>" if children else f"<{name}{given}/>"


def text(value: str) -> str:
    """Any string as it may stand between tags or in an attribute."""
    return escape(_FORBIDDEN.sub("\ufffd", value), quote=True)


def number(value: str | float) -> str:
    """Coordinates with one digit after the point: a tenth of a pixel is seen by nobody."""
    if isinstance(value, str):
        return value
    shown = f"{value:.1f}".removesuffix(".0")
    return "0" if shown == "-0" else shown


def drawing(
    width: int, height: int, title: str, description: str, *children: str, standalone: bool
) -> str:
    """The whole picture. `title` and `description` are what screen readers say. `standalone`: a
    file of its own, with its own colours; otherwise to stand in an HTML page."""
    style = (element("style", _OWN_COLORS),) if standalone else ()
    return element(
        "svg",
        element("title", text(title)),
        element("desc", text(description)),
        *style,
        *children,
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        class_="gramian-plot",
        role="img",
        font_family="system-ui, sans-serif",
        font_size="12",
    )
