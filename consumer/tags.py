"""Tags as they are read out of evidence, before they become an event. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from consumer.evidence import Aspect, Evidence, probabilities
from consumer.labels import policy as policy_of
from schemas.tags import Band

# A partial event is worth its bytes when something changed, or when a good deal more was read.
_NOTABLE_CHANGE = 0.1
_NOTABLE_GROWTH = 1.25
_NOTABLE_MEDIA_S = 5.0
_NOTABLE_SUBTOPIC = 0.05  # less likely ones are not told
_NEARLY_ALL = 0.97  # past here the final event is about to say the same


@dataclass(frozen=True, slots=True)
class Scored:
    """A label and how likely it is, with what it reached: accepted or not, or a band.

    Rules may reach it for a label: `implied_by` names those that accepted a topic or brought a policy label to review,
    `lowered_by` those that lowered its suitability risk.
    """

    label: str
    p: float
    accepted: bool
    band: Band = "clear"
    implied_by: tuple[str, ...] = ()
    lowered_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadOut:
    """How evidence becomes tags; `accept` has the probability from which each topic and subtopic is accepted."""

    topic: Aspect
    subtopic: Aspect
    sentiment: Aspect
    policy: Aspect
    accept: Mapping[str, float]

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        return self.topic, self.subtopic, self.sentiment, self.policy

    def main_topics(self, tags: "Tags") -> list[str]:
        """The topics of tier 1, the likeliest first."""
        return [topic.label for topic in tags.topics if topic.label in self.topic.labels]


@dataclass(frozen=True, slots=True)
class Tags:
    """What the evidence says: topics with the likelier ones of their subtopics, and policy labels, by falling p. Empty
    until a word was read."""

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
    topics = _topics(evidence, read_out)
    tones = _scores(evidence, read_out.sentiment)
    tone = max(tones, key=lambda label: tones[label])
    return Tags(
        media_s,
        _ranked(Scored(label, p, p >= read_out.accept[label]) for label, p in topics.items()),
        Scored(tone, tones[tone], True),
        _ranked(_policy(label, p) for label, p in _scores(evidence, read_out.policy).items()),
    )


def _topics(evidence: Evidence, read_out: ReadOut) -> Mapping[str, float]:
    """A subtopic is as likely as its parent, times as likely as it is given its parent: never likelier."""
    found = _scores(evidence, read_out.topic)
    subtopic = read_out.subtopic
    given_parent = probabilities(evidence, subtopic)
    assert given_parent is not None
    for label, parent, p in zip(subtopic.labels, subtopic.parents, given_parent, strict=True):
        if (of_parent := found.get(parent, 0.0)) >= _NOTABLE_SUBTOPIC:
            told = round(of_parent * round(float(p), 4), 4)
            if told >= _NOTABLE_SUBTOPIC:
                found[label] = told
    return found


def _policy(label: str, p: float) -> Scored:
    band = policy_of(label).band(p)
    return Scored(label, p, band != "clear", band)


def _scores(evidence: Evidence, aspect: Aspect) -> dict[str, float]:
    values = probabilities(evidence, aspect)
    assert values is not None
    return {label: round(float(value), 4) for label, value in zip(aspect.labels, values, strict=True)}


def _ranked(labels: Iterable[Scored]) -> tuple[Scored, ...]:
    """By falling p; of equals, what comes first stays first: a topic before those below it."""
    return tuple(sorted(labels, key=lambda scored: -scored.p))


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
