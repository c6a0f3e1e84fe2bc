"""What a worker stands between, as stand-ins: the media, the models and the way out. Each can fail on demand, and what
went out can be read back, as readers of the topics and the partition's next owner do."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from consumer import metrics
from consumer.errors import Abandoned, PermanentError, TransientError
from consumer.evidence import Logits
from consumer.kafka import headers
from consumer.kafka.delivery import STAGE
from consumer.kafka.ledger import Ledger
from consumer.kafka.offsets import Claim, Partition
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Headers, Job, Record
from consumer.revisions import Medium
from consumer.settings import KafkaSettings
from consumer.tagging import OpenMedia, Tools
from consumer.transcript import Passage, TextWindow
from consumer.worker import Worker
from schemas import CaseEvent, DeadLetterEvent, TagsEvent, VideoUploaded
from tests.faults.stand_ins import StandIn, stand_in_tools

KAFKA = KafkaSettings()
PARTITION = 3
UPLOADED_MS = 1_700_000_000_000
NUM_WINDOWS = 8
REFUSAL = PermanentError("result_refused", "Kafka refuses a record of 2000000 bytes", stage=STAGE)
SLOW = TransientError("fetch_timeout", "no bytes for 20 s", stage="fetch")
GONE = PermanentError("file_not_found", "there is no file /gone.mp4", stage="fetch")


class Died(BaseException):
    """The process is no more."""


class Sent(NamedTuple):
    """One call of the outbox."""

    how: Literal["put", "store", "finish"]
    claim: Claim
    records: tuple[Record, ...]


class Letter(NamedTuple):
    """A dead letter, and its record's headers and key."""

    event: DeadLetterEvent
    headers: dict[str, bytes | None]
    key: bytes | None

    @property
    def of_record(self) -> bool:
        """Of the record as a whole, which does not carry its value."""
        return self.event.data.video_id is None and headers.ORIG_VALUE not in self.headers


class StandInOutbox(Outbox):
    """Keeps what is sent. Before it does, `on_send` gets the number of the call, and may raise."""

    def __init__(self) -> None:
        self.sends: list[Sent] = []
        self.on_send: Callable[[int], None] = lambda number: None
        self.num_calls = 0
        self._calls = threading.Lock()

    def put(self, claim: Claim, records: Sequence[Record]) -> None:
        self._send(Sent("put", claim, tuple(records)))

    def store(self, claim: Claim, records: Sequence[Record]) -> None:
        self._send(Sent("store", claim, tuple(records)))

    def finish(self, claim: Claim, records: Sequence[Record]) -> None:
        self._send(Sent("finish", claim, tuple(records)))

    def _send(self, sent: Sent) -> None:
        with self._calls:
            number, self.num_calls = self.num_calls, self.num_calls + 1
        self.on_send(number)
        self.sends.append(sent)

    @property
    def hows(self) -> list[str]:
        return [sent.how for sent in self.sends]

    @property
    def finished(self) -> list[Claim]:
        return [sent.claim for sent in self.sends if sent.how == "finish"]

    @property
    def tags(self) -> list[TagsEvent]:
        return [TagsEvent.model_validate_json(record.value or b"") for record in self.of(KAFKA.tags_topic)]

    @property
    def cases(self) -> list[CaseEvent]:
        return [CaseEvent.model_validate_json(record.value or b"") for record in self.of(KAFKA.cases_topic)]

    @property
    def letters(self) -> list[Letter]:
        return [
            Letter(DeadLetterEvent.model_validate_json(record.value or b""), dict(record.headers), record.key)
            for record in self.of(KAFKA.dead_letter_topic)
        ]

    @property
    def retries(self) -> list[Record]:
        return self.of(KAFKA.retry_topic)

    @property
    def progress(self) -> dict[str, bytes]:
        """What compaction leaves, in the order of writing."""
        kept: dict[str, bytes] = {}
        for record in self.of(KAFKA.progress_topic):
            assert record.partition == PARTITION
            key = (record.key or b"").decode()
            kept.pop(key, None)
            if record.value is not None:
                kept[key] = record.value
        return kept

    @property
    def lasting(self) -> list[str]:
        """The events but for their times, in order."""
        events: list[TagsEvent | CaseEvent] = [*self.tags, *self.cases]
        return [lasting(event) for event in events]

    def of(self, topic: str) -> list[Record]:
        return [record for sent in self.sends for record in sent.records if record.topic == topic]


