"""Where the work on a video stands, as a value: whoever has it goes on as if nothing had happened."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, StrictFloat, StrictInt, StrictStr

from consumer.evidence import Evidence, Share, strongest_windows
from consumer.minors import Suspicion, stronger
from consumer.tags import Published
from consumer.transcript import Basis, Language, Segment, TextWindow
from schemas.tags import Band


@dataclass(frozen=True)
class Story:
    """All that was read of one video so far. Of its text, only what may be quoted yet: the windows that are the
    strongest one for some label, so that it stays small however long the video is. The text of a window that is
    suspected of what `consumer.minors` says is not kept at all."""

    evidence: Evidence = field(default_factory=Evidence)
    windows: Mapping[int, TextWindow] = field(default_factory=dict)
    bases: frozenset[Basis] = frozenset()
    language: Language | None = None
    suspicion: Suspicion | None = None

    def add(self, window: TextWindow, evidence: Evidence, suspicion: Suspicion | None = None) -> "Story":
        total = self.evidence + evidence
        if not window.words:
            return replace(self, evidence=total)
        windows = self.windows if suspicion else {**self.windows, window.index: window}
        quotable = {index: windows[index] for index in sorted(strongest_windows(total) & windows.keys())}
        return Story(
            total,
            quotable,
            self.bases | {window.basis},
            self.language or window.language,
            stronger(self.suspicion, suspicion),
        )


@dataclass(frozen=True)
class History:
    """What was made of one video so far: the number of the last revision and the id of its event, what it said, and
    the band of each policy label that there is a case of."""

    revision: int = 0
    latest: str | None = None
    published: Published | None = None
    bands: Mapping[str, Band] = field(default_factory=dict)


@dataclass(frozen=True)
class Times:
    """When the upload was taken up first (Unix time), what it had waited by then, and how long after that the first
    tags were made."""

    taken_up_s: float
    queued_s: float | None = None
    first_tag_s: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to go on at the window `next_window`, which starts at `start_s`.

    It fits the content version and the pipeline that it was made with, and no others. The one of a final revision
    tells what was made; there is nothing to go on with.
    """

    times: Times
    next_window: int = 0
    start_s: float = 0.0
    story: Story = field(default_factory=Story)
    history: History = field(default_factory=History)

    @property
    def revision(self) -> int:
        """The number of the last revision made; 0 before the first."""
        return self.history.revision

    @property
    def latest(self) -> str | None:
        """The id of the last revision's event."""
        return self.history.latest

    def to_json(self) -> dict[str, Any]:
        evidence = self.story.evidence
        state = {
            "next_window": self.next_window,
            "start_s": self.start_s,
            "words": evidence.words,
            "media_ms": evidence.media_ms,
            "sums": {aspect: sums.tolist() for aspect, sums in evidence.sums.items()},
            "strongest": evidence.strongest,
            "windows": [astuple(window) for window in self.story.windows.values()],
            "bases": sorted(self.story.bases),
            "language": self.story.language and astuple(self.story.language),
            "suspicion": self.story.suspicion,
            "revision": self.history.revision,
            "latest": self.history.latest,
            "published": self.history.published and astuple(self.history.published),
            "bands": self.history.bands,
            "times": astuple(self.times),
        }
        return {**state, "digest": _digest(state)}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """From what `to_json` gave, the same to the last bit. Raises ValueError for anything else."""
        form = _Form.model_validate(value)
        if form.digest != _digest({name: value[name] for name in value if name != "digest"}):
            raise ValueError("a checkpoint that is not as it was written")
        windows = {window.index: window for window in map(_text_window, form.windows)}
        language = form.language and Language(*form.language)
        suspicion = form.suspicion and Suspicion(*form.suspicion)
        published = form.published and Published(*form.published)
        return cls(
            Times(*form.times),
            form.next_window,
            form.start_s,
            Story(_evidence(form), windows, frozenset(form.bases), language, suspicion),
            History(form.revision, form.latest, published, form.bands),
        )


_Segment = tuple[StrictFloat, StrictFloat, StrictStr]
_Language = tuple[StrictStr, StrictFloat | None]
_Window = tuple[StrictInt, StrictFloat, StrictFloat, list[_Segment], Basis, _Language | None]


class _Form(BaseModel):
    """The JSON, in exact types; that its parts fit together is what the digest says."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    next_window: StrictInt
    start_s: StrictFloat
    words: StrictInt
    media_ms: StrictInt
    sums: dict[str, list[StrictInt]]
    strongest: dict[str, list[list[tuple[StrictInt, StrictInt]]]]
    windows: list[_Window]
    bases: list[Basis]
    language: _Language | None
    suspicion: tuple[StrictFloat, StrictFloat] | None
    revision: StrictInt
    latest: StrictStr | None
    published: tuple[StrictFloat, StrictStr, StrictFloat] | None
    bands: dict[str, Band]
    times: tuple[StrictFloat, StrictFloat | None, StrictFloat | None]
    digest: StrictStr


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def _evidence(form: _Form) -> Evidence:
    return Evidence(
        form.words,
        form.media_ms,
        {aspect: np.array(row, np.int64) for aspect, row in form.sums.items()},
        {
            aspect: tuple(tuple(Share(*share) for share in shares) for shares in labels)
            for aspect, labels in form.strongest.items()
        },
    )


def _text_window(window: _Window) -> TextWindow:
    index, start_s, end_s, segments, basis, language = window
    spoken = tuple(Segment(*segment) for segment in segments)
    return TextWindow(index, start_s, end_s, spoken, basis, language and Language(*language))
