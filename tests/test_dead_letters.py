"""`tagstream dlq`, with a real Kafka: what it shows, and what arrives in the retry topic."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from consumer.__main__ import main
from consumer.commands import moment_ms
from consumer.errors import PermanentError
from consumer.kafka import headers, reader
from consumer.kafka.dead_letters import Selection, read_letters
from consumer.kafka.ledger import Ledger
from consumer.kafka.offsets import Claim, Partition
from consumer.kafka.reader import TopicReader
from consumer.kafka.records import Headers, Job
from consumer.kafka.redrives import Redrive, send
from consumer.letters import attempt_of, dead_letter, original
from consumer.settings import KafkaSettings
from schemas import DeadLetter, DeadLetterEvent, Original
from tests.kafka_house import eventually
from tests.real_kafka import Topics, fresh_topics, kafka_settings

BASE_MS = (int(time.time()) - 10 * 3600) * 1000
MINUTE_MS = 60_000
VALUE = b'\x00\xff {"not": "JSON" '
BINARY: Headers = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"tagstream.video.uploaded.v1"),
    ("ce_id", b"\xff\x00"),
    ("content-type", b"application/json"),
    ("seen", b"once"),
    ("seen", b""),
    ("seen", None),
]


class Answer(NamedTuple):
    code: int
    lines: list[str]
    log: str
    errors: str


class Desk:
    """The dead letters of a test, and the command line in front of them."""

    def __init__(self, topics: Topics, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self.topics, self.settings = topics, topics.settings
        self._capsys, self._caplog = capsys, caplog

    def __call__(self, *arguments: str, **settings: str) -> Answer:
        """What `tagstream dlq …` does."""
        self._caplog.clear()
        given = self.settings.model_dump(include={name for name in KafkaSettings.model_fields if "topic" in name})
        given |= {"bootstrap_servers": self.settings.bootstrap_servers, **settings}
        with pytest.MonkeyPatch.context() as patch, self._caplog.at_level("INFO"):
            for name, value in given.items():
                patch.setenv(f"TAGSTREAM_KAFKA__{name.upper()}", value)
            try:
                code = main(["dlq", *arguments])
            except SystemExit as usage:
                code = int(usage.code or 0)
        printed, errors = self._capsys.readouterr()
        return Answer(code, printed.splitlines(), "\n".join(self._caplog.messages), errors)

    def put(self, *letters: "Letter | Junk") -> None:
        with closing(Producer({"bootstrap.servers": self.settings.bootstrap_servers})) as producer:
            for letter in letters:
                letter.produce(producer, self.settings.dead_letter_topic)
            assert producer.flush(20) == 0

    def upload(self, value: bytes, key: bytes | None, timestamp_ms: int, given: Headers = ()) -> int:
        """Stores a record in partition 1 of the uploads topic, and returns its offset."""
        stored: list[Message] = []
        with closing(Producer({"bootstrap.servers": self.settings.bootstrap_servers})) as producer:
            producer.produce(
                self.settings.uploads_topic,
                value,
                key,
                1,
                headers=list(given),
                timestamp=timestamp_ms,
                on_delivery=lambda _, message: stored.append(message),
            )
            assert producer.flush(20) == 0
        return int(stored[0].offset())

    def retries(self, count: int) -> list[Message]:
        """What is in the retry topic, in the order of the partitions."""
        found = self.topics.read(self.settings.retry_topic, lambda messages: len(messages) >= count)
        with closing(TopicReader(self.settings)) as there:
            stored = (there.bounds(self.settings.retry_topic, partition) for partition in range(4))
            assert sum(len(offsets) for offsets in stored) == len(found) == count
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    def retry(self) -> Message:
        (message,) = self.retries(1)
        return message


class Letter:
    """A dead letter as the worker writes it. `carries` is the original value; `at` is in minutes after BASE_MS."""

    def __init__(
        self,
        video: str = "v1",
        *,
        reason: str = "not_media",
        stage: str = "decode",
        message: str = "this is no video",
        at: float = 0.0,
        key: bytes | None = b"v1",
        carries: bytes | None = VALUE,
        came_with: Headers = (),
        place: tuple[str, int, int] = ("video-uploaded", 1, 7),
        uploaded_ms: int = BASE_MS - 5000,
        more: Headers = (),
        partition: int = 0,
    ) -> None:
        self.at_ms, self.key, self.partition = BASE_MS + round(at * MINUTE_MS), key, partition
        came = Original(topic=place[0], partition=place[1], offset=place[2], key=video, timestamp_ms=uploaded_ms)
        data = DeadLetter(
            reason=reason,
            stage=stage,
            message=message,
            error_class="permanent",
            video_id=video,
            uri=f"https://media.example.com/{video}.mp4",
            attempt=2,
            original=came,
            failed_at=datetime.fromtimestamp(self.at_ms / 1000, UTC),
        )
        self.event = DeadLetterEvent.wrap(data, id=f"letter-of-{video}", source="/tests", time=data.failed_at)
        texts = {
            headers.ORIG_TOPIC: place[0],
            headers.ORIG_PARTITION: str(place[1]),
            headers.ORIG_OFFSET: str(place[2]),
            headers.ORIG_TIMESTAMP: str(uploaded_ms),
            headers.GROUP: "tagstream",
            headers.STAGE: stage,
            headers.REASON: reason,
            headers.MESSAGE: message,
            headers.FIRST_FAILURE: "1234",
            headers.ATTEMPT: "2",
        }
        self.headers = [
            ("content-type", b"application/cloudevents+json; charset=utf-8"),
            *((name, text.encode()) for name, text in texts.items()),
            *([] if carries is None else [(headers.ORIG_VALUE, carries)]),
            *((headers.ORIG_HEADER_PREFIX + name, value) for name, value in came_with),
            *more,
        ]

    def produce(self, producer: Producer, topic: str) -> None:
        value = self.event.model_dump_json().encode()
        producer.produce(topic, value, self.key, self.partition, headers=self.headers, timestamp=self.at_ms)


class Junk:
    """A record that is no dead letter."""

    def __init__(self, value: bytes | None) -> None:
        self.value = value

    def produce(self, producer: Producer, topic: str) -> None:
        producer.produce(topic, self.value, b"junk", 2, timestamp=BASE_MS)


@pytest.fixture
def desk(topics: Topics, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Desk:
    assert eventually(lambda: have_leaders(topics.settings))
    return Desk(topics, capsys, caplog)


def have_leaders(settings: KafkaSettings) -> bool:
    """Topics that were just made answer a moment later."""
    names = (settings.uploads_topic, settings.retry_topic, settings.dead_letter_topic)
    asked = {TopicPartition(name, number): OffsetSpec.earliest() for name in names for number in range(4)}
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    return all(future.exception(20) is None for future in admin.list_offsets(asked).values())


def iso(minutes: float) -> str:
    return (datetime.fromtimestamp(BASE_MS / 1000, UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def videos(lines: Sequence[str]) -> list[str]:
    """Of the lines that tell of a letter."""
    return [line.split("  ")[4] for line in lines if "  " in line]


# --- list ---


def test_each_letter_is_a_line_with_the_oldest_first_whatever_its_partition(desk: Desk) -> None:
    desk.put(
        Letter("third", at=3, partition=0),
        Letter("first", at=1, partition=3, reason="http_404", stage="fetch"),
        Letter("fourth", at=4, partition=3),
        Letter("second", at=2, partition=1, place=("other", 5, 123), message="gone"),
    )
    answer = desk("list")
    assert answer.code == 0
    assert videos(answer.lines) == ["first", "second", "third", "fourth"]
    assert answer.lines[1] == f"{iso(2)}  not_media  decode  attempt 2  second  other/5@123  gone"
    assert answer.lines[-1] == "4 dead letters: 3 not_media, 1 http_404"
    assert len(answer.lines) == 5


def test_as_json_each_event_is_a_line_and_nothing_else_is_printed(desk: Desk) -> None:
    letters = [Letter("a", at=1, message="\x9b31m vidéo \u202e"), Letter("b", at=2, partition=1)]
    desk.put(*letters)
    answer = desk("list", "--json")
    assert [DeadLetterEvent.model_validate_json(line) for line in answer.lines] == [one.event for one in letters]
    assert all(line.isascii() for line in answer.lines)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", ["a", "b", "c", "d"]),
        ("--reason http_404", ["a", "d"]),
        ("--reason http_404 --reason too_large", ["a", "b", "d"]),
        ("--reason http", []),
        ("--stage fetch", ["a", "c"]),
        ("--video b", ["b"]),
        ("--reason http_404 --stage decode", ["d"]),
        ("--reason too_large --video a", []),
    ],
)
def test_letters_are_chosen_by_reason_stage_and_video(desk: Desk, arguments: str, found: list[str]) -> None:
    desk.put(
        Letter("a", at=1, reason="http_404", stage="fetch"),
        Letter("b", at=2, reason="too_large", stage="intake"),
        Letter("c", at=3, reason="fetch_timeout", stage="fetch"),
        Letter("d", at=4, reason="http_404", stage="decode"),
    )
    for command in ("list", "redrive"):
        assert videos(desk(command, *arguments.split()).lines) == found


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--since", iso(60)], ["60", "120"]),
        (["--since", iso(60.1)], ["120"]),
        (["--until", iso(60)], ["0", "59"]),
        (["--until", iso(60.1)], ["0", "59", "60"]),
        (["--since", iso(59), "--until", iso(120)], ["59", "60"]),
        (["--since", "9h"], ["120"]),
        (["--until", "535m"], ["0", "59", "60"]),
        (["--since", "7d", "--until", "9h"], ["0", "59", "60"]),
        (["--since", iso(121)], []),
        (["--until", iso(0)], []),
    ],
)
def test_letters_are_chosen_by_when_they_were_stored(desk: Desk, arguments: list[str], found: list[str]) -> None:
    moments = (0, 59, 60, 120)
    desk.put(*(Letter(str(at), at=at + (0.5 if at == 120 else 0), partition=at % 4) for at in moments))
    for command in ("list", "redrive"):
        assert videos(desk(command, *arguments).lines) == found


def test_clocks_that_differ_a_little_hide_no_letter(desk: Desk) -> None:
    desk.put(Letter("ahead", at=10.5), Letter("behind", at=9.9), Letter("after", at=20))
    assert videos(desk("list", "--until", iso(10)).lines) == ["behind"]
    assert videos(desk("list", "--since", iso(10)).lines) == ["ahead", "after"]


def test_what_lies_outside_the_times_is_not_even_read(desk: Desk) -> None:
    desk.put(*(Letter(str(at), at=10 * at) for at in range(10)), Letter("old", partition=2))
    asked: list[range] = []

    class Watched(TopicReader):
        def chunk(self, topic: str, partition: int, offsets: range) -> tuple[list[Any], range]:
            asked.append(offsets)
            return super().chunk(topic, partition, offsets)

    with closing(Watched(desk.settings)) as watched:
        chosen = Selection(since_ms=BASE_MS + 40 * MINUTE_MS, until_ms=BASE_MS + 70 * MINUTE_MS)
        found = [letter.event.subject for letter in read_letters(watched, desk.settings.dead_letter_topic, chosen)]
    assert found == ["4", "5", "6"]
    assert asked == [range(4, 8)]


def test_many_letters_come_in_order_and_each_once(desk: Desk) -> None:
    desk.put(*(Letter(str(n), at=n / 100, message="m" * 900, partition=n % 4 if n < 1000 else 3) for n in range(4000)))
    lines = desk("list").lines
    assert videos(lines) == [str(n) for n in range(4000)]


def test_what_is_no_dead_letter_is_left_out_with_a_warning(desk: Desk) -> None:
    almost = json.dumps({**Letter().event.model_dump(mode="json"), "\x1b[31m": 1}).encode()
    values = [almost, b"\xff\x00", b"[" * 100_000, b'{"\x1b[31m\xc2\x9b": 1}', b"", None]
    desk.put(Letter("good"), *map(Junk, values))
    answer = desk("list")
    assert answer.code == 0
    assert videos(answer.lines) == ["good"]
    for offset in range(len(values)):
        assert f"left out {desk.settings.dead_letter_topic}/2@{offset}, which is no dead letter" in answer.log
    assert not {"\x1b", "\x9b"} & set(answer.log)


def test_text_of_strangers_cannot_control_a_terminal(desk: Desk) -> None:
    desk.put(Letter("\x1b[31mv\n1", message="\x9b2J\u202ebad", place=("t\x07", 1, 1)))
    (line, _) = desk("list").lines
    assert line.endswith("attempt 2  ?[31mv?1  t?/1@1  ?2J?bad")


def test_an_empty_topic_holds_no_letters(desk: Desk) -> None:
    assert desk("list").lines == ["0 dead letters"]
    assert desk("list", "--since", "1h", "--until", "1m").lines == ["0 dead letters"]
    answer = desk("redrive", "--send")
    assert answer.code == 0
    assert answer.lines == [f"0 dead letters sent to {desk.settings.retry_topic}, 0 left out"]


def test_letters_of_undone_and_of_open_transactions_are_not_there(desk: Desk) -> None:
    def begin(name: str) -> Producer:
        producer = Producer(
            {
                "bootstrap.servers": desk.settings.bootstrap_servers,
                "transactional.id": f"{name}-{BASE_MS}-{os.getpid()}",
            }
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        Letter(name).produce(producer, desk.settings.dead_letter_topic)
        producer.flush(20)
        return producer

    with closing(begin("stored")) as stored, closing(begin("undone")) as undone:
        stored.commit_transaction(20)
        undone.abort_transaction(20)
        with closing(begin("open")):
            assert videos(desk("list").lines) == ["stored"]


# --- redrive ---


def test_a_dry_run_says_what_would_be_sent_where_and_sends_nothing(desk: Desk) -> None:
    desk.put(*(Letter(str(n), at=n, place=("uploads", n % 3, n)) for n in range(4)))
    answer = desk("redrive")
    assert answer.code == 0
    assert answer.lines[:-1] == desk("list").lines[:-1]
    assert answer.lines[-1] == (
        f"4 dead letters would be sent to {desk.settings.retry_topic}, 2 to partition 0, 1 to partition 1, "
        "1 to partition 2, 0 left out; --send sends them"
    )
    desk.retries(0)


def test_the_original_record_arrives_byte_for_byte_with_its_history(desk: Desk) -> None:
    desk.put(Letter(place=("uploads", 3, 41), key=b"\xff\x00key", came_with=BINARY, message="vidéo?"))
    before_ms = time.time_ns() // 1_000_000
    answer = desk("redrive", "--send")
    assert answer.code == 0
    assert answer.lines[-1] == f"1 dead letters sent to {desk.settings.retry_topic}, 1 to partition 3, 0 left out"
    assert f"1 dead letters were sent to {desk.settings.retry_topic}" in answer.log
    message = desk.retry()
    assert (message.partition(), message.key(), message.value()) == (3, b"\xff\x00key", VALUE)
    assert message.headers()[: len(BINARY)] == BINARY
    history = dict(message.headers()[len(BINARY) :])
    assert before_ms <= int(history.pop("x-retry-not-before-ms")) <= time.time_ns() // 1_000_000
    assert history == {
        "x-dlq-orig-topic": b"uploads",
        "x-dlq-orig-partition": b"3",
        "x-dlq-orig-offset": b"41",
        "x-dlq-orig-timestamp": str(BASE_MS - 5000).encode(),
        "x-dlq-group": b"tagstream",
        "x-dlq-stage": b"decode",
        "x-dlq-error-class": b"not_media",
        "x-dlq-error-message": "vidéo?".encode(),
        "x-retry-attempt": b"1",
        "x-retry-first-failure-ms": b"1234",
        "x-redrive-count": b"1",
        "x-redrive-dead-letter": b"letter-of-v1",
    }


def test_what_the_worker_writes_can_be_redriven_and_read_again(desk: Desk) -> None:
    claim = Claim(Partition(desk.settings.uploads_topic, 2), 41, epoch=1)
    job = Job(claim, None, VALUE, BINARY, BASE_MS, 0.0, Ledger())
    written = dead_letter(job, None, 3, PermanentError("not_json", "no JSON", stage="intake"), desk.settings)
    with closing(Producer({"bootstrap.servers": desk.settings.bootstrap_servers})) as producer:
        producer.produce(written.topic, written.value, written.key, headers=list(written.headers))
        assert producer.flush(20) == 0
    assert desk("redrive", "--send").code == 0
    message = desk.retry()
    assert (message.partition(), message.key(), message.value()) == (2, None, VALUE)
    assert message.headers()[: len(BINARY)] == BINARY
    claim = Claim(Partition(desk.settings.retry_topic, 2), message.offset(), epoch=1)
    again = Job(claim, message.key(), message.value(), message.headers(), message.timestamp()[1], 0.0, Ledger())
    assert original(again, desk.settings) == original(job, desk.settings)
    assert attempt_of(again, desk.settings) == 1
    assert (again.header(headers.UPLOAD), again.header(headers.REDRIVES)) == ("3", "1")


def test_a_letter_of_a_redriven_record_keeps_its_history_and_counts_on(desk: Desk) -> None:
    earlier: Headers = [
        (headers.UPLOAD, b"2"),
        (headers.REDRIVES, b"10"),
        (headers.DEAD_LETTER, b"an-older-letter"),
    ]
    desk.put(Letter(more=earlier))
    desk("redrive", "--send")
    history = dict(desk.retry().headers())
    assert history[headers.UPLOAD] == b"2"
    assert history[headers.REDRIVES] == b"11"
    assert history[headers.DEAD_LETTER] == b"letter-of-v1"


def test_an_uploader_cannot_write_the_history(desk: Desk) -> None:
    forged: Headers = [
        (headers.UPLOAD, b"7"),
        (headers.ORIG_VALUE, b"mine"),
        (headers.NOT_BEFORE, b"9" * 15),
        ("x", b""),
    ]
    desk.put(Letter(came_with=forged))
    desk("redrive", "--send")
    message = desk.retry()
    names = [name for name, _ in message.headers()]
    assert message.value() == VALUE
    assert "x" in names
    assert not {headers.UPLOAD, headers.ORIG_VALUE} & set(names)
    assert names.count(headers.NOT_BEFORE) == 1


@pytest.mark.parametrize("key", [None, b""])
def test_a_record_without_a_key_stays_without(desk: Desk, key: bytes | None) -> None:
    desk.put(Letter(key=key))
    desk("redrive", "--send")
    assert desk.retry().key() == key


def test_an_empty_value_is_carried_too(desk: Desk) -> None:
    desk.put(Letter(carries=b"", place=("no-such-topic", 0, 0)))
    assert desk("redrive", "--send").code == 0
    assert desk.retry().value() == b""


def test_a_value_that_the_letter_does_not_carry_is_read_where_it_was(desk: Desk) -> None:
    desk.upload(b"before", b"k", BASE_MS)
    offset = desk.upload(VALUE, b"k", BASE_MS, [*BINARY, (headers.UPLOAD, b"7")])
    desk.upload(b"after", b"k", BASE_MS)
    place = (desk.settings.uploads_topic, 1, offset)
    desk.put(Letter(carries=None, key=b"k", place=place, uploaded_ms=BASE_MS))
    assert desk("redrive", "--send").code == 0
    message = desk.retry()
    assert (message.partition(), message.value()) == (1, VALUE)
    assert message.headers()[: len(BINARY)] == BINARY
    assert headers.UPLOAD not in dict(message.headers())


def test_a_transaction_marker_is_not_taken_for_an_upload(desk: Desk) -> None:
    config = {"bootstrap.servers": desk.settings.bootstrap_servers, "transactional.id": f"up-{BASE_MS}-{os.getpid()}"}
    with closing(Producer(config)) as producer:
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(desk.settings.uploads_topic, VALUE, b"k", 1)
        producer.commit_transaction(20)
    after = desk.upload(VALUE, b"k", BASE_MS)
    place = (desk.settings.uploads_topic, 1, after - 1)
    desk.put(Letter(carries=None, key=b"k", place=place, uploaded_ms=BASE_MS))
    assert desk("redrive").lines[-1].endswith(", 1 left out")


@pytest.mark.parametrize("gone", ["deleted", "not yet", "other key", "other time", "no partition", "no topic"])
def test_an_upload_that_is_gone_is_left_out_and_the_others_are_sent(desk: Desk, gone: str) -> None:
    topic = desk.settings.uploads_topic
    offset = desk.upload(VALUE, b"k", BASE_MS)
    if gone == "deleted":
        admin = AdminClient({"bootstrap.servers": desk.settings.bootstrap_servers})
        admin.delete_records([TopicPartition(topic, 1, offset + 1)])[TopicPartition(topic, 1)].result(20)
    place = {"no partition": (topic, 9, offset), "no topic": ("no-such", 1, offset), "not yet": (topic, 1, offset + 1)}
    lost = Letter(
        "lost",
        carries=None,
        key=b"other" if gone == "other key" else b"k",
        uploaded_ms=BASE_MS + (gone == "other time"),
        place=place.get(gone, (topic, 1, offset)),
    )
    desk.put(lost, Letter("good", at=1))
    for arguments in ([], ["--send"]):
        answer = desk("redrive", *arguments)
        assert answer.code == 1
        assert "left out dead letter 'letter-of-lost': it has no value, and the upload is gone from" in answer.log
        assert ", 1 to partition 1, 1 left out" in answer.lines[-1]
    assert dict(desk.retry().headers())[headers.DEAD_LETTER] == b"letter-of-good"


@pytest.mark.parametrize(
    "header",
    [
        (headers.ORIG_PARTITION, b"-1"),
        (headers.ORIG_OFFSET, b"\xff"),
        (headers.ORIG_TOPIC, b"\xff"),
        (headers.REDRIVES, b"x"),
    ],
)
def test_a_letter_with_unreadable_headers_is_left_out(desk: Desk, header: tuple[str, bytes]) -> None:
    desk.put(Letter(more=[header]))
    answer = desk("redrive", "--send")
    assert answer.code == 1
    assert "left out dead letter 'letter-of-v1': a header is missing or unreadable" in answer.log
    desk.retries(0)


def test_a_letter_without_headers_is_left_out(desk: Desk) -> None:
    letter = Letter()
    letter.headers = []
    desk.put(letter)
    answer = desk("redrive", "--send")
    assert answer.code == 1
    assert answer.lines[-1].endswith("0 dead letters sent to " + desk.settings.retry_topic + ", 1 left out")


# --- troubles ---


def test_a_retry_topic_with_too_few_partitions_is_named(desk: Desk) -> None:
    desk.put(Letter(place=("uploads", 4, 0)))
    for arguments in ([], ["--send"]):
        answer = desk("redrive", *arguments)
        assert answer.code == 1
        assert f"topic '{desk.settings.retry_topic}' has 4 partitions" in answer.errors
        assert "as many partitions as 'uploads'" in answer.errors


@pytest.mark.parametrize(("command", "missing"), [("list", "dead_letter_topic"), ("redrive", "retry_topic")])
def test_a_missing_topic_is_named_with_what_to_do(desk: Desk, command: str, missing: str) -> None:
    desk.put(Letter())
    answer = desk(command, **{missing: "no-such-topic"})
    assert answer.code == 1
    assert "topic 'no-such-topic' does not exist; make it with `tagstream topics create`" in answer.errors


def test_a_broker_that_does_not_answer_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_ANSWER_S", 0.5)
    answer = desk("list", bootstrap_servers="127.0.0.1:1")
    assert answer.code == 1
    assert "no answer from Kafka at 127.0.0.1:1" in answer.errors


def test_letters_that_kafka_refuses_are_an_error(desk: Desk) -> None:
    resource = ConfigResource(
        ResourceType.TOPIC,
        desk.settings.retry_topic,
        incremental_configs=[ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)],
    )
    admin = AdminClient({"bootstrap.servers": desk.settings.bootstrap_servers})
    admin.incremental_alter_configs([resource])[resource].result(20)
    desk.put(Letter(carries=os.urandom(5000)))
    answer = desk("redrive", "--send")
    assert answer.code == 1
    assert "only 0 dead letters were stored by Kafka" in answer.errors
    assert "too large" in answer.errors


def test_when_interrupted_what_was_sent_is_stored_and_counted(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    def interrupted() -> Iterator[Redrive]:
        yield from (Redrive(0, None, b"%d" % number, []) for number in range(3))
        raise KeyboardInterrupt

    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        send(desk.settings, interrupted())
    assert f"3 dead letters were sent to {desk.settings.retry_topic}" in caplog.text
    assert [message.value() for message in desk.retries(3)] == [b"0", b"1", b"2"]


def test_a_full_queue_delays_what_is_sent_and_loses_nothing(real_kafka: str) -> None:
    client = {"queue.buffering.max.messages": "2"}
    topics = fresh_topics(real_kafka, kafka_settings(real_kafka, client=client))
    values = [b"%d" % number for number in range(50)]
    assert send(topics.settings, (Redrive(2, b"k", value, []) for value in values)) == 50
    found = topics.read(topics.settings.retry_topic, lambda messages: len(messages) >= 50)
    assert [message.value() for message in found] == values


# --- usage ---


@pytest.mark.parametrize("command", ["dlq", "dlq list", "dlq redrive"])
def test_help_says_what_a_command_is_for(command: str) -> None:
    answer = tagstream(*command.split(), "--help")
    assert answer.returncode == 0
    assert "usage: tagstream dlq" in answer.stdout
    assert ("exit codes" in answer.stdout and "--since TIME" in answer.stdout) or command == "dlq"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "--since", "yesterday"], "argument --since: 'yesterday' is neither a time like 2026-05-01T12:00:00Z"),
        (["redrive", "--until", "3w"], "argument --until: '3w' is neither a time"),
        (["list", "--since", "9999999999d"], "argument --since: '9999999999d' is neither a time"),
        (["list", "--since", "2026-13-01"], "nor an age like 30m, 2h or 7d"),
        (["list", "--since", "1h", "--until", "2h"], "--since must be before --until"),
        (["list", "--send"], "unrecognized arguments: --send"),
        (["redrive", "--reason"], "argument --reason: expected one argument"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_to_do(arguments: list[str], says: str) -> None:
    answer = tagstream("dlq", *arguments)
    assert answer.returncode == 2
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def tagstream(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "consumer", *arguments]
    clean = {name: value for name, value in os.environ.items() if "TAGSTREAM" not in name}
    return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01T12:00:00Z", "2026-05-01T12:00:00+00:00"),
        ("2026-05-01T12:00:00", "2026-05-01T12:00:00+00:00"),
        ("2026-05-01T14:00:00.125+02:00", "2026-05-01T12:00:00.125+00:00"),
        ("2026-05-01", "2026-05-01T00:00:00+00:00"),
        ("0001-01-01", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, moment: str) -> None:
    assert moment_ms(text) == round(datetime.fromisoformat(moment).timestamp() * 1000)


@pytest.mark.parametrize(("text", "age_s"), [("0s", 0), ("45s", 45), ("30m", 1800), ("2h", 7200), ("7d", 604_800)])
def test_an_age_counts_back_from_now(text: str, age_s: int) -> None:
    before_ms = time.time_ns() // 1_000_000
    found_ms = moment_ms(text)
    assert before_ms <= found_ms + age_s * 1000 <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    "text", ["", "7", "-2h", "2 h", "1.5h", "٣h", "12:00", "9" * 5000 + "h", "0001-01-01T00:00+14:00x"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is neither a time"):
        moment_ms(text)
