"""What becomes of one input record: with stand-ins for the media, the models and the way out, so that each of them
can fail on demand."""

import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import pytest

from consumer import app, labels
from consumer.app import App
from consumer.errors import Abandoned, PermanentError, TagstreamError, TransientError, UploadError
from consumer.evidence import Aspect, Logits
from consumer.kafka.offsets import Claim
from consumer.kafka.outbox import STAGE, Outbox
from consumer.kafka.records import Job, Record
from consumer.llm.heads import Heads
from consumer.revisions import Makers, Medium
from consumer.settings import KafkaSettings, Settings
from consumer.tagging import OpenMedia, Tools
from consumer.tags import ReadOut
from consumer.training.shipped import shipped_folders
from consumer.transcript import Passage, Segment, TextWindow
from consumer.worker import Worker
from schemas import CaseEvent, DeadLetterEvent, Provenance, TagsEvent, VideoUploaded
from tests.kafka_house import eventually
from tests.test_app import uploaded

KAFKA = KafkaSettings()
NUM_REVISIONS = 3  # of a `Talk`: one for each window, and the final one
REFUSAL = PermanentError("result_refused", "Kafka refuses a record of 2000000 bytes", stage=STAGE)
GONE = PermanentError("file_not_found", "there is no file /gone.mp4", stage="fetch")


class FakeOutbox(Outbox):
    """Keeps what is put. The puts numbered `refused_at` are refused; from `closed_at` on it is closed."""

    def __init__(self, refused_at: Collection[int] = (), closed_at: float = float("inf")) -> None:
        self.records: list[Record] = []
        self.ended: dict[int, Claim] = {}  # by the number of the put that was `done`
        self.num_puts = 0
        self._refused_at, self._closed_at = refused_at, closed_at

    def put(self, claim: Claim, records: Sequence[Record], *, done: bool) -> None:
        number, self.num_puts = self.num_puts, self.num_puts + 1
        if number >= self._closed_at:
            raise Abandoned("the outbox is closed")
        if number in self._refused_at:
            raise REFUSAL
        self.records += records
        if done:
            self.ended[number] = claim

    @property
    def tags(self) -> list[TagsEvent]:
        return [TagsEvent.model_validate_json(r.value or b"") for r in self.records if r.topic == KAFKA.tags_topic]

    @property
    def cases(self) -> list[CaseEvent]:
        return [CaseEvent.model_validate_json(r.value or b"") for r in self.records if r.topic == KAFKA.cases_topic]

    @property
    def letters(self) -> list["Letter"]:
        return [
            Letter(DeadLetterEvent.model_validate_json(r.value or b""), dict(r.headers), r.key)
            for r in self.records
            if r.topic == KAFKA.dead_letter_topic
        ]


class Letter(NamedTuple):
    """A dead letter, and its record's headers and key."""

    event: DeadLetterEvent
    headers: dict[str, bytes | None]
    key: bytes | None

    @property
    def of_record(self) -> bool:
        """Of the record as a whole, which does not carry its value."""
        return self.event.data.video_id is None and "x-dlq-orig-value" not in self.headers


class Talk:
    """Open media: the first half minute of a minute, in two windows."""

    def windows(self) -> Iterator["Future[TextWindow]"]:
        for index, (start_s, end_s) in enumerate([(0.0, 10.0), (10.0, 30.0)]):
            future: Future[TextWindow] = Future()
            segment = Segment(start_s, end_s, "Double your money today, and send us the keys of your wallet first.")
            future.set_result(TextWindow(index, start_s, end_s, (segment,), "asr"))
            yield future

    def medium(self) -> Medium:
        return Medium("v1", 60.0)


def open_talk(upload: VideoUploaded) -> AbstractContextManager[OpenMedia]:
    """A talk, or the error of a file that is gone."""
    if "gone" in upload.uri:
        raise GONE
    return nullcontext(Talk())


@pytest.fixture(scope="module")
def read_out() -> ReadOut:
    heads = Heads.load(shipped_folders()[0]).heads
    topic, sentiment, policy = (heads[name].aspect for name in ("topic", "sentiment", "policy"))
    return ReadOut(topic, sentiment, policy, heads["topic"].thresholds)