def lasting(event: TagsEvent | CaseEvent) -> str:
    """What of the event is the same whenever it is made, in short."""
    said = event.model_dump_json(exclude={"time": True, "data": {"timing": True}})
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    stands = event.data.status if isinstance(event, TagsEvent) else event.data
    return f"{event.type} {event.subject} {stands.stage} {stands.revision} {event.id} {digest}"


@dataclass(frozen=True)
class Media:
    """A stand-in's, each window of which is told to `on_window` as it is heard."""

    stand_in: StandIn
    video: str
    on_window: Callable[[str, int], None]

    def medium(self) -> Medium:
        return self.stand_in.medium()

    def windows(self, first: int, start_s: float) -> Iterator["Future[TextWindow]"]:
        for index, window in enumerate(self.stand_in.windows(first, start_s), start=first):
            self.on_window(self.video, index)
            yield window


class House:
    """The owners of a partition, one after the other: each has a worker, and a ledger with what was stored before.

    `version` is that of all media; those with `gone` in their URI are not there.
    """

    def __init__(self, settings: KafkaSettings = KAFKA, num_windows: int = NUM_WINDOWS) -> None:
        self.settings = settings
        self.outbox = StandInOutbox()
        self.version = 1
        self.pipeline = "1-test"
        self.on_open: Callable[[VideoUploaded], None] = lambda upload: None
        self.on_window: Callable[[str, int], None] = lambda video, index: None
        self.on_read: Callable[[Passage], None] = lambda passage: None
        self.opened: list[str] = []
        self.heard: list[tuple[str, int]] = []
        self._num_windows = num_windows
        self._stand_ins = stand_in_tools(None)
        self._num_retries = 0
        self.move_in()

    def move_in(self, finds: Callable[[bytes], bytes] = lambda value: value) -> None:
        """The next owner, in a process of its own, who finds what was stored changed so."""
        self.ledger = Ledger({key: finds(value) for key, value in self.outbox.progress.items()})
        self.worker = Worker(self.tools(), self.outbox, self.settings)

    def leave(self) -> None:
        """In peace: as the intake does when it gives the partition up."""
        key, value = self.ledger.farewell()
        last_words = Record(KAFKA.progress_topic, key.encode(), value, [], "progress", PARTITION)
        self.outbox.sends.append(Sent("put", Claim(Partition(KAFKA.uploads_topic, PARTITION), 0, 1), (last_words,)))

    def tools(self) -> Tools:
        makers = self._stand_ins.makers
        provenance = makers.provenance.model_copy(update={"pipeline": self.pipeline})
        return replace(self._stand_ins, open=self._open, read=self._read, makers=replace(makers, provenance=provenance))

    def job(self, value: bytes | None, offset: int = 7, *, came_with: Headers = (), topic: str = "") -> Job:
        partition = Partition(topic or KAFKA.uploads_topic, PARTITION)
        return Job(Claim(partition, offset, 1), b"the key", value, list(came_with), UPLOADED_MS, 0.0, self.ledger)

    def again(self, job: Job) -> Job:
        """The same record, as the owner of now gets it."""
        return replace(job, ledger=self.ledger, leaving=threading.Event(), cancelled=threading.Event())

    def retry(self, record: Record | None = None) -> Job:
        """The last retry, or this one, come to its time."""
        record = record or self.outbox.retries[-1]
        assert record.partition == PARTITION
        self._num_retries += 1
        job = self.job(record.value, 100 + self._num_retries, came_with=record.headers, topic=KAFKA.retry_topic)
        return replace(job, key=record.key, timestamp_ms=UPLOADED_MS + 5000)

    def stands(self) -> Any:
        """What is stored of the one upload that is not finished."""
        known = {key: value for key, value in self.outbox.progress.items() if "/" not in key and key != "left"}
        (value,) = known.values()
        return json.loads(value)

    def work(self, job: Job) -> list[str]:
        """What became of the record's uploads, in alphabetic order, as it was counted."""
        before = _counted()
        finished = self.worker.work(job)
        outcomes = sorted((_counted() - before).elements())
        assert finished == (outcomes != ["abandoned"])
        return outcomes

    def dies(self, job: Job) -> None:
        """The owner, at work on the job, at something that raises Died."""
        try:
            self.worker.work(job)
        except Died:
            self.move_in()
        else:
            raise AssertionError("it lives")

    def _open(self, upload: VideoUploaded) -> AbstractContextManager[OpenMedia]:
        self.opened.append(upload.video_id)
        self.on_open(upload)
        if "gone" in upload.uri:
            raise GONE
        version = upload.content_version.removeprefix("v") if upload.content_version else str(self.version)
        there = upload.model_copy(update={"uri": f"stand-in://{self._num_windows}?version={version}"})
        return nullcontext(Media(StandIn(there, None), upload.video_id, self._hear))

    def _hear(self, video: str, index: int) -> None:
        self.on_window(video, index)
        self.heard.append((video, index))

    def _read(self, passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]":
        self.on_read(passage)
        return self._stand_ins.read(passage, video=video, first=first)


