"""The table of contents: which pages there are, in which order, and where their text comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.guide import reference

_PAGES = Path(__file__).parent / "pages"

Document = dict[str, Any]
"""The OpenAPI document of the running service."""


@dataclass(frozen=True)
class GuidePage:
    """One page. `generate` makes text that no file holds, so that it cannot become stale."""

    name: str
    title: str
    section: str
    generate: Callable[[Document], str] | None = None

    def text(self, document: Document) -> str:
        """Markdown, beginning with the title."""
        if self.generate is not None:
            return f"# {self.title}\n\n{self.generate(document)}"
        return (_PAGES / f"{self.name}.md").read_text(encoding="utf-8")


def _written(section: str, *pages: tuple[str, str]) -> tuple[GuidePage, ...]:
    return tuple(GuidePage(name, title, section) for name, title in pages)


PAGES: tuple[GuidePage, ...] = (
    *_written(
        "Begin",
        ("index", "Gramian"),
        ("tutorial", "From zero to a prediction"),
        ("neural-kernels", "What a neural kernel is"),
    ),
    *_written(
        "How to",
        ("gram", "Compute a Gram matrix"),
        ("solve", "Solve with it"),
        ("predict", "Predict for new inputs"),
        ("ridge", "Choose a ridge"),
        ("classify", "Classify"),
        ("posterior", "Say how sure you are"),
        ("dynamics", "Follow training"),
        ("spectrum", "Look at the spectrum"),
        ("svm", "Train a support vector machine"),
        ("pixel-gram", "Relate the pixels of an image"),
        ("analyses", "Analyse kernels"),
        ("scikit-learn", "Use it from scikit-learn"),
        ("verify", "Verify and repair"),
        ("export", "Move a matrix elsewhere"),
        ("machines", "Use several machines"),
    ),
    *_written("Reference", ("reference-cli", "Command line")),
    GuidePage("reference-client", "Python client", "Reference", reference.client),
    GuidePage("reference-tasks", "Task types", "Reference", reference.tasks),
    GuidePage("reference-rest", "REST", "Reference", reference.rest),
    GuidePage("reference-settings", "Settings", "Reference", reference.settings),
)


def find_page(name: str) -> GuidePage | None:
    return next((page for page in PAGES if page.name == name), None)