class House:
    """A worker between stand-ins."""

    def __init__(self, read_out: ReadOut) -> None:
        self.open: Callable[[VideoUploaded], AbstractContextManager[OpenMedia]] = open_talk
        self.on_read: Callable[[bool], None] = lambda first: None
        self._read_out = read_out

    def tools(self) -> Tools:
        provenance = Provenance(
            pipeline="1-test", speech_model="none", llm_model="none", heads="none", taxonomy=labels.SCHEME
        )
        return Tools(self.open, self._read, Makers(self._read_out, provenance, frozenset({"en"})), 2)

    def work(self, outbox: FakeOutbox, job: Job) -> bool:
        return Worker(self.tools(), outbox, KAFKA).work(job)

    def _read(self, passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]":
        self.on_read(first)
        found: Future[dict[str, Logits]] = Future()
        found.set_result({aspect.name: self._says(aspect) for aspect in self._read_out.aspects})
        return found

    def _says(self, aspect: Aspect) -> Logits:
        """The first topic and tone and, of all policies, a scam."""
        at = aspect.labels.index("scam_spam_malware") if aspect.name == "policy" else 0
        return np.where(np.arange(len(aspect.labels)) == at, 30.0, -30.0)


@pytest.fixture
def house(read_out: ReadOut) -> House:
    return House(read_out)


def job(value: bytes | None, offset: int = 7, epoch: int = 1) -> Job:
    claim = Claim(partition=3, offset=offset, epoch=epoch)
    return Job(claim, KAFKA.uploads_topic, b"the key", value, [], 1_700_000_000_000, 0.0, threading.Event())


def put_into_bucket(*names: str) -> bytes:
    """An S3 notification."""
    places = [{"bucket": {"name": "media"}, "object": {"key": f"{name}.mp4", "eTag": "e"}} for name in names]
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": place} for place in places]}).encode()


GOOD = uploaded("good", "/talk.mp4")
BAD = uploaded("bad", "/gone.mp4")
UNREADABLE = b"{this is not json \xff"
ENDS = {  # a record, and how many puts it takes to its end
    "good": (GOOD, NUM_REVISIONS + 1),
    "bad": (BAD, 2),
    "unreadable": (UNREADABLE, 2),
    "mixed": (put_into_bucket("gone", "talk"), NUM_REVISIONS + 2),
    "tombstone": (None, 1),
}
PUTS = [
    pytest.param(value, at, id=f"{name}-{at}") for name, (value, num_puts) in ENDS.items() for at in range(num_puts)
]


def test_a_good_upload_is_published_and_then_done(house: House) -> None:
    outbox, good = FakeOutbox(), job(GOOD)
    assert house.work(outbox, good)
    assert [event.data.status.revision for event in outbox.tags] == list(range(1, NUM_REVISIONS + 1))
    assert outbox.tags[-1].data.status.stage == "final"
    assert [case.data.tags_event_id for case in outbox.cases] == [outbox.tags[0].id]
    assert {record.key for record in outbox.records} == {b"good"}
    assert outbox.letters == []
    assert outbox.ended == {NUM_REVISIONS: good.claim}


@pytest.mark.parametrize(("value", "num_puts"), ENDS.values(), ids=ENDS)
def test_every_record_ends_once_and_with_its_last_put(value: bytes | None, num_puts: int, house: House) -> None:
    outbox, record = FakeOutbox(), job(value)
    assert house.work(outbox, record)
    assert outbox.num_puts == num_puts
    assert outbox.ended == {num_puts - 1: record.claim}


def test_an_unreadable_record_is_one_dead_letter_with_its_value_untouched(house: House) -> None:
    outbox = FakeOutbox()
    assert house.work(outbox, job(UNREADABLE))
    ((event, headers, key),) = outbox.letters
    assert (event.data.reason, event.data.stage, event.data.error_class) == ("not_json", "intake", "permanent")
    assert (event.data.video_id, event.data.uri, event.subject) == (None, None, f"{KAFKA.uploads_topic}/3/7")
    assert headers["x-dlq-orig-value"] == UNREADABLE
    assert key == b"the key"
    assert len(outbox.records) == 1


