"""One input record, start to end: each upload in it ends published, as a retry, as a dead letter, as one that was there
before, or given back."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from consumer import metrics
from consumer.checkpoint import Checkpoint
from consumer.errors import Abandoned, PermanentError, TagstreamError, TransientError, UploadError
from consumer.kafka.delivery import STAGE as OUTBOX_STAGE
from consumer.kafka.ledger import Arrival, Entry, Verdict
from consumer.kafka.offsets import Claim
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Job, Record
from consumer.kafka.uploads import parse
from consumer.letters import CLOUD_EVENT, attempt_of, dead_letter, original, retry, upload_of
from consumer.revisions import Revision, upload_key
from consumer.settings import KafkaSettings
from consumer.tagging import Start, Step, Tools, tag_video
from consumer.turns import Turns
from schemas import OutputEvent, VideoUploaded

log = logging.getLogger(__name__)

Send = Callable[[Claim, Sequence[Record]], None]


class Duplicate(TagstreamError):
    """The same upload is finished already."""


class Worker:
    """What a record's thread does."""

    def __init__(self, tools: Tools, outbox: Outbox, settings: KafkaSettings) -> None:
        self._tools = tools
        self._outbox = outbox
        self._settings = settings
        self._pipeline = tools.makers.provenance.pipeline
        self._turns = Turns()
        self._limit = DeadLetterLimit(settings.max_dead_letters_in_a_row)

    def work(self, job: Job) -> bool:
        """Brings the record's uploads to their ends, one after the other; with the last one the record is finished.
        False if it was given back. Raises TagstreamError when too many uploads in a row had to be given up."""
        try:
            try:
                outcomes = self._outcomes(job)
            except PermanentError as refusal:  # Kafka would not take one of the record's results
                outcomes = [self._bury(job, refusal)]
        except Abandoned:
            metrics.uploads_finished.labels("abandoned").inc()
            return False
        for outcome in outcomes:
            metrics.uploads_finished.labels(outcome).inc()
            self._limit.count(outcome)
        return True

    def _outcomes(self, job: Job) -> list[str]:
        """What became of each upload; a record of which none can be read counts as one."""
        try:
            uploads = self._chosen(job, parse(job.value, job.headers, self._settings.max_upload_event_bytes))
        except UploadError as error:
            metrics.uploads_received.labels("unreadable").inc()
            self._write_off(job, None, None, error, self._outbox.finish)
            return ["dead_lettered"]
        if not uploads:
            self._outbox.finish(job.claim, [])
        last = len(uploads) - 1
        return [
            self._upload(job, upload, index, self._outbox.finish if number == last else self._outbox.put)
            for number, (index, upload) in enumerate(uploads)
        ]

    def _upload(self, job: Job, upload: VideoUploaded, index: int, end: Send) -> str:
        """Brings one upload to its end; `end` sends the last of what it gives."""
        arrival = self._arrival(job, upload, index)
        with self._turns.turn((job.claim.partition.number, upload.video_id), job.cancelled.is_set):
            if job.leaving.is_set():
                raise Abandoned(f"{upload.video_id}: given back before it was begun")
            verdict = job.ledger.verdict(arrival, self._settings.max_deaths)
            if verdict is Verdict.WORK and self._is_finished(job, arrival.key, upload.content_version):
                verdict = Verdict.DUPLICATE
            if verdict in (Verdict.SETTLED, Verdict.DUPLICATE, Verdict.SUPERSEDED):
                log.info("%s: %s; nothing to do", upload.video_id, verdict.value)
                over = job.ledger.forget(arrival.key) if verdict is Verdict.SUPERSEDED else []
                end(job.claim, self._written(job, over))
                return str(verdict.value)
            try:
                if verdict is Verdict.POISON:
                    deaths = job.ledger.deaths(arrival.key)
                    raise PermanentError(
                        "process_died", f"{deaths} processes died while they worked on it", stage="work"
                    )
                self._tag(job, upload, arrival, end)
            except Duplicate:
                log.info("%s: finished before; nothing to do", upload.video_id)
                self._send(job, arrival.key, job.ledger.finished(arrival.key), [], end)
                return "duplicate"
            except UploadError as error:
                if error.stage == OUTBOX_STAGE:
                    raise  # perhaps of an upload before this one: the record's affair
                return self._fail(job, upload, index, arrival, error, end)
        return "published"

    def _arrival(self, job: Job, upload: VideoUploaded, index: int) -> Arrival:
        topic, number = job.claim.partition
        first = original(job, self._settings)
        return Arrival(
            key=upload_key(upload),
            video=upload.video_id,
            order=first.offset,
            place=f"{topic}/{number}/{job.claim.offset}/{index}",
            attempt=attempt_of(job, self._settings),
            retried=topic == self._settings.retry_topic,
            at_ms=first.timestamp_ms or 0,
        )

    def _tag(self, job: Job, upload: VideoUploaded, arrival: Arrival, end: Send) -> None:
        entry = job.ledger.begin(arrival, self._pipeline)
        started_s = time.monotonic()
        queued_s = max(0.0, round(time.time() - job.timestamp_ms / 1000, 3)) if job.timestamp_ms else None

        def recall(version: str) -> Start:
            nonlocal entry
            if self._is_finished(job, arrival.key, version):
                raise Duplicate
            supersedes = job.ledger.last_event(arrival.video)
            if (entry.pipeline, entry.version) != (self._pipeline, version):
                entry = replace(entry, pipeline=self._pipeline, version=version, revision=0, checkpoint=None)
            return Start(_checkpoint(entry), supersedes, revisions_out=entry.revision)

        with ExitStack() as suspicion, metrics.uploads_in_flight.track_inprogress():
            if entry.deaths:  # alone among its like, so that of several the one that kills is known
                suspicion.enter_context(self._turns.turn("suspect", job.cancelled.is_set))
            # Before the media are touched: they may kill the process.
            self._send(job, arrival.key, entry, [], self._outbox.store)
            with closing(tag_video(upload, self._tools, job.cancelled.is_set, queued_s, recall)) as steps:
                for number, step in enumerate(steps):
                    self._check(job)
                    _observe(step, started_s)
                    final = step.revision is not None and step.revision.final
                    entry = _advanced(entry, step)
                    if number >= self._tools.windows_ahead:  # past all that may have been at work at the last death
                        entry = replace(entry, deaths=0)
                        suspicion.close()
                    self._send(job, arrival.key, entry, self._events(step.revision), end if final else self._outbox.put)
                    if job.leaving.is_set() and not final:
                        raise Abandoned(f"{upload.video_id}: given back between two windows")

    def _is_finished(self, job: Job, key: str, version: str | None) -> bool:
        """Whether this content version has been tagged by this pipeline; None: the version is not known yet."""
        finished = job.ledger.finished(key)
        return finished is not None and (finished.pipeline, finished.version) == (self._pipeline, version)

    def _fail(
        self, job: Job, upload: VideoUploaded, index: int, arrival: Arrival, error: UploadError, end: Send
    ) -> str:
        self._check(job)
        entry = job.ledger.entry(arrival.key) or job.ledger.begin(arrival, self._pipeline)
        entry = replace(entry, place=arrival.place, attempt=arrival.attempt, deaths=0)
        if isinstance(error, TransientError) and arrival.attempt < self._settings.max_attempts:
            log.info(
                "%s: to be tried again after attempt %d: %s: %s", arrival.video, arrival.attempt, error.reason, error
            )
            again = retry(job, index, error, self._settings)
            self._send(job, arrival.key, replace(entry, outcome="retrying"), [again], end)
            metrics.retries.labels(error.stage, error.reason).inc()
            return "retrying"
        kept = self._progress(job, arrival.key, dead := replace(entry, outcome="dead_lettered"))
        self._write_off(job, upload, index, error, end, kept)
        job.ledger.keep(arrival.key, dead)
        return "dead_lettered"

    def _write_off(
        self,
        job: Job,
        upload: VideoUploaded | None,
        index: int | None,
        error: UploadError,
        end: Send,
        progress: Sequence[Record] = (),
        *,
        carried: bool = True,
    ) -> None:
        self._check(job)
        log.warning("dead letter for %s: %s: %s", upload.video_id if upload else _place(job), error.reason, error)
        letter = dead_letter(job, upload, index, error, self._settings, carried=carried)
        end(job.claim, [letter, *progress])
        metrics.dead_letters.labels(error.stage, error.reason).inc()

    def _bury(self, job: Job, refusal: PermanentError) -> str:
        """The record as a whole ends as a dead letter, without its value: that may be what was too large."""
        dead = {key: replace(e, outcome="dead_lettered") for key, e in job.ledger.at_work(_place(job) + "/").items()}
        progress = [record for key, entry in dead.items() for record in self._progress(job, key, entry)]
        try:
            self._write_off(job, None, None, refusal, self._outbox.finish, progress, carried=False)
        except PermanentError as error:
            raise TagstreamError(f"Kafka refuses a dead letter: {error}") from error
        for key, entry in dead.items():
            job.ledger.keep(key, entry)
        return "dead_lettered"

    def _send(self, job: Job, key: str, entry: Entry | None, events: Sequence[Record], send: Send) -> None:
        """The events, and with them how far the upload has come."""
        send(job.claim, [*events, *(self._progress(job, key, entry) if entry else ())])
        if entry:
            job.ledger.keep(key, entry)

    def _progress(self, job: Job, key: str, entry: Entry) -> list[Record]:
        return self._written(job, job.ledger.records(key, entry))

    def _written(self, job: Job, pairs: Sequence[tuple[str, bytes | None]]) -> list[Record]:
        topic, number = self._settings.progress_topic, job.claim.partition.number
        return [Record(topic, key.encode(), value, [], partition=number) for key, value in pairs]

    def _chosen(self, job: Job, uploads: Sequence[VideoUploaded]) -> list[tuple[int, VideoUploaded]]:
        """The record's uploads with their numbers; of a record that comes again for one of them, that one."""
        number = upload_of(job, self._settings)
        chosen = [(index, upload) for index, upload in enumerate(uploads) if number in (None, str(index))]
        if uploads and not chosen:
            raise PermanentError("unknown_upload", f"the record has no upload number {number}", stage="intake")
        return chosen

    def _events(self, revision: Revision | None) -> list[Record]:
        if revision is None:
            return []
        cases = [_record(self._settings.cases_topic, case) for case in revision.cases]
        return [_record(self._settings.tags_topic, revision.tags), *cases]

    def _check(self, job: Job) -> None:
        if job.cancelled.is_set():
            raise Abandoned("the record's next owner will say what becomes of it")


