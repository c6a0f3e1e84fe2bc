"""Builds the events of a video's revisions: tags, and cases for people to review."""

import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from consumer import events, labels
from consumer.evidence import Aspect, Evidence
from consumer.quotes import Quotes
from consumer.tags import ReadOut, Tags
from consumer.transcript import Basis, Language, TextWindow
from schemas import CaseEvent, TagsEvent, VideoTags, VideoUploaded
from schemas import tags as parts

SOURCE = "/tagstream"
_TOLD = {"title", "description", "hashtags", "language", "captions", "duration_s"}
_IDS = uuid.UUID("6d1d3d43-5f5a-5c0e-9c86-0d3f7a3f2b7e")
_BASES: tuple[Basis, ...] = ("captions.embedded", "captions.sidecar", "asr", "metadata")


@dataclass(frozen=True)
class Medium:
    """What is known of the media when a revision is made."""

    content_version: str
    duration_s: float | None
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Makers:
    """What made the tags, and how they are read out."""

    read_out: ReadOut
    provenance: parts.Provenance
    supported_languages: frozenset[str]


@dataclass
class Story:
    """All that was read of one video so far."""

    evidence: Evidence = field(default_factory=Evidence)
    windows: dict[int, TextWindow] = field(default_factory=dict)  # those with words
    language: Language | None = None

    def add(self, window: TextWindow, evidence: Evidence) -> None:
        self.evidence += evidence
        if window.words:
            self.windows[window.index] = window
            self.language = self.language or window.language


@dataclass(frozen=True)
class Revision:
    """What goes out at once: a tags event, and the cases that it is the first to show."""

    tags: TagsEvent
    cases: tuple[CaseEvent, ...]

    @property
    def final(self) -> bool:
        return self.tags.data.status.stage == "final"


class Clock:
    """Times of one upload. `queued_s` is what it waited before anybody took it up."""

    def __init__(self, queued_s: float | None) -> None:
        self._queued_s = queued_s
        self._started_s = time.monotonic()
        self._first_tag_s: float | None = None

    def timing(self, tags: Tags) -> parts.Timing:
        elapsed_s = time.monotonic() - self._started_s
        if self._first_tag_s is None and tags.topics:
            self._first_tag_s = elapsed_s
        first_tag_s = None if self._first_tag_s is None else round(self._first_tag_s, 3)
        return parts.Timing(queued_s=self._queued_s, first_tag_s=first_tag_s, total_s=round(elapsed_s, 3))


class Revisions:
    """Numbers one video's revisions, without a gap, and gives each an id that only what it is made from decides: the
    video, its content version, what the uploader told, the pipeline, and the revision's number and stage."""

    def __init__(self, upload: VideoUploaded, makers: Makers, quotes: Quotes, queued_s: float | None) -> None:
        self._upload = upload
        self._makers = makers
        self._quotes = quotes
        self._clock = Clock(queued_s)
        self._told = hashlib.sha256(upload.model_dump_json(include=_TOLD).encode()).hexdigest()[:16]
        self._number = 0
        self._latest: str | None = None
        self._bands: dict[str, str] = {}  # of the cases made so far

    def next(self, tags: Tags, story: Story, medium: Medium, stage: parts.Stage) -> Revision:
        self._number += 1
        evidence, references = self._evidence(tags, story)
        id = self._id(medium, f"revision {self._number} {stage}")
        data = VideoTags(
            video=self._video(story, medium),
            status=parts.Status(
                stage=stage,
                revision=self._number,
                supersedes=self._latest,
                coverage=events.coverage(tags.media_s, medium.duration_s),
                basis=tuple(basis for basis in _BASES if any(w.basis == basis for w in story.windows.values())),
                degraded=medium.degraded,
            ),
            tags=events.tag_list(tags, self._makers.read_out, references) if tags.topics else None,
            sentiment=events.sentiment(tags.sentiment),
            moderation=tuple(events.moderation_label(p, references) for p in tags.policies) if tags.policies else None,
            description=None,
            evidence=evidence,
            provenance=self._makers.provenance,
            timing=self._clock.timing(tags),
        )
        event = TagsEvent.wrap(data, id=id, source=SOURCE, time=datetime.now(UTC))
        self._latest = id
        return Revision(event, tuple(self._cases(event, medium)))

    def _id(self, medium: Medium, what: str) -> str:
        pipeline = self._makers.provenance.pipeline
        decides = (self._upload.video_id, medium.content_version, self._told, pipeline, what)
        return str(uuid.uuid5(_IDS, "\n".join(decides)))

    def _video(self, story: Story, medium: Medium) -> parts.Video:
        language = story.language or (Language(self._upload.language) if self._upload.language else None)
        return parts.Video(
            id=self._upload.video_id,
            content_version=medium.content_version,
            uri=self._upload.uri,
            duration_s=medium.duration_s,
            language=language
            and parts.Language(
                code=language.code,
                p=language.p,
                supported=language.code.split("-")[0].lower() in self._makers.supported_languages,
            ),
        )

    def _evidence(self, tags: Tags, story: Story) -> tuple[tuple[parts.Evidence, ...], Mapping[str, str]]:
        """A quote for every accepted topic and every policy label out of clear, and each label's reference."""
        read_out = self._makers.read_out
        wanted: list[tuple[Aspect, str]] = [(read_out.topic, t.label) for t in tags.topics if t.accepted]
        wanted += [(read_out.policy, p.label) for p in tags.policies if p.band != "clear"]
        references, items = {}, []
        for number, (aspect, label) in enumerate(wanted, start=1):
            quote = self._quotes.find(label, aspect, story.evidence, story.windows)
            references[label] = f"e{number}"
            items.append(events.evidence_item(f"e{number}", quote))
        return tuple(items), references

    def _cases(self, event: TagsEvent, medium: Medium) -> list[CaseEvent]:
        cases = []
        for label in event.data.moderation or ():
            policy = labels.policy(label.label)
            if label.band == "clear" or policy.queue is None or self._bands.get(label.label) in (label.band, "act"):
                continue
            self._bands[label.label] = label.band
            case = events.moderation_case(label, policy, event, self._upload)
            id = self._id(medium, f"case {label.label} {label.band}")
            cases.append(CaseEvent.wrap(case, id=id, source=SOURCE, time=event.time))
        return cases
