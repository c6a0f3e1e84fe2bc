"""The public contract: every event that goes in or comes out. Names may grow; they do not change.

What we write is strict, what we read is tolerant. JSON Schemas for other languages: `schemas/json`, generated
from these models by `python -m schemas`; executed examples: `schemas/examples`.
"""

from pydantic import ValidationError

from schemas.case import CaseEvent, CasePolicy, CaseVideo, ModerationCase, RestrictedCase, RestrictedCaseEvent
from schemas.dead_letter import DeadLetter, DeadLetterEvent, Original
from schemas.envelope import Envelope, OutputEvent, Payload
from schemas.tags import (
    Coverage,
    Description,
    Evidence,
    Language,
    ModerationLabel,
    Provenance,
    Sentiment,
    Status,
    Tag,
    TagsEvent,
    Timing,
    Video,
    VideoTags,
)
from schemas.upload import Caption, UploadedEvent, VideoUploaded

EVENTS: dict[
    str,
    type[UploadedEvent] | type[TagsEvent] | type[CaseEvent] | type[RestrictedCaseEvent] | type[DeadLetterEvent],
] = {event.event_type(): event for event in (UploadedEvent, TagsEvent, CaseEvent, RestrictedCaseEvent, DeadLetterEvent)}
"""Every event model by its `type` attribute."""


def explain(error: ValidationError) -> str:
    """What is wrong, and where, in one line for people: `data.video_id: Field required; …`."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'event'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False)
    )


__all__ = [
    "EVENTS",
    "Caption",
    "CaseEvent",
    "CasePolicy",
    "CaseVideo",
    "Coverage",
    "DeadLetter",
    "DeadLetterEvent",
    "Description",
    "Envelope",
    "Evidence",
    "Language",
    "ModerationCase",
    "ModerationLabel",
    "Original",
    "OutputEvent",
    "Payload",
    "Provenance",
    "RestrictedCase",
    "RestrictedCaseEvent",
    "Sentiment",
    "Status",
    "Tag",
    "TagsEvent",
    "Timing",
    "UploadedEvent",
    "Video",
    "VideoTags",
    "VideoUploaded",
    "explain",
]
