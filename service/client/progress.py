"""A job's events as a live bar: tiles per second, bytes, residual, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn

Update = Callable[[str, Mapping[str, Any]], None]
"""Takes the type and the data of an event."""


def bytes_text(count: float) -> str:
    """`18.9 MB`: decimal units, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.3g} TB"


def seconds_text(seconds: float) -> str:
    """`< 1 s`, `8 s`, `3:05`, `2:03:05`."""
    whole = round(seconds)
    if whole < 1:
        return "< 1 s"
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def numbers_text(progress: Mapping[str, Any]) -> str:
    """What a progress document says beyond its fraction, in one short line."""
    parts = []
    if progress.get("tiles_total") is not None:
        parts.append(f"{progress.get('tiles_done', 0)}/{progress['tiles_total']} tiles")
    if progress.get("tiles_per_second") is not None:
        parts.append(f"{progress['tiles_per_second']:.3g} tiles/s")
    if progress.get("bytes_written") is not None:
        parts.append(bytes_text(progress["bytes_written"]))
    if progress.get("applications") is not None:
        parts.append(f"{progress['applications']} applications of K")
    if progress.get("residual") is not None:
        parts.append(f"residual {progress['residual']:.1e}")
    if progress.get("tasks_total") is not None:
        parts.append(f"{progress.get('tasks_done', 0)}/{progress['tasks_total']} parts")
    if progress.get("seconds_left"):
        parts.append(f"{seconds_text(progress['seconds_left'])} left")
    return " · ".join(parts)


class JobBar:
    """One live line for one job. Feed it the job's events; use it as a context manager.

    `picture` is asked with every event for something to show above the line; None: nothing.
    """

    def __init__(
        self,
        console: Console,
        label: str,
        picture: Callable[[], RenderableType | None] = lambda: None,
    ) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[numbers]}"),
            console=console,
        )
        self._picture = picture
        self._live = Live(self._progress, console=console)
        self._label = label
        self._task: TaskID = self._progress.add_task(label, total=1.0, numbers="")
        self._numbers = ""
        self.state = "queued"

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, event_type: str, data: Mapping[str, Any]) -> None:
        """Show one event of the stream (`state` or `progress`; others are for later versions)."""
        if event_type == "state":
            self.state = str(data.get("state", self.state))
            if self.state == "succeeded":
                self._progress.update(self._task, completed=1.0, description=self._label)
        elif event_type == "progress":
            phase = data.get("phase")
            # The last phases of a job have no numbers of their own: those of the work stay.
            self._numbers = numbers_text(data) or self._numbers
            self._progress.update(
                self._task,
                completed=float(data.get("fraction") or 0.0),
                description=f"{self._label} ({phase})" if phase else self._label,
                numbers=self._numbers,
            )
        shown = self._picture()
        self._live.update(self._progress if shown is None else Group(shown, self._progress))


@contextmanager
def job_bar(label: str, *, show: bool | None = None) -> Iterator[Update]:
    """A live bar for one job, in a notebook or on standard error, and the function that feeds it.

    `show`: None shows it where somebody can see it move.
    """
    console = Console(stderr=True)
    if show is False or (show is None and not console.is_terminal and not console.is_jupyter):
        yield lambda event_type, data: None
    elif console.is_jupyter:
        from IPython.display import display

        yield NotebookBar(label, display).update
    else:
        with JobBar(console, label) as bar:
            yield bar.update


class DisplayHandle(Protocol):
    """What `IPython.display.display(..., display_id=True)` returns."""

    def update(self, shown: Any) -> None: ...


class NotebookBar:
    """The same for a notebook: one line of HTML, replaced with every event.

    Not rich's own display, which is still without ipywidgets. `display` is that of IPython.
    """

    def __init__(self, label: str, display: Callable[..., DisplayHandle]) -> None:
        self._label, self._state, self._fraction, self._numbers = label, "queued", 0.0, ""
        self._shown = display(self, display_id=True)

    def update(self, event_type: str, data: Mapping[str, Any]) -> None:
        if event_type == "state":
            self._state = str(data.get("state", self._state))
            if self._state == "succeeded":
                self._fraction = 1.0
        elif event_type == "progress":
            self._fraction = float(data.get("fraction") or 0.0)
            self._numbers = numbers_text(data) or self._numbers
        self._shown.update(self)

    def __repr__(self) -> str:
        return f"{self._label} {self._state} {self._fraction:.0%} {self._numbers}".strip()

    def _repr_html_(self) -> str:
        return (
            f"<progress max='1' value='{self._fraction:.4f}'></progress> "
            f"<code>{escape(repr(self))}</code>"
        )
