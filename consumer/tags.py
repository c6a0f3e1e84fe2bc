"""Tags as they are read out of evidence, before they become an event. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from consumer.evidence import Aspect, Evidence, Logits, probabilities
from consumer.labels import policy as policy_of
from schemas.tags import Band

# A partial event is worth its bytes when something changed, or when a good deal more was read.
_NOTABLE_CHANGE = 0.1
_NOTABLE_GROWTH = 1.25
_NOTABLE_MEDIA_S = 5.0
_NEARLY_ALL = 0.97  # past here the final event is about to say the same


@dataclass(frozen=True, slots=True)
class Scored:
    """A label and how likely it is, with what it reached: accepted or not, or a band."""

    label: str
    p: float
    accepted: bool
    band: Band = "clear"


@dataclass(frozen=True)
class ReadOut:
    """How evidence becomes tags; `accept` is (topics,): the probability from which a topic is accepted."""

    topic: Aspect
    sentiment: Aspect
    policy: Aspect
    accept: Logits

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        return self.topic, self.sentiment, self.policy


@dataclass(frozen=True, slots=True)
class Tags:
    """What the evidence says: topics and policy labels by falling p. Empty until a word was read."""

    media_s: float
    topics: tuple[Scored, ...] = ()
    sentiment: Scored | None = None
    policies: tuple[Scored, ...] = ()

    @property
    def decisions(self) -> str:
        """A digest of what readers act upon."""
        accepted = sorted(topic.label for topic in self.topics if topic.accepted)
        bands = sorted((policy.label, policy.band) for policy in self.policies if policy.band != "clear")
        first = [topic.label for topic in self.topics[:1]]
        decided = [accepted, bands, first, self.sentiment and self.sentiment.label]
        return hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Published:
    """What of published tags decides when the next ones are worth publishing; `p` is the first topic's."""

    media_s: float
    decisions: str
    p: float

    @classmethod
    def of(cls, tags: Tags) -> Self:
        return cls(tags.media_s, tags.decisions, tags.topics[0].p)


def read_tags(evidence: Evidence, read_out: ReadOut) -> Tags:
    """The tags at this point. Probabilities have four digits: what is published is what was decided upon."""
    media_s = evidence.media_ms / 1000
    if not evidence.words:
        return Tags(media_s)
    topics = _scores(evidence, read_out.topic)
    tones = _scores(evidence, read_out.sentiment)
    tone = max(tones, key=lambda label: tones[label])
    return Tags(
        media_s,
        _ranked(
            Scored(label, p, bool(p >= at)) for (label, p), at in zip(topics.items(), read_out.accept, strict=True)
        ),
        Scored(tone, tones[tone], True),
        _ranked(_policy(label, p) for label, p in _scores(evidence, read_out.policy).items()),
    )


def _policy(label: str, p: float) -> Scored:
    band = policy_of(label).band(p)
    return Scored(label, p, band != "clear", band)


def _scores(evidence: Evidence, aspect: Aspect) -> Mapping[str, float]:
    values = probabilities(evidence, aspect)
    assert values is not None
    return {label: round(float(value), 4) for label, value in zip(aspect.labels, values, strict=True)}


def _ranked(labels: Iterable[Scored]) -> tuple[Scored, ...]:
    return tuple(sorted(labels, key=lambda scored: (-scored.p, scored.label)))


def worth_publishing(now: Tags, before: Published | None, duration_s: float | None) -> bool:
    """Whether a partial event should say `now` after one that said `before`. Depends on the media alone, never on
    the clock, so that a video which is tagged again gives the same revisions."""
    if not now.topics or (duration_s and now.media_s >= _NEARLY_ALL * duration_s):
        return False
    if before is None:
        return True
    read_more_s = now.media_s - before.media_s
    if read_more_s < _NOTABLE_MEDIA_S:
        return False
    return (
        now.decisions != before.decisions
        or abs(now.topics[0].p - before.p) >= _NOTABLE_CHANGE
        or now.media_s >= _NOTABLE_GROWTH * before.media_s
    )
