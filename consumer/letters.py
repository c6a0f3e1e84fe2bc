"""What is written about an upload that failed: a retry, or a dead letter."""

import random
import time
import uuid
from datetime import UTC, datetime

from consumer.errors import PermanentError, UploadError
from consumer.kafka import headers
from consumer.kafka.records import Job, Record
from consumer.revisions import SOURCE
from consumer.settings import KafkaSettings
from schemas import DeadLetter, DeadLetterEvent, VideoUploaded
from schemas.dead_letter import Original

CLOUD_EVENT = ("content-type", b"application/cloudevents+json; charset=utf-8")

_IDS = uuid.UUID("b4f60d66-0d7e-5d0e-8d7b-4bb9b1a3c1de")
_MAX_HEADER_CHARACTERS = 1024
_MAX_CARRIED_BYTES = 900_000  # brokers refuse more; a larger one stays where it was
_GROWTH = 4


def attempt_of(job: Job, settings: KafkaSettings) -> int:
    """Which try of the record's upload this is, from 1."""
    return max(1, headers.number(_said(job, headers.ATTEMPT, settings)) or 1)


def upload_of(job: Job, settings: KafkaSettings) -> str | None:
    """Which of the record's uploads it is about; None for all of them."""
    return _said(job, headers.UPLOAD, settings)


def _said(job: Job, name: str, settings: KafkaSettings) -> str | None:
    """What a header of ours says. In the input topic strangers write, and say nothing to us with it."""
    return job.header(name) if job.claim.partition.topic == settings.retry_topic else None


def original(job: Job, settings: KafkaSettings) -> Original:
    """Where the record was read first, in the input topic."""
    came = Original(
        topic=job.claim.partition.topic,
        partition=job.claim.partition.number,
        offset=job.claim.offset,
        key=job.key.decode(errors="replace") if job.key else None,
        timestamp_ms=job.timestamp_ms,
    )
    offset = headers.number(_said(job, headers.ORIG_OFFSET, settings))
    if offset is None:
        return came
    timestamp_ms = headers.number(_said(job, headers.ORIG_TIMESTAMP, settings))
    return came.model_copy(update={"topic": settings.uploads_topic, "offset": offset, "timestamp_ms": timestamp_ms})


def retry(job: Job, index: int, error: UploadError, settings: KafkaSettings) -> Record:
    """The record as it came, to be tried again after a while: exponential, with jitter, so that what failed together
    is not tried together."""
    attempt = attempt_of(job, settings)
    wait_s = min(settings.retry_longest_s, settings.retry_first_s * _GROWTH ** (attempt - 1))
    texts = {
        **_history(job, error, settings),
        headers.ATTEMPT: str(attempt + 1),
        headers.NOT_BEFORE: str(int((time.time() + wait_s * random.uniform(0.5, 1.0)) * 1000)),
        headers.UPLOAD: str(index),
    }
    number = job.claim.partition.number
    return Record(
        settings.retry_topic, job.key, job.value, [*headers.foreign(job.headers), *_encoded(texts)], partition=number
    )


def dead_letter(
    job: Job,
    upload: VideoUploaded | None,
    index: int | None,
    error: UploadError,
    settings: KafkaSettings,
    *,
    carried: bool = True,
) -> Record:
    """For one upload, or for a record of which none could be read; `carried` with the record's own value."""
    event = _event(job, upload, error, settings)
    letter = event.data
    texts = {
        **_history(job, error, settings),
        headers.ATTEMPT: str(letter.attempt),
        **({} if index is None else {headers.UPLOAD: str(index)}),
    }
    own = [(headers.ORIG_HEADER_PREFIX + name, value) for name, value in headers.foreign(job.headers)]
    if carried and job.value is not None and len(job.value) <= _MAX_CARRIED_BYTES:
        own.append((headers.ORIG_VALUE, job.value))
    value = event.model_dump_json().encode()
    return Record(settings.dead_letter_topic, job.key, value, [CLOUD_EVENT, *_encoded(texts), *own], event.type)


def _event(job: Job, upload: VideoUploaded | None, error: UploadError, settings: KafkaSettings) -> DeadLetterEvent:
    now = datetime.now(UTC)
    place = (*map(str, job.claim.partition), str(job.claim.offset), upload.video_id if upload else "")
    letter = DeadLetter(
        reason=error.reason,
        stage=error.stage,
        message=str(error)[:_MAX_HEADER_CHARACTERS],
        error_class="permanent" if isinstance(error, PermanentError) else "transient",
        video_id=upload.video_id if upload else None,
        uri=upload.uri if upload else None,
        attempt=attempt_of(job, settings),
        original=original(job, settings),
        failed_at=now,
    )
    return DeadLetterEvent.wrap(letter, id=str(uuid.uuid5(_IDS, "\n".join(place))), source=SOURCE, time=now)


def _history(job: Job, error: UploadError, settings: KafkaSettings) -> dict[str, str]:
    """The same in headers, where other dead-letter queues have it, and what was known of earlier failures."""
    came = original(job, settings)
    redrives = _said(job, headers.REDRIVES, settings)
    return {
        headers.ORIG_TOPIC: came.topic,
        headers.ORIG_PARTITION: str(came.partition),
        headers.ORIG_OFFSET: str(came.offset),
        headers.ORIG_TIMESTAMP: "" if came.timestamp_ms is None else str(came.timestamp_ms),
        headers.GROUP: settings.group_id,
        headers.STAGE: error.stage,
        headers.REASON: error.reason,
        headers.MESSAGE: str(error)[:_MAX_HEADER_CHARACTERS],
        headers.FIRST_FAILURE: _said(job, headers.FIRST_FAILURE, settings) or str(int(time.time() * 1000)),
        **({headers.REDRIVES: redrives} if redrives else {}),
    }


def _encoded(texts: dict[str, str]) -> list[tuple[str, bytes]]:
    return [(name, text.encode()) for name, text in texts.items()]
