"""One input record, start to end: every upload in it ends published, as a dead letter, or given back."""

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from consumer import metrics
from consumer.errors import Abandoned, PermanentError, UploadError
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Job, Record
from consumer.kafka.uploads import parse
from consumer.revisions import SOURCE, Revision
from consumer.settings import KafkaSettings
from consumer.tagging import Tools, tag_video
from schemas import DeadLetter, DeadLetterEvent, OutputEvent, VideoUploaded
from schemas.dead_letter import Original

log = logging.getLogger(__name__)

_IDS = uuid.UUID("b4f60d66-0d7e-5d0e-8d7b-4bb9b1a3c1de")
_CLOUD_EVENT = ("content-type", b"application/cloudevents+json; charset=utf-8")
_MAX_HEADER_CHARACTERS = 1024
_MAX_CARRIED_BYTES = 900_000


class Worker:
    """What a record's thread does."""

    def __init__(self, tools: Tools, outbox: Outbox, settings: KafkaSettings) -> None:
        self._tools = tools
        self._outbox = outbox
        self._settings = settings

    def work(self, job: Job) -> bool:
        """Tags the record's uploads one after the other; only then is the record done. False if it was given back."""
        try:
            for upload in self._uploads(job):
                try:
                    self._tag(job, upload)
                except UploadError as error:
                    self._bury(job, upload, error)
            self._finish(job)
        except Abandoned:
            metrics.uploads_finished.labels("abandoned").inc()
            return False
        return True

    def bury(self, job: Job, error: UploadError) -> None:
        """The record ends as a dead letter."""
        self._bury(job, None, error)
        self._outbox.put(job.claim, [], done=True)

    def _uploads(self, job: Job) -> list[VideoUploaded]:
        try:
            return parse(job.value, job.headers, self._settings.max_upload_event_bytes)
        except UploadError as error:
            metrics.uploads_received.labels("unreadable").inc()
            self._bury(job, None, error)
            return []

    def _finish(self, job: Job) -> None:
        try:
            self._outbox.put(job.claim, [], done=True)
        except PermanentError as refusal:  # Kafka would not take the last result
            self.bury(job, refusal)

    def _tag(self, job: Job, upload: VideoUploaded) -> None:
        started_s = time.monotonic()
        queued_s = max(0.0, round(time.time() - job.timestamp_ms / 1000, 3)) if job.timestamp_ms else None
        with metrics.uploads_in_flight.track_inprogress():
            for revision in tag_video(upload, self._tools, job.cancelled.is_set, queued_s):
                elapsed_s = time.monotonic() - started_s
                if revision.tags.data.status.revision == 1:
                    metrics.first_tag_seconds.observe(elapsed_s)
                if revision.final:
                    metrics.final_seconds.observe(elapsed_s)
                self._outbox.put(job.claim, self._records(revision), done=False)
        metrics.uploads_finished.labels("published").inc()

    def _records(self, revision: Revision) -> list[Record]:
        tags = _record(self._settings.tags_topic, revision.tags)
        return [tags, *(_record(self._settings.cases_topic, case) for case in revision.cases)]

    def _bury(self, job: Job, upload: VideoUploaded | None, error: UploadError) -> None:
        """A dead letter for one upload, or for a record in which no upload could be read."""
        log.warning(
            "dead letter for %s: %s: %s",
            upload.video_id if upload else f"{job.topic}/{job.claim.partition}/{job.claim.offset}",
            error.reason,
            error,
        )
        event = _dead_letter(job, upload, error)
        record = _record(self._settings.dead_letter_topic, event)
        record = replace(record, key=job.key, headers=[*record.headers, *_dlq_headers(job, event)])
        try:
            self._outbox.put(job.claim, [record], done=False)
        except PermanentError:  # of a result put before, which Kafka would not take: buried with the rest
            self._outbox.put(job.claim, [record], done=False)
        metrics.dead_letters.labels(error.stage, error.reason).inc()
        metrics.uploads_finished.labels("dead_lettered").inc()


def _record(topic: str, event: OutputEvent) -> Record:  # type: ignore[type-arg]
    return Record(topic, event.partitionkey.encode(), event.model_dump_json().encode(), [_CLOUD_EVENT], event.type)


def _dead_letter(job: Job, upload: VideoUploaded | None, error: UploadError) -> DeadLetterEvent:
    now = datetime.now(UTC)
    place = (job.topic, str(job.claim.partition), str(job.claim.offset), upload.video_id if upload else "")
    letter = DeadLetter(
        reason=error.reason,
        stage=error.stage,
        message=str(error)[:_MAX_HEADER_CHARACTERS],
        error_class="permanent" if isinstance(error, PermanentError) else "transient",
        video_id=upload.video_id if upload else None,
        uri=upload.uri if upload else None,
        attempt=1,
        original=Original(
            topic=job.topic,
            partition=job.claim.partition,
            offset=job.claim.offset,
            key=job.key.decode(errors="replace") if job.key else None,
            timestamp_ms=job.timestamp_ms,
        ),
        failed_at=now,
    )
    return DeadLetterEvent.wrap(letter, id=str(uuid.uuid5(_IDS, "\n".join(place))), source=SOURCE, time=now)


def _dlq_headers(job: Job, event: DeadLetterEvent) -> Sequence[tuple[str, bytes]]:
    """The same in headers, as other dead-letter queues have it, and the record's own value, untouched."""
    letter = event.data
    texts = {
        "x-dlq-orig-topic": job.topic,
        "x-dlq-orig-partition": str(job.claim.partition),
        "x-dlq-orig-offset": str(job.claim.offset),
        "x-dlq-orig-timestamp": "" if job.timestamp_ms is None else str(job.timestamp_ms),
        "x-dlq-stage": letter.stage,
        "x-dlq-error-class": letter.reason,
        "x-dlq-error-message": letter.message,
        "x-retry-attempt": str(letter.attempt),
    }
    headers = [(name, text.encode()) for name, text in texts.items()]
    if job.value is None or len(job.value) > _MAX_CARRIED_BYTES:  # brokers refuse more; it stays where it was
        return headers
    return [*headers, ("x-dlq-orig-value", job.value)]