def _counted() -> Counter[str]:
    """Uploads finished, by outcome."""
    (family,) = metrics.uploads_finished.collect()
    return Counter({s.labels["outcome"]: int(s.value) for s in family.samples if s.name.endswith("_total")})


def undisturbed(value: bytes, **house: Any) -> list[str]:
    """What comes of a record when nothing goes wrong."""
    calm = House(**house)
    calm.work(calm.job(value))
    return calm.outbox.lasting


class Fails:
    """For `on_window`: fails so many times at the window of this number, if it is one."""

    def __init__(self, window: int | None, error: BaseException, times: int = 1) -> None:
        self._window, self._error, self._left = window, error, times

    def __call__(self, video: str, index: int) -> None:
        if index == self._window and self._left:
            self._left -= 1
            raise self._error


def at(number: int, error: BaseException) -> Callable[[int], None]:
    """For `on_send`: fails with its call of this number."""

    def fail(called: int) -> None:
        if called == number:
            raise error

    return fail


def closed_from(number: int) -> Callable[[int], None]:
    """For `on_send`: the outbox is closed from its call of this number on."""

    def refuse(called: int) -> None:
        if called >= number:
            raise Abandoned("the outbox is closed")

    return refuse


def uploaded(video: str, uri: str = "/talk.mp4", **told: object) -> bytes:
    data = {"video_id": video, "uri": uri, **told}
    kind = "tagstream.video.uploaded.v1"
    return json.dumps({"specversion": "1.0", "id": video, "source": "/test", "type": kind, "data": data}).encode()


def put_into_bucket(*names: str) -> bytes:
    """An S3 notification."""
    places = [{"bucket": {"name": "media"}, "object": {"key": f"{name}.mp4", "eTag": "v1"}} for name in names]
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": place} for place in places]}).encode()


def newer(value: bytes) -> bytes:
    """The progress as a later version of the product may write it."""
    known = json.loads(value)
    lasting = {name: known[name] for name in ("video", "order", "pipeline", "version", "revision", "latest")}
    return json.dumps({"schema": 2, **lasting, "how_far": [1, 2, 3]}).encode()