def test_bad_media_are_a_dead_letter_that_says_where_they_came_from(house: House) -> None:
    outbox = FakeOutbox()
    assert house.work(outbox, job(BAD))
    ((event, headers, _),) = outbox.letters
    assert (event.data.reason, event.data.message) == (GONE.reason, str(GONE))
    assert (event.data.video_id, event.data.uri) == ("bad", "/gone.mp4")
    original = event.data.original
    assert (original.topic, original.partition, original.offset) == (KAFKA.uploads_topic, 3, 7)
    assert (original.key, original.timestamp_ms) == ("the key", 1_700_000_000_000)
    assert {name: value for name, value in headers.items() if name.startswith("x-")} == {
        "x-dlq-orig-topic": KAFKA.uploads_topic.encode(),
        "x-dlq-orig-partition": b"3",
        "x-dlq-orig-offset": b"7",
        "x-dlq-orig-timestamp": b"1700000000000",
        "x-dlq-orig-value": BAD,
        "x-dlq-stage": b"fetch",
        "x-dlq-error-class": b"file_not_found",
        "x-dlq-error-message": str(GONE).encode(),
        "x-retry-attempt": b"1",
    }


def test_of_two_uploads_the_one_that_fails_is_a_dead_letter_and_the_other_is_published(house: House) -> None:
    outbox, mixed = FakeOutbox(), job(put_into_bucket("gone", "talk"))
    assert house.work(outbox, mixed)
    ((event, headers, _),) = outbox.letters
    assert event.data.video_id == "media/gone.mp4"
    assert headers["x-dlq-orig-value"] == mixed.value
    assert {tags.data.video.id for tags in outbox.tags} == {"media/talk.mp4"}
    assert len(outbox.tags) == NUM_REVISIONS
    assert outbox.ended == {NUM_REVISIONS + 1: mixed.claim}


@pytest.mark.parametrize(("value", "at"), PUTS)
def test_a_result_that_kafka_refuses_makes_one_dead_letter_of_the_record(
    value: bytes | None, at: int, house: House
) -> None:
    outbox, record = FakeOutbox(refused_at={at}), job(value)
    assert house.work(outbox, record)
    assert outbox.num_puts == at + 3  # those before, the refused one, the dead letter, and the end
    (letter,) = [letter for letter in outbox.letters if letter.of_record]
    assert (letter.event.data.reason, letter.event.data.stage) == ("result_refused", STAGE)
    assert letter.event == outbox.letters[-1].event
    assert outbox.ended == {at + 2: record.claim}


@pytest.mark.parametrize(("value", "at"), PUTS)
def test_an_outbox_that_closes_gives_the_record_back(value: bytes | None, at: int, house: House) -> None:
    outbox = FakeOutbox(closed_at=at)
    assert not house.work(outbox, job(value))
    assert outbox.num_puts == at + 1
    assert outbox.ended == {}


@pytest.mark.parametrize("closed_at", [1, 2])
def test_an_outbox_that_closes_before_a_refused_record_is_buried_gives_it_back(closed_at: int, house: House) -> None:
    outbox = FakeOutbox(refused_at={0}, closed_at=closed_at)
    assert not house.work(outbox, job(GOOD))
    assert outbox.ended == {}


@pytest.mark.parametrize("refused_at", [{0, 1}, {0, 2}])
def test_a_refused_dead_letter_is_an_error_that_ends_the_process(refused_at: set[int], house: House) -> None:
    outbox = FakeOutbox(refused_at)
    with pytest.raises(PermanentError):
        house.work(outbox, job(GOOD))
    assert outbox.ended == {}


def test_a_job_that_is_cancelled_while_its_media_fail_leaves_no_dead_letter(house: House) -> None:
    outbox, cancelled = FakeOutbox(), job(BAD)

    def fail(upload: VideoUploaded) -> AbstractContextManager[OpenMedia]:
        cancelled.cancelled.set()
        raise GONE

    house.open = fail
    assert not house.work(outbox, cancelled)
    assert outbox.num_puts == 0


def test_a_job_that_is_cancelled_while_a_window_is_read_publishes_no_more(house: House) -> None:
    outbox, cancelled = FakeOutbox(), job(GOOD)

    def cancel_at_the_second_window(first: bool) -> None:
        if not first:
            cancelled.cancelled.set()

    house.on_read = cancel_at_the_second_window
    assert not house.work(outbox, cancelled)
    assert [event.data.status.stage for event in outbox.tags] == ["partial"]
    assert outbox.ended == {}


def test_a_job_that_is_cancelled_before_it_began_publishes_nothing(house: House) -> None:
    outbox, cancelled = FakeOutbox(), job(GOOD)
    cancelled.cancelled.set()
    assert not house.work(outbox, cancelled)
    assert outbox.num_puts == 0


