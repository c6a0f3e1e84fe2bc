"""The parts of an event, built from what was read. Pure."""

from collections.abc import Mapping

from consumer import labels
from consumer.quotes import Quote
from consumer.tags import ReadOut, Scored, Tags
from schemas import ModerationCase, TagsEvent, VideoUploaded, case
from schemas import tags as parts

_SHOWN_TOPICS = 5
_LEAD_IN_S = 3.0  # a reviewer starts playing a little before the quote


def coverage(media_s: float, duration_s: float | None) -> parts.Coverage:
    ratio = None if not duration_s else round(min(1.0, media_s / duration_s), 4)
    return parts.Coverage(media_s=round(min(media_s, duration_s or media_s), 2), ratio=ratio)


def tag_list(tags: Tags, read_out: ReadOut, references: Mapping[str, str]) -> tuple[parts.Tag, ...]:
    shown = [t for rank, t in enumerate(tags.topics) if t.accepted or rank < _SHOWN_TOPICS]
    threshold = dict(zip(read_out.topic.labels, read_out.accept, strict=True))
    names = {topic.id: topic.name for topic in labels.topics()}
    return tuple(
        parts.Tag(
            scheme=labels.SCHEME,
            id=topic.label,
            name=names[topic.label],
            p=topic.p,
            threshold=float(threshold[topic.label]),
            accepted=topic.accepted,
            evidence=(references[topic.label],) if topic.accepted else (),
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
        risk=None if scored.band == "clear" else policy.risk.act if scored.band == "act" else policy.risk.review,
        evidence=() if scored.band == "clear" else (references[scored.label],),
    )


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
    acting = label.band == "act" and policy.thresholds.act is not None
    return ModerationCase(
        video=case.CaseVideo(
            id=upload.video_id,
            content_version=event.data.video.content_version,
            uri=upload.uri,
            uploader_id=upload.uploader_id,
        ),
        label=label.label,
        iab=label.iab,
        band="act" if acting else "review",
        risk=(policy.risk.act if acting else None) or policy.risk.review,
        p=label.p,
        threshold=(policy.thresholds.act if acting else None) or policy.thresholds.review,
        queue=policy.queue or policy.id,
        policy=case.CasePolicy(name=policy.name, dsa=policy.dsa, openai=policy.openai, llama_guard=policy.llama_guard),
        evidence=items,
        seek_s=max(0.0, round((items[0].start_s or 0.0) - _LEAD_IN_S, 2)),
        stage=event.data.status.stage,
        revision=event.data.status.revision,
        tags_event_id=event.id,
        provenance=event.data.provenance,
    )
