"""Builds the events of a video's revisions: tags, and cases for people to review."""

import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from consumer import events, labels
from consumer.checkpoint import History, Story, Times
from consumer.describer import Describer, Describing
from consumer.evidence import Aspect, Evidence, Shares
from consumer.minors import with_restricted
from consumer.quotes import Quotes
from consumer.rules import Rules, apply
from consumer.tags import Published, ReadOut, Tags, read_tags
from consumer.transcript import Basis, Language
from schemas import CaseEvent, RestrictedCaseEvent, TagsEvent, VideoTags, VideoUploaded
from schemas import tags as parts

SOURCE = "/tagstream"
_TOLD = {"title", "description", "hashtags", "language", "captions", "duration_s"}
_IDS = uuid.UUID("6d1d3d43-5f5a-5c0e-9c86-0d3f7a3f2b7e")
_BASES: tuple[Basis, ...] = ("captions.embedded", "captions.sidecar", "asr", "metadata")


def upload_key(upload: VideoUploaded) -> str:
    """The same for the same upload, however often it is delivered: the video, and its content version where that was
    declared. Where it was not, the media tell whether it is the same."""
    return str(uuid.uuid5(_IDS, "\n".join((upload.video_id, upload.content_version or ""))))


def _told(upload: VideoUploaded) -> str:
    return hashlib.sha256(upload.model_dump_json(include=_TOLD).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Medium:
    """What is known of the media when a revision is made."""

    content_version: str
    duration_s: float | None
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Makers:
    """What made the tags, how they are read out, and what follows from them."""

    read_out: ReadOut
    provenance: parts.Provenance
    supported_languages: frozenset[str]
    rules: Rules = field(default_factory=Rules)
    describing: Describing = field(default_factory=Describing)

    def tags(self, story: Story) -> Tags:
        """What the story says, with what was found by rules."""
        tags, _ = apply(self.rules, read_tags(story.evidence, self.read_out))
        return with_restricted(tags, story.suspicion)


@dataclass(frozen=True)
class Revision:
    """What goes out at once: a tags event, and the cases that it is the first to show."""

    tags: TagsEvent
    cases: tuple[CaseEvent | RestrictedCaseEvent, ...]

    @property
    def final(self) -> bool:
        return self.tags.data.status.stage == "final"


class Clock:
    """Times of one upload, taken up now. `queued_s` is what it waited before."""

    def __init__(self, queued_s: float | None) -> None:
        self.times = Times(time.time(), queued_s)
        self._started_s = time.monotonic()

    def go_on(self, earlier: Times) -> None:
        """Counts from when the upload was taken up first. The wall clock says how long ago that was; perhaps another
        machine's, so that it may be wrong."""
        self._started_s -= max(0.0, self.times.taken_up_s - earlier.taken_up_s)
        self.times = earlier

    def timing(self, tags: Tags) -> parts.Timing:
        total_s = round(time.monotonic() - self._started_s, 3)
        if self.times.first_tag_s is None and tags.topics:
            self.times = replace(self.times, first_tag_s=total_s)
        return parts.Timing(queued_s=self.times.queued_s, first_tag_s=self.times.first_tag_s, total_s=total_s)


class Revisions:
    """Numbers one video's revisions, without a gap, and gives each an id that only what it is made from decides: the
    video, its content version, what the uploader told, the pipeline, and the revision's number and stage.

    `history` is what was made before and, as it grows, so far; the first revision of all supersedes `before_all`.
    """

    def __init__(
        self,
        upload: VideoUploaded,
        makers: Makers,
        quotes: Quotes,
        clock: Clock,
        history: History,
        before_all: str | None,
    ) -> None:
        self.history = history
        self._upload = upload
        self._makers = makers
        self._quotes = quotes
        self._describer = Describer(
            makers.describing, quotes, makers.read_out, video=upload.video_id, title=upload.title
        )
        self._clock = clock
        self._before_all = before_all
        self._told = _told(upload)

    def next(self, tags: Tags, story: Story, medium: Medium, stage: parts.Stage) -> Revision:
        number = self.history.revision + 1
        evidence, references = self._evidence(tags, story)
        id = self._id(medium, f"revision {number} {stage}")
        data = VideoTags(
            video=self._video(story, medium),
            status=parts.Status(
                stage=stage,
                revision=number,
                supersedes=self.history.latest or self._before_all,
                coverage=events.coverage(tags.media_s, medium.duration_s),
                basis=tuple(basis for basis in _BASES if basis in story.bases),
                degraded=medium.degraded,
            ),
            tags=events.tag_list(tags, self._makers.read_out, references) if tags.topics else None,
            sentiment=events.sentiment(tags.sentiment),
            moderation=tuple(events.moderation_label(p, references) for p in tags.policies) if tags.policies else None,
            description=self._describer.describe(tags, story, stage),
            evidence=evidence,
            provenance=self._makers.provenance,
            timing=self._clock.timing(tags),
        )
        event = TagsEvent.wrap(data, id=id, source=SOURCE, time=datetime.now(UTC))
        cases = self._cases(event, story, medium)
        published = Published.of(tags) if tags.topics else None
        bands = {**self.history.bands, **{case.data.label: case.data.band for case in cases}}
        self.history = History(number, id, published, bands)
        return Revision(event, tuple(cases))

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
        """A quote for every accepted topic and every policy label out of clear that has one, and their references."""
        read_out = self._makers.read_out
        main = set(read_out.topic.labels)
        topics = [t.label for t in tags.topics if t.accepted]
        policies = [p.label for p in tags.policies if p.band != "clear" and p.label != parts.RESTRICTED]
        wanted = [(label, read_out.topic if label in main else read_out.subtopic) for label in topics]
        wanted += [(label, read_out.policy) for label in policies]
        references, items = {}, []
        for number, (label, aspect) in enumerate(wanted, start=1):
            strongest = _strongest(label, aspect, story.evidence, read_out)
            quote = self._quotes.find(label, aspect, strongest, story.evidence, story.windows)
            if quote is not None:
                references[label] = f"e{number}"
                items.append(events.evidence_item(f"e{number}", quote))
        return tuple(items), references

    def _cases(self, event: TagsEvent, story: Story, medium: Medium) -> list[CaseEvent | RestrictedCaseEvent]:
        cases: list[CaseEvent | RestrictedCaseEvent] = []
        for label in event.data.moderation or ():
            policy = labels.policy(label.label)
            made = self.history.bands.get(label.label)
            if label.band == "clear" or policy.queue is None or made in (label.band, "act"):
                continue
            id = self._id(medium, f"case {label.label} {label.band}")
            if label.evidence:
                case = events.moderation_case(label, policy, event, self._upload)
                cases.append(CaseEvent.wrap(case, id=id, source=SOURCE, time=event.time))
            elif story.suspicion is not None:
                restricted = events.restricted_case(label, policy, event, self._upload, story.suspicion.start_s)
                cases.append(RestrictedCaseEvent.wrap(restricted, id=id, source=SOURCE, time=event.time))
        return cases


def _strongest(label: str, aspect: Aspect, evidence: Evidence, read_out: ReadOut) -> Shares:
    """The windows that carry a label: of a subtopic, those of its topic in tier 1."""
    if aspect is read_out.subtopic:
        label, aspect = labels.path(label)[0].id, read_out.topic
    return evidence.strongest[aspect.name][aspect.labels.index(label)]