class DeadLetterLimit:
    """A deployment that can tag nothing must stop, not drain the input into the dead-letter topic."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_a_row = 0
        self._lock = threading.Lock()

    def count(self, outcome: str) -> None:
        """Raises TagstreamError at the limit; 0 is none."""
        with self._lock:
            if outcome == "dead_lettered":
                self._in_a_row += 1
            elif outcome == "published":
                self._in_a_row = 0
            if self._most and self._in_a_row >= self._most:
                raise TagstreamError(
                    f"{self._in_a_row} uploads in a row ended as dead letters: nothing more is taken. See their "
                    "reasons with `tagstream dlq list`; then mend what they have in common and start again, or raise "
                    "kafka.max_dead_letters_in_a_row"
                )


def _checkpoint(entry: Entry) -> Checkpoint | None:
    """Where to go on; None to start over."""
    if entry.checkpoint is None:
        return None
    try:
        checkpoint = Checkpoint.from_json(entry.checkpoint)
    except ValueError as error:
        log.warning("%s: its progress cannot be used, it starts over: %s", entry.video, error)
        metrics.progress_unreadable.labels("checkpoint").inc()
        return None
    metrics.resumed.inc()
    return checkpoint


def _advanced(entry: Entry, step: Step) -> Entry:
    checkpoint = step.checkpoint
    if checkpoint.revision > entry.revision:  # not while revisions that are out are made again
        entry = replace(entry, revision=checkpoint.revision, latest=checkpoint.latest)
    if step.revision is not None and step.revision.final:
        return replace(entry, outcome="published", checkpoint=None)
    return replace(entry, checkpoint=checkpoint.to_json())


def _observe(step: Step, started_s: float) -> None:
    if step.revision is None:
        return
    data = step.revision.tags.data
    if data.status.revision == 1 and data.timing.first_tag_s is not None:
        metrics.first_tag_seconds.observe(data.timing.first_tag_s)
    if step.revision.final:
        metrics.final_seconds.observe(time.monotonic() - started_s)


def _record(topic: str, event: OutputEvent) -> Record:  # type: ignore[type-arg]
    return Record(topic, event.partitionkey.encode(), event.model_dump_json().encode(), [CLOUD_EVENT], event.type)


def _place(job: Job) -> str:
    return "/".join((*map(str, job.claim.partition), str(job.claim.offset)))
