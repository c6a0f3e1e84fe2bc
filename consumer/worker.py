"""One input record, start to end: every upload in it ends published, as a dead letter, or given back."""

import logging
import time
import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from consumer import metrics
from consumer.errors import Abandoned, PermanentError, UploadError
from consumer.kafka.outbox import STAGE as OUTBOX_STAGE
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
_MAX_CARRIED_BYTES = 900_000  # brokers refuse more; a larger one stays where it was


class Worker:
    """What a record's thread does."""

    def __init__(self, tools: Tools, outbox: Outbox, settings: KafkaSettings) -> None:
        self._tools = tools
        self._outbox = outbox
        self._settings = settings

    def work(self, job: Job) -> bool:
        """Tags the record's uploads one after the other; only then is the record done. False if it was given back."""
        try:
            try:
                outcomes = self._outcomes(job)
                self._outbox.put(job.claim, [], done=True)
            except PermanentError as refusal:  # Kafka would not take one of the record's results
                outcomes = ["dead_lettered"]
                self.bury(job, refusal)
        except Abandoned:
            metrics.uploads_finished.labels("abandoned").inc()
            return False
        for outcome in outcomes:
            metrics.uploads_finished.labels(outcome).inc()
        return True

    def bury(self, job: Job, refusal: PermanentError) -> None:
        """The record as a whole ends as a dead letter, without its value: that may be what was too large."""
        self._put_dead_letter(job, None, refusal, carried=False)
        self._outbox.put(job.claim, [], done=True)

    def _outcomes(self, job: Job) -> list[str]:
        """What became of each upload; a record in which none can be read counts as one."""
        try:
            uploads = parse(job.value, job.headers, self._settings.max_upload_event_bytes)
        except UploadError as error:
            metrics.uploads_received.labels("unreadable").inc()
            self._put_dead_letter(job, None, error, carried=True)
            return ["dead_lettered"]
        return [self._tag_or_bury(job, upload) for upload in uploads]

    def _tag_or_bury(self, job: Job, upload: VideoUploaded) -> str:
        try:
            self._tag(job, upload)
        except UploadError as error:
            if error.stage == OUTBOX_STAGE:
                raise  # perhaps of an upload before this one: the record's affair
            self._put_dead_letter(job, upload, error, carried=True)
            return "dead_lettered"
        return "published"

    def _tag(self, job: Job, upload: VideoUploaded) -> None:
        started_s = time.monotonic()
        queued_s = max(0.0, round(time.time() - job.timestamp_ms / 1000, 3)) if job.timestamp_ms else None
        with (
            metrics.uploads_in_flight.track_inprogress(),
            closing(tag_video(upload, self._tools, job.cancelled.is_set, queued_s)) as revisions,
        ):
            for revision in revisions:
                if job.cancelled.is_set():
                    raise Abandoned(f"{upload.video_id}: taken away before its revision went out")
                data = revision.tags.data
                if data.status.revision == 1 and data.timing.first_tag_s is not None:
                    metrics.first_tag_seconds.observe(data.timing.first_tag_s)
                if revision.final:
                    metrics.final_seconds.observe(time.monotonic() - started_s)
                self._outbox.put(job.claim, self._records(revision), done=False)

    def _records(self, revision: Revision) -> list[Record]:
        tags = _record(self._settings.tags_topic, revision.tags)
        return [tags, *(_record(self._settings.cases_topic, case) for case in revision.cases)]

    def _put_dead_letter(self, job: Job, upload: VideoUploaded | None, error: UploadError, *, carried: bool) -> None:
        """For one upload, or for a record in which none could be read; `carried` with the record's own value."""
        if job.cancelled.is_set():
            raise Abandoned("the record's next owner will say what becomes of it")
        event = _dead_letter(job, upload, error)
        log.warning("dead letter for %s: %s: %s", event.subject, error.reason, error)
        headers = [_CLOUD_EVENT, *_dlq_headers(job, event)]
        if carried and job.value is not None and len(job.value) <= _MAX_CARRIED_BYTES:
            headers.append(("x-dlq-orig-value", job.value))
        record = _record(self._settings.dead_letter_topic, event)
        self._outbox.put(job.claim, [replace(record, key=job.key, headers=headers)], done=False)
        metrics.dead_letters.labels(error.stage, error.reason).inc()


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


def _dlq_headers(job: Job, event: DeadLetterEvent) -> list[tuple[str, bytes]]:
    """The same in headers, where other dead-letter queues have it."""
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
    return [(name, text.encode()) for name, text in texts.items()]
