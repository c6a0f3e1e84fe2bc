"""Tags for people: a live table on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas import TagsEvent, VideoTags


def out(line: str) -> None:
    """What a command answers: one line of standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


_SHOWN_VIDEOS = 30
_BAND_STYLES = {"clear": "green", "review": "yellow", "act": "bold red"}


class TagsDisplay:
    """Shows each video's latest tags. Video ids come from strangers: what a terminal would obey is shown as text."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._console = Console(file=out, highlight=False, markup=False)
        self._latest: dict[str, VideoTags] = {}
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: TagsEvent) -> None:
        self._latest.pop(event.data.video.id, None)
        self._latest[event.data.video.id] = event.data
        if len(self._latest) > _SHOWN_VIDEOS:
            del self._latest[next(iter(self._latest))]
        if self._live is not None:
            self._live.update(_table(self._latest.values()), refresh=True)
        else:
            self._console.print("  ".join(_cells(event.data)), soft_wrap=True)


def _table(videos: Iterable[VideoTags]) -> Table:
    table = Table("video", "stage", "read", "topics", "tone", "moderation", "basis", box=None, header_style="bold")
    for video in videos:
        *cells, moderation, basis = _cells(video)
        worst = max((label.band for label in video.moderation or ()), key=_severity, default="clear")
        table.add_row(*cells, Text(moderation, style=_BAND_STYLES[worst]), basis)
    return table


def _cells(data: VideoTags) -> tuple[str, ...]:
    coverage = data.status.coverage
    share = "" if coverage.ratio is None else f" ({coverage.ratio:.0%})"
    topics = [f"{tag.name} {tag.p:.2f}{'' if tag.accepted else '?'}" for tag in (data.tags or ())[:3]]
    flagged = [label for label in data.moderation or () if label.band != "clear"]
    return (
        plain(data.video.id),
        f"{data.status.stage} {data.status.revision}",
        f"{coverage.media_s:.0f} s{share}",
        ", ".join(topics) or "unknown",
        f"{data.sentiment.label} {data.sentiment.p:.2f}" if data.sentiment else "unknown",
        ", ".join(f"{label.label} {label.p:.2f} {label.band}" for label in flagged)
        or ("unknown" if data.moderation is None else "clear"),
        "+".join(data.status.basis) or "nothing to read",
    )


def _severity(band: str) -> int:
    return ("clear", "review", "act").index(band)


def plain(text: str) -> str:
    """What a terminal would obey is shown as a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)
