"""Reading HTML pages as a browser would: what they hold, and what they would fetch or run."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "hr", "link", "input"}


@dataclass
class Page(HTMLParser):
    """`tags` with their attributes in order, `text` outside of styles, `open` elements at the
    end (none, in a page whose elements are closed in order)."""

    source: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def fetched(self) -> list[str]:
        """Addresses that a browser would ask for, data URIs left out."""
        found = [
            str(value)
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name in ("src", "href", "srcset", "data", "action", "poster", "background")
        ]
        return [address for address in found if not address.startswith("data:")]

    @property
    def handlers(self) -> list[str]:
        """Attributes and elements that run scripts."""
        running = [n for _, attributes in self.tags for n in attributes if n.startswith("on")]
        return running + [tag for tag, _ in self.tags if tag in ("script", "iframe", "object")]
