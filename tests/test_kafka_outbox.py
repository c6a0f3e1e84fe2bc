import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.errors import Abandoned, PermanentError, SettingsError, TagstreamError
from consumer.kafka.offsets import Claim
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Record
from consumer.settings import KafkaSettings
from tests.kafka_house import eventually
from tests.real_kafka import Topics


@dataclass
class Told:
    outbox: Outbox
    done: list[Claim]
    refused: list[tuple[Claim, PermanentError]]
    errors: list[BaseException] = field(default_factory=list)


@contextmanager
def running(settings: KafkaSettings) -> Iterator[Told]:
    done: list[Claim] = []
    refused: list[tuple[Claim, PermanentError]] = []
    told = Told(Outbox(settings, done.append, lambda claim, error: refused.append((claim, error))), done, refused)

    def run() -> None:
        try:
            told.outbox.run()
        except TagstreamError as error:
            told.errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield told
    finally:
        told.outbox.close(5.0)
        thread.join(20.0)
        assert not thread.is_alive()


def claim(offset: int) -> Claim:
    return Claim(0, offset, 1)


def record(topic: str, key: bytes, value: bytes) -> Record:
    return Record(topic, key, value, [("content-type", b"text/plain")], "test")


def test_a_claim_is_done_once_everything_put_for_it_is_stored(topics: Topics) -> None:
    topic = topics.settings.tags_topic
    with running(topics.settings) as told:
        for number in range(50):
            told.outbox.put(claim(1), [record(topic, b"a", b"%d" % number)], done=False)
        told.outbox.put(claim(2), [record(topic, b"b", b"other")], done=True)
        assert eventually(lambda: told.done == [claim(2)])
        told.outbox.put(claim(1), [record(topic, b"a", b"50"), record(topic, b"a", b"51")], done=True)
        assert eventually(lambda: told.done == [claim(2), claim(1)])
        found = topics.read(topic, lambda found: len(found) == 53)
    assert [m.value() for m in found if m.key() == b"a"] == [b"%d" % number for number in range(52)]
    assert found[0].headers() == [("content-type", b"text/plain")]
    assert told.outbox.close(0.0)


def test_an_upload_without_results_is_done_at_once(topics: Topics) -> None:
    with running(topics.settings) as told:
        told.outbox.put(claim(1), [], done=True)
        assert told.done == [claim(1)]


def narrow_topic(topics: Topics) -> str:
    """A topic that takes 5 kB at most."""
    name = f"narrow-{topics.settings.group_id}"
    admin = AdminClient({"bootstrap.servers": topics.settings.bootstrap_servers})
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "5000"})])[name].result(10)
    return name


def test_a_record_that_kafka_refuses_takes_no_other_record_with_it(topics: Topics) -> None:
    topic = narrow_topic(topics)
    with running(topics.settings) as told:
        for number in range(10):
            told.outbox.put(claim(number), [record(topic, b"same", b"%d" % number)], done=True)
            if number == 5:
                told.outbox.put(claim(99), [record(topic, b"same", os.urandom(20_000))], done=True)
        assert eventually(lambda: len(told.done) == 10 and len(told.refused) == 1)
        (refused, error) = told.refused[0]
        assert refused == claim(99)
        assert (error.reason, error.stage) == ("result_refused", "publish")
        assert "20014 bytes" in str(error)
        told.outbox.put(claim(99), [record(topics.settings.dead_letter_topic, b"v", b"dead letter")], done=True)
        assert eventually(lambda: claim(99) in told.done)


def test_a_worker_that_is_not_done_hears_of_the_refusal_at_its_next_put(topics: Topics) -> None:
    topic = narrow_topic(topics)
    with running(topics.settings) as told:
        told.outbox.put(claim(1), [record(topic, b"v", os.urandom(20_000))], done=False)

        def put() -> bool:
            try:
                told.outbox.put(claim(1), [], done=False)
            except PermanentError as error:
                return error.reason == "result_refused"
            return False

        assert eventually(put)
        told.outbox.put(claim(1), [record(topics.settings.dead_letter_topic, b"v", b"dead letter")], done=True)
        assert eventually(lambda: told.done == [claim(1)])
    assert told.refused == []


def test_a_record_beyond_the_clients_own_limit_is_refused_at_once(topics: Topics) -> None:
    with running(topics.settings) as told:
        with pytest.raises(PermanentError, match="refuses a record of 2000011 bytes"):
            told.outbox.put(claim(1), [record(topics.settings.tags_topic, b"v", b"x" * 2_000_000)], done=True)
        told.outbox.put(claim(1), [record(topics.settings.dead_letter_topic, b"v", b"dead letter")], done=True)
        assert eventually(lambda: told.done == [claim(1)])


def test_putting_into_a_closed_outbox_abandons_the_upload(topics: Topics) -> None:
    with running(topics.settings) as told:
        assert told.outbox.close(5.0)
        with pytest.raises(Abandoned):
            told.outbox.put(claim(1), [], done=True)
    assert told.done == []


def test_a_missing_topic_ends_the_outbox_loudly_and_frees_its_workers(topics: Topics) -> None:
    impatient = {"topic.metadata.propagation.max.ms": "100"}
    settings = topics.settings.model_copy(update={"client": impatient})
    with running(settings) as told:
        told.outbox.put(claim(1), [record("no-such-topic", b"v", b"x")], done=True)
        assert eventually(lambda: bool(told.errors))
        with pytest.raises(Abandoned):
            told.outbox.put(claim(2), [], done=True)
    assert "topic 'no-such-topic' does not exist; make it with `tagstream topics create`" in str(told.errors[0])


def test_too_much_on_its_way_blocks_the_workers_until_the_outbox_is_closed() -> None:
    settings = KafkaSettings.model_validate({"bootstrap_servers": "127.0.0.1:1"})
    blocked: list[BaseException] = []
    with running(settings) as told:
        for number in range(20):
            told.outbox.put(claim(number), [record("t", b"v", b"x" * 800_000)], done=True)

        def put() -> None:
            try:
                told.outbox.put(claim(99), [record("t", b"v", b"x" * 800_000)], done=True)
            except Abandoned as error:
                blocked.append(error)

        worker = threading.Thread(target=put)
        worker.start()
        assert not told.outbox.close(0.1)
        worker.join(10)
    assert blocked
    assert told.done == []


def test_a_setting_that_librdkafka_does_not_know_is_wrong_usage() -> None:
    settings = KafkaSettings.model_validate({"client": {"lingger.ms": "5"}})
    with pytest.raises(SettingsError, match="lingger"):
        Outbox(settings, lambda claim: None, lambda claim, error: None)
