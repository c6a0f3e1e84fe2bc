"""`tagstream.video.tags.v1`: what a video is about, so far or finally. What is not known is null."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.envelope import OutputEvent, Payload, Strict, Text

Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Stage = Literal["partial", "final"]
Basis = Literal["captions.embedded", "captions.sidecar", "asr", "metadata"]
Band = Literal["clear", "review", "act"]
Risk = Literal["bsr001", "bsr002", "bsr003", "bsr004"]

RESTRICTED = "sexual_minors"
"""The policy label of which nothing is quoted, by no label: only ids and its queue are published."""


class Language(Strict):
    """Language of the text that was read; `p` is null when somebody declared it."""

    code: Text
    p: Probability | None
    supported: bool


class Video(Strict):
    id: Text
    content_version: Text | None
    uri: Text
    duration_s: Seconds | None
    language: Language | None


class Coverage(Strict):
    """How much of the media was read; `ratio` is null while the duration is unknown."""

    media_s: Seconds
    ratio: Probability | None


class Status(Strict):
    """Where this revision stands. Revisions count from 1 without a gap.

    `supersedes` names the event of the revision before; in the first revision of a new content version, the last
    event of the version before it, as far as that is remembered, and else null.

    `degraded` names what made the result less than it could be, such as `media.truncated`.
    """

    stage: Stage
    revision: Annotated[int, Field(ge=1)]
    supersedes: Text | None
    coverage: Coverage
    basis: tuple[Basis, ...]
    degraded: tuple[Text, ...]

    @model_validator(mode="after")
    def _follows_the_revision_before(self) -> Self:
        if self.revision > 1 and self.supersedes is None:
            raise ValueError("supersedes must name an event in every revision after the first")
        return self


class Tag(Strict):
    """One topic; `accepted` says whether `p` reached `threshold`. Where `rules` had it accepted, by their ids, that is
    the threshold they lowered to `p`."""

    scheme: Text
    id: Text
    name: Text
    p: Probability
    threshold: Probability
    accepted: bool
    evidence: tuple[Text, ...]
    rules: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _accepts_at_the_threshold(self) -> Self:
        if self.accepted != (self.p >= self.threshold):
            raise ValueError(f"accepted must say whether p {self.p} reached the threshold {self.threshold}")
        return self


class Sentiment(Strict):
    label: Literal["positive", "neutral", "negative"]
    p: Probability


class ModerationLabel(Strict):
    """One policy label; `risk` is the IAB brand-suitability tier, null when clear. `rules` names the rules that brought
    the label to review or lowered its risk.

    The label `sexual_minors` is in review or absent, and without evidence; its `p` is that of another sexual label.
    """

    label: Text
    iab: Text | None
    p: Probability
    band: Band
    risk: Risk | None
    evidence: tuple[Text, ...]
    rules: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _has_its_risk(self) -> Self:
        if (self.band == "clear") != (self.risk is None):
            raise ValueError("risk must be null in the band clear, and a tier in every other one")
        return self

    @model_validator(mode="after")
    def _is_restricted(self) -> Self:
        if self.label == RESTRICTED and (self.band != "review" or self.evidence):
            raise ValueError(f"{RESTRICTED} must be in review, and have no evidence")
        return self


class Description(Strict):
    """Prose about the video, never evidence. `derived` is true where a machine made it, and no person did.

    `method` says how: `extracted` are one or two sentences that were said, word for word, with … where text before or
    after them is left out within a sentence; a machine chose them, so that they too are derived. `generated` was
    written by a language model, and is published only where it agrees with what was said: nobody should quote it.
    """

    text: Text
    derived: bool
    method: Literal["generated", "extracted"]


class Evidence(Strict):
    """A quote that stands word for word in the text that was read, and when it is said.

    `contribution` is what it adds to the logit of the label that refers to it. Metadata has no time.
    """

    id: Text
    modality: Literal["asr", "captions", "metadata"]
    start_s: Seconds | None
    end_s: Seconds | None
    quote: Text
    contribution: float

    @model_validator(mode="after")
    def _has_its_time(self) -> Self:
        if self.start_s is None or self.end_s is None:
            if self.modality != "metadata" or self.start_s != self.end_s:
                raise ValueError("start_s and end_s are needed, except that metadata has neither")
        elif self.modality == "metadata" or self.end_s < self.start_s:
            raise ValueError("start_s must not come after end_s, and metadata has no time")
        return self


class Provenance(Strict):
    """What made the result: the same input under the same provenance gives the same result."""

    pipeline: Text
    speech_model: Text
    llm_model: Text
    heads: Text
    taxonomy: Text


class Timing(Strict):
    """Seconds from the upload event to its take-up, and from there to the first tags and to this event. Work that was
    interrupted counts from the first take-up."""

    queued_s: Seconds | None
    first_tag_s: Seconds | None
    total_s: Seconds | None


class VideoTags(Payload, Strict):
    """All that is known at one revision; `tags` and `moderation` are null where nothing was read.

    What is accepted or out of clear has evidence, but in videos with the label `sexual_minors`: there it may have none.
    """

    video: Video
    status: Status
    tags: Annotated[tuple[Tag, ...], Field(min_length=5)] | None
    sentiment: Sentiment | None
    moderation: tuple[ModerationLabel, ...] | None
    description: Description | None
    evidence: tuple[Evidence, ...]
    provenance: Provenance
    timing: Timing

    @property
    def partition_key(self) -> str:
        return self.video.id

    @model_validator(mode="after")
    def _ranks_each_label_once(self) -> Self:
        tags = self.tags or ()
        if any(before.p < after.p for before, after in pairwise(tags)):
            raise ValueError("tags must be sorted by falling p")
        refuse_repeats("tags", ((tag.scheme, tag.id) for tag in tags))
        refuse_repeats("moderation", (label.label for label in self.moderation or ()))
        return self

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        moderation = self.moderation or ()
        if any(label.label == RESTRICTED for label in moderation):
            return self
        for tag in self.tags or ():
            if tag.accepted and not tag.evidence:
                raise ValueError(f"the accepted tag {tag.id} needs evidence")
        for label in moderation:
            if label.band != "clear" and not label.evidence:
                raise ValueError(f"{label.label} in the band {label.band} needs evidence")
        return self

    @model_validator(mode="after")
    def _refers_to_evidence_it_has(self) -> Self:
        refuse_repeats("evidence", (evidence.id for evidence in self.evidence))
        known = {evidence.id for evidence in self.evidence}
        labels: tuple[Tag | ModerationLabel, ...] = (*(self.tags or ()), *(self.moderation or ()))
        if missing := {id for label in labels for id in label.evidence} - known:
            raise ValueError(f"evidence {sorted(missing)} is referred to and does not exist")
        return self


class TagsEvent(OutputEvent[VideoTags]):
    """A revision of a video's tags."""

    type: Literal["tagstream.video.tags.v1"]


def refuse_repeats(name: str, keys: Iterable[object]) -> None:
    """Raise ValueError when `keys` holds the same one twice."""
    listed = list(keys)
    if len(set(listed)) < len(listed):
        raise ValueError(f"{name} must not name the same one twice")
