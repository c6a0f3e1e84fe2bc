"""What is written about an upload that failed."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.errors import PermanentError, TransientError, UploadError
from consumer.kafka import headers
from consumer.kafka.ledger import Ledger
from consumer.kafka.offsets import Claim, Partition
from consumer.kafka.records import Headers, Job, Record
from consumer.letters import attempt_of, dead_letter, original, retry, upload_of
from consumer.settings import KafkaSettings
from schemas import DeadLetterEvent, VideoUploaded

KAFKA = KafkaSettings()
UPLOAD = VideoUploaded(video_id="v1", uri="/v1.mp4")
SLOW = TransientError("fetch_timeout", "no bytes for 20 s", stage="fetch")
GONE = PermanentError("file_not_found", "there is no file /v1.mp4", stage="fetch")
VALUE = b'\x00\xff {"not": "JSON" '
UPLOADED_MS = 1_700_000_000_000
FOREIGN: Headers = [("seen", b"once"), ("seen", b"\xff\x00"), ("seen", None), ("ce_id", b""), ("X-DLQ-loud", b"1")]


def job(
    value: bytes | None = VALUE, came_with: Headers = (), *, key: bytes | None = b"\xff key", offset: int = 7
) -> Job:
    return Job(Claim(Partition(KAFKA.uploads_topic, 3), offset, 1), key, value, came_with, UPLOADED_MS, 0.0, Ledger())


def again(record: Record, offset: int = 40) -> Job:
    """The retry, as it is read."""
    claim = Claim(Partition(record.topic, 3), offset, 1)
    return Job(claim, record.key, record.value, record.headers, UPLOADED_MS + 5000, 0.0, Ledger())


def texts(record: Record) -> dict[str, str]:
    return {name: (value or b"").decode(errors="replace") for name, value in record.headers if name.startswith("x-")}


def letter(record: Record) -> Any:
    return DeadLetterEvent.model_validate_json(record.value or b"").data


# --- retries ---


@given(
    st.binary(),
    st.none() | st.binary(),
    st.lists(st.tuples(st.text(max_size=5).filter(lambda name: not name.startswith("x-")), st.none() | st.binary())),
)
def test_a_retry_is_the_record_as_it_came_however_often(value: bytes, key: bytes | None, came_with: Headers) -> None:
    record = job(value, came_with, key=key)
    for attempt in range(2, 5):
        made = retry(record, 0, SLOW, KAFKA)
        assert (made.topic, made.partition) == (KAFKA.retry_topic, 3)
        assert (made.value, made.key) == (value, key)
        assert [header for header in made.headers if not header[0].startswith("x-")] == list(came_with)
        assert texts(made)[headers.ATTEMPT] == str(attempt)
        record = again(made)


def test_a_retry_says_where_it_came_from_and_what_went_wrong() -> None:
    before_ms = int(time.time() * 1000)
    told = texts(retry(job(came_with=FOREIGN), 2, SLOW, KAFKA))
    first_ms = int(told.pop(headers.FIRST_FAILURE))
    assert before_ms <= first_ms <= time.time() * 1000
    assert int(told.pop(headers.NOT_BEFORE)) > first_ms
    assert told == {
        "x-dlq-orig-topic": KAFKA.uploads_topic,
        "x-dlq-orig-partition": "3",
        "x-dlq-orig-offset": "7",
        "x-dlq-orig-timestamp": str(UPLOADED_MS),
        "x-dlq-group": KAFKA.group_id,
        "x-dlq-stage": "fetch",
        "x-dlq-error-class": "fetch_timeout",
        "x-dlq-error-message": "no bytes for 20 s",
        "x-retry-attempt": "2",
        "x-retry-upload": "2",
    }


def test_the_history_stays_what_it_was_and_each_header_is_there_once() -> None:
    first = retry(job(), 0, SLOW, KAFKA)
    second = retry(again(first), 0, GONE, KAFKA)
    kept = (headers.ORIG_TOPIC, headers.ORIG_PARTITION, headers.ORIG_OFFSET, headers.ORIG_TIMESTAMP)
    for name in (*kept, headers.FIRST_FAILURE):
        assert texts(second)[name] == texts(first)[name]
    assert texts(second)[headers.REASON] == "file_not_found"
    names = [name for name, _ in second.headers]
    assert len(names) == len(set(names))


def test_a_record_without_a_timestamp_stays_without() -> None:
    record = Job(Claim(Partition(KAFKA.uploads_topic, 3), 7, 1), None, VALUE, [], None, 0.0, Ledger())
    once = again(retry(record, 0, SLOW, KAFKA))
    assert original(once, KAFKA).timestamp_ms is None
    assert original(once, KAFKA).offset == 7


@given(st.integers(1, 8), st.sampled_from([(10.0, 3600.0), (0.5, 4.0), (60.0, 60.0)]))
@examples(max_examples=40)
def test_the_wait_grows_fourfold_up_to_the_longest(attempt: int, waits: tuple[float, float]) -> None:
    first_s, longest_s = waits
    settings = KafkaSettings(retry_first_s=first_s, retry_longest_s=longest_s)
    record = again(retry(job(), 0, SLOW, settings))
    for _ in range(attempt - 2):
        record = again(retry(record, 0, SLOW, settings))
    failed = record if attempt > 1 else job()
    full_s = min(longest_s, first_s * 4 ** (attempt - 1))
    before_s = time.time()
    not_before_s = int(texts(retry(failed, 0, SLOW, settings))[headers.NOT_BEFORE]) / 1000
    assert before_s + full_s / 2 - 0.001 <= not_before_s <= time.time() + full_s


def test_what_failed_together_is_not_tried_together() -> None:
    waits = [int(texts(retry(job(), 0, SLOW, KAFKA))[headers.NOT_BEFORE]) for _ in range(50)]
    assert max(waits) - min(waits) > 0.3 * KAFKA.retry_first_s * 1000


# --- which try, and where from ---


@pytest.mark.parametrize(
    ("told", "attempt"),
    [(b"3", 3), (b"0", 1), (b"-2", 1), (b"", 1), (b"soon", 1), (None, 1), ("٣".encode(), 1), (b"9" * 5000, 1)],
)
def test_what_is_no_attempt_is_the_first(told: bytes | None, attempt: int) -> None:
    record = again(Record(KAFKA.retry_topic, None, VALUE, [(headers.ATTEMPT, told)], "retry"))
    assert attempt_of(record, KAFKA) == attempt


def test_only_a_retry_tells_where_it_came_from_and_which_try_it_is() -> None:
    forged = [(headers.ORIG_OFFSET, b"1"), (headers.ORIG_TOPIC, b"elsewhere"), (headers.ATTEMPT, b"5")]
    record = job(came_with=[*forged, (headers.UPLOAD, b"2"), (headers.REDRIVES, b"9"), (headers.FIRST_FAILURE, b"1")])
    assert (original(record, KAFKA).topic, original(record, KAFKA).offset) == (KAFKA.uploads_topic, 7)
    assert (attempt_of(record, KAFKA), upload_of(record, KAFKA)) == (1, None)
    told = texts(retry(record, 0, SLOW, KAFKA))
    assert headers.REDRIVES not in told
    assert told[headers.FIRST_FAILURE] != "1"


# --- dead letters ---


def test_a_dead_letter_says_what_where_and_why() -> None:
    record = dead_letter(job(key=b"the key"), UPLOAD, 0, GONE, KAFKA)
    said = letter(record)
    assert (record.topic, record.key, record.partition) == (KAFKA.dead_letter_topic, b"the key", None)
    assert record.headers[0] == ("content-type", b"application/cloudevents+json; charset=utf-8")
    assert (said.reason, said.stage, said.message) == ("file_not_found", "fetch", str(GONE))
    assert (said.error_class, said.attempt) == ("permanent", 1)
    assert (said.video_id, said.uri) == ("v1", "/v1.mp4")
    assert said.original.model_dump() == {
        "topic": KAFKA.uploads_topic,
        "partition": 3,
        "offset": 7,
        "key": "the key",
        "timestamp_ms": UPLOADED_MS,
    }


def test_it_carries_the_record_untouched() -> None:
    record = dead_letter(job(came_with=FOREIGN), UPLOAD, 0, GONE, KAFKA)
    assert record.key == b"\xff key"
    assert dict(record.headers)[headers.ORIG_VALUE] == VALUE
    prefix = headers.ORIG_HEADER_PREFIX
    carried = [(name.removeprefix(prefix), value) for name, value in record.headers if name.startswith(prefix)]
    assert carried == list(FOREIGN)
    assert letter(record).original.key == "\ufffd key"


def test_after_retries_it_speaks_of_the_upload_and_not_of_the_retry() -> None:
    record = job(came_with=FOREIGN)
    for _ in range(3):
        record = again(retry(record, 1, SLOW, KAFKA))
    made = dead_letter(record, UPLOAD, 1, SLOW, KAFKA)
    said = letter(made)
    assert (said.error_class, said.attempt) == ("transient", 4)
    assert (said.original.topic, said.original.offset) == (KAFKA.uploads_topic, 7)
    assert said.original.timestamp_ms == UPLOADED_MS
    assert texts(made)[headers.ATTEMPT] == "4"
    assert texts(made)[headers.UPLOAD] == "1"
    prefix = headers.ORIG_HEADER_PREFIX
    carried = [(name.removeprefix(prefix), value) for name, value in made.headers if name.startswith(prefix)]
    assert carried == list(FOREIGN)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermanentError("truncated", "", stage="decode"), "truncated"),
        (TransientError("fetch_timeout", "x" * 5000, stage="fetch"), "x" * 1024),
        (PermanentError("truncated", "bell \a and half \ud800", stage="decode"), "bell ? and half ?"),
    ],
    ids=["empty", "long", "unprintable"],
)
def test_its_message_fits(error: UploadError, message: str) -> None:
    record = dead_letter(job(), UPLOAD, 0, error, KAFKA)
    assert letter(record).message == message
    assert texts(record)[headers.MESSAGE] == message


@pytest.mark.parametrize(("size_bytes", "carried"), [(900_000, True), (900_001, False)])
def test_a_value_over_900_kilobytes_is_not_carried(size_bytes: int, carried: bool) -> None:
    record = dead_letter(job(b"x" * size_bytes), None, None, GONE, KAFKA)
    assert (headers.ORIG_VALUE in dict(record.headers)) == carried


def test_one_without_value_or_of_a_record_whose_result_was_refused_carries_none() -> None:
    for record in (
        dead_letter(job(None), UPLOAD, 0, GONE, KAFKA),
        dead_letter(job(), None, None, GONE, KAFKA, carried=False),
    ):
        assert headers.ORIG_VALUE not in dict(record.headers)


def test_of_a_record_as_a_whole_it_names_no_upload() -> None:
    record = dead_letter(job(), None, None, GONE, KAFKA)
    assert headers.UPLOAD not in texts(record)
    assert (letter(record).video_id, letter(record).uri) == (None, None)
    assert DeadLetterEvent.model_validate_json(record.value or b"").subject == f"{KAFKA.uploads_topic}/3/7"


def test_its_id_is_decided_by_the_record_and_the_upload_alone() -> None:
    def id_of(record: Job, upload: VideoUploaded | None = UPLOAD, error: UploadError = GONE) -> str:
        return DeadLetterEvent.model_validate_json(dead_letter(record, upload, 0, error, KAFKA).value or b"").id

    other = VideoUploaded(video_id="v2", uri="/v1.mp4")
    assert id_of(job()) == id_of(job(), error=SLOW)
    assert len({id_of(job()), id_of(job(offset=8)), id_of(job(), other), id_of(job(), None)}) == 4


def test_what_was_redriven_says_how_often() -> None:
    redriven = [(headers.REDRIVES, b"2"), (headers.FIRST_FAILURE, b"1690000000000"), (headers.ORIG_OFFSET, b"7")]
    record = again(Record(KAFKA.retry_topic, b"k", VALUE, redriven, "retry"))
    for made in (retry(record, 0, SLOW, KAFKA), dead_letter(record, UPLOAD, 0, GONE, KAFKA)):
        assert texts(made)[headers.REDRIVES] == "2"
        assert texts(made)[headers.FIRST_FAILURE] == "1690000000000"