@pytest.mark.parametrize(
    ("error", "message", "error_class"),
    [
        (PermanentError("truncated", "", stage="decode"), "truncated", "permanent"),
        (TransientError("fetch_timeout", "x" * 5000, stage="fetch"), "x" * 1024, "transient"),
        (PermanentError("truncated", "bell \a and half \ud800", stage="decode"), "bell ? and half ?", "permanent"),
    ],
    ids=["empty", "long", "unprintable"],
)
def test_a_dead_letter_has_a_message_that_fits(
    error: UploadError, message: str, error_class: str, house: House
) -> None:
    outbox = FakeOutbox()

    def fail(upload: VideoUploaded) -> AbstractContextManager[OpenMedia]:
        raise error

    house.open = fail
    assert house.work(outbox, job(GOOD))
    ((event, headers, _),) = outbox.letters
    assert (event.data.message, event.data.error_class) == (message, error_class)
    assert headers["x-dlq-error-message"] == message.encode()


@pytest.mark.parametrize(("size_bytes", "carried"), [(900_000, True), (900_001, False)])
def test_a_value_over_900_kilobytes_is_not_carried(size_bytes: int, carried: bool, house: House) -> None:
    outbox, value = FakeOutbox(), b"x" * size_bytes
    assert house.work(outbox, job(value))
    ((event, headers, _),) = outbox.letters
    assert event.data.reason == "too_large"
    assert headers.get("x-dlq-orig-value") == (value if carried else None)


def test_dead_letters_have_ids_that_only_the_record_and_the_upload_decide(house: House) -> None:
    def ids(value: bytes, offset: int = 7, epoch: int = 1) -> list[str]:
        outbox = FakeOutbox()
        assert house.work(outbox, job(value, offset, epoch))
        return [letter.event.id for letter in outbox.letters]

    both = put_into_bucket("gone", "gone-too")
    assert ids(both) == ids(both, epoch=2)
    everything = ids(both) + ids(both, offset=8) + ids(UNREADABLE) + ids(UNREADABLE, offset=8)
    assert len(set(everything)) == len(everything) == 6


class FakeKafka:
    """Both ends of an application: a test hands out the jobs, and says when results are stored or refused."""

    def __init__(self) -> None:
        self.outbox = FakeOutbox()
        self.claims_finished: list[Claim] = []

    def make_intake(self, settings: KafkaSettings, capacity: int, begin: Callable[[Job], None]) -> "FakeKafka":
        self.begin = begin
        return self

    def make_outbox(
        self,
        settings: KafkaSettings,
        on_done: Callable[[Claim], None],
        on_refused: Callable[[Claim, PermanentError], None],
    ) -> FakeOutbox:
        self.stored, self.refuse = on_done, on_refused
        return self.outbox

    def finished(self, claim: Claim) -> None:
        self.claims_finished.append(claim)


@pytest.fixture
def kafka(house: House, monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    """Of a wired application, which has tagged what it was given once its outbox has an end."""
    kafka = FakeKafka()
    monkeypatch.setattr(app, "Intake", kafka.make_intake)
    monkeypatch.setattr(app, "Outbox", kafka.make_outbox)
    App(Settings(), house.tools())
    return kafka


def test_a_result_that_is_refused_when_its_worker_has_gone_is_buried_by_another(kafka: FakeKafka) -> None:
    good = job(GOOD)
    kafka.begin(good)
    assert eventually(lambda: len(kafka.outbox.ended) == 1)
    kafka.refuse(good.claim, REFUSAL)
    assert eventually(lambda: len(kafka.outbox.ended) == 2)
    (letter,) = kafka.outbox.letters
    assert letter.of_record
    assert letter.event.data.reason == "result_refused"
    kafka.stored(good.claim)
    assert kafka.claims_finished == [good.claim]


def test_a_dead_letter_that_is_refused_when_its_worker_has_gone_is_an_error(kafka: FakeKafka) -> None:
    good = job(GOOD)
    kafka.begin(good)
    assert eventually(lambda: len(kafka.outbox.ended) == 1)
    kafka.refuse(good.claim, REFUSAL)
    assert eventually(lambda: len(kafka.outbox.ended) == 2)
    with pytest.raises(TagstreamError, match="Kafka refuses a dead letter"):
        kafka.refuse(good.claim, REFUSAL)
    assert kafka.claims_finished == []
