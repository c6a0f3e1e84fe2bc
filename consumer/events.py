"""The parts of an event, built from what was read. Pure.

`references` has, for each label with a quote, the id of its evidence. A label without one has none that may be quoted.
"""

from collections.abc import Mapping
from typing import Any

from consumer import labels, rules
from consumer.quotes import Quote
from consumer.tags import ReadOut, Scored, Tags
from schemas import ModerationCase, RestrictedCase, TagsEvent, VideoUploaded, case
from schemas import tags as parts

_SHOWN_TOPICS = 5
_LEAD_IN_S = 3.0  # a reviewer starts playing a little before the quote


def coverage(media_s: float, duration_s: float | None) -> parts.Coverage:
    ratio = None if not duration_s else round(min(1.0, media_s / duration_s), 4)
    return parts.Coverage(media_s=round(min(media_s, duration_s or media_s), 2), ratio=ratio)


def tag_list(tags: Tags, read_out: ReadOut, references: Mapping[str, str]) -> tuple[parts.Tag, ...]:
    likeliest = read_out.main_topics(tags)[:_SHOWN_TOPICS]
    shown = [topic for topic in tags.topics if topic.accepted or topic.label in likeliest]
    threshold = read_out.accept
    return tuple(
        parts.Tag(
            scheme=labels.SCHEME,
            id=topic.label,
            name=labels.path(topic.label)[-1].name,
            p=topic.p,
            threshold=min(topic.p, threshold[topic.label]) if topic.implied_by else threshold[topic.label],
            accepted=topic.accepted,
            evidence=_evidence(topic.label, references),
            rules=topic.implied_by,
        )
        for topic in shown
    )


def sentiment(scored: Scored | None) -> parts.Sentiment | None:
    return None if scored is None else parts.Sentiment.model_validate({"label": scored.label, "p": scored.p})


def moderation_label(scored: Scored, references: Mapping[str, str]) -> parts.ModerationLabel:
    policy = labels.policy(scored.label)
    return parts.ModerationLabel(
        label=scored.label,
        iab=policy.iab,
        p=scored.p,
        band=scored.band,
        risk=rules.risk(scored),
        evidence=_evidence(scored.label, references),
        rules=(*scored.implied_by, *scored.lowered_by),
    )


def _evidence(label: str, references: Mapping[str, str]) -> tuple[str, ...]:
    return (references[label],) if label in references else ()


def evidence_item(id: str, quote: Quote) -> parts.Evidence:
    basis, sentence = quote.window.basis, quote.sentence
    timed = basis != "metadata"
    return parts.Evidence(
        id=id,
        modality="asr" if basis == "asr" else "metadata" if basis == "metadata" else "captions",
        start_s=round(sentence.start_s, 2) if timed else None,
        end_s=round(sentence.end_s, 2) if timed else None,
        quote=sentence.text,
        contribution=round(quote.contribution, 4),
    )


def moderation_case(
    label: parts.ModerationLabel, policy: labels.Policy, event: TagsEvent, upload: VideoUploaded
) -> ModerationCase:
    items = tuple(item for item in event.data.evidence if item.id in label.evidence)
    facts = _case_facts(label, policy, event, upload)
    return ModerationCase(
        **facts, queue=policy.queue or policy.id, evidence=items, seek_s=_seek_s(items[0].start_s or 0.0)
    )


def restricted_case(
    label: parts.ModerationLabel, policy: labels.Policy, event: TagsEvent, upload: VideoUploaded, start_s: float
) -> RestrictedCase:
    """A case without quotes, in the restricted queue whatever its label; its window starts at `start_s`."""
    facts = _case_facts(label, policy, event, upload)
    queue = labels.policy(parts.RESTRICTED).queue or parts.RESTRICTED
    return RestrictedCase(**facts, queue=queue, seek_s=_seek_s(start_s))


def _case_facts(
    label: parts.ModerationLabel, policy: labels.Policy, event: TagsEvent, upload: VideoUploaded
) -> dict[str, Any]:
    acting = label.band == "act" and policy.thresholds.act is not None
    threshold = (policy.thresholds.act if acting else None) or policy.thresholds.review
    return {
        "video": case.CaseVideo(
            id=upload.video_id,
            content_version=event.data.video.content_version,
            uri=upload.uri,
            uploader_id=upload.uploader_id,
        ),
        "label": label.label,
        "iab": label.iab,
        "band": "act" if acting else "review",
        "risk": label.risk,
        "p": label.p,
        "threshold": min(label.p, threshold) if label.rules else threshold,
        "policy": case.CasePolicy(
            name=policy.name, dsa=policy.dsa, openai=policy.openai, llama_guard=policy.llama_guard
        ),
        "stage": event.data.status.stage,
        "revision": event.data.status.revision,
        "tags_event_id": event.id,
        "provenance": event.data.provenance,
        "rules": label.rules,
    }


def _seek_s(start_s: float) -> float:
    return max(0.0, round(start_s - _LEAD_IN_S, 2))
