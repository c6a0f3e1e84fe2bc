import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from consumer.errors import Abandoned, TagstreamError
from consumer.kafka.admin import create_topics, topic_names
from consumer.kafka.embedded import EmbeddedBroker
from consumer.kafka.restore import Restored, restore
from consumer.settings import KafkaSettings
from tests.kafka_house import eventually
from tests.kafka_patience import Patience
from tests.real_kafka import Broker, Topics, fresh_topics, kafka_settings

Pair = tuple[str | bytes, bytes | None]


class Owner:
    """An owner before: it writes progress and offsets, in transactions that it may leave open."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        bootstrap = {"bootstrap.servers": settings.bootstrap_servers}
        self.producer = Producer(bootstrap | {"transactional.id": f"owner-{uuid.uuid4().hex}", "linger.ms": 0})
        self.producer.init_transactions(20)
        self._member = Consumer(bootstrap | {"group.id": settings.group_id})

    def begin(
        self, number: int = 0, progress: Sequence[Pair] = (), uploads: str | None = None, retry: str | None = None
    ) -> None:
        """A transaction with these records, and with offsets that have this metadata."""
        self.producer.begin_transaction()
        metadata = {self._settings.uploads_topic: uploads, self._settings.retry_topic: retry}
        offsets = [TopicPartition(topic, number, 7, text) for topic, text in metadata.items() if text is not None]
        if offsets:
            self.producer.send_offsets_to_transaction(offsets, self._member.consumer_group_metadata(), 20)
        for key, value in progress:
            self.producer.produce(self._settings.progress_topic, value, key, number)
        assert self.producer.flush(20) == 0

    def end(self, how: str = "commit") -> None:
        getattr(self.producer, f"{how}_transaction")(20)

    def writes(
        self, number: int = 0, progress: Sequence[Pair] = (), uploads: str | None = None, retry: str | None = None
    ) -> None:
        self.begin(number, progress, uploads, retry)
        self.end()

    def close(self) -> None:
        self.producer.close()
        self._member.close()


@pytest.fixture
def owner(topics: Topics) -> Iterator[Owner]:
    owner = Owner(topics.settings)
    yield owner
    owner.close()


def left(settings: KafkaSettings, number: int = 0) -> Restored:
    return restore(settings, [number], lambda: False)[number]


@contextmanager
def restoring(settings: KafkaSettings, turns: int = 3) -> Iterator[tuple["Future[dict[int, Restored]]", Patience]]:
    """A restore of partition 0 that is seen to wait: a turn takes a second for offsets, and 50 ms for progress."""
    patience = Patience()
    with ThreadPoolExecutor(1) as pool:
        restored = pool.submit(restore, settings, [0], patience)
        try:
            assert patience.was_asked(turns)
            assert not restored.done()
            yield restored, patience
        finally:
            patience.end()


def num_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_of_partitions_without_a_past_nothing_is_left(topics: Topics) -> None:
    settings = topics.settings
    nothing = Restored({settings.uploads_topic: "", settings.retry_topic: ""}, {})
    assert restore(settings, [0, 1, 2, 3], lambda: False) == dict.fromkeys(range(4), nothing)


def test_of_no_partitions_nothing_is_asked() -> None:
    assert restore(kafka_settings("127.0.0.1:1"), [], lambda: False) == {}


def test_metadata_and_progress_come_back_each_for_its_partition(topics: Topics, owner: Owner) -> None:
    settings = topics.settings
    owner.writes(0, [("ä", b"0"), ("b", b"zero")], uploads="done: 8, 9; é", retry="x")
    owner.writes(2, [("ä", b"2")], retry="y" * 4000)
    restored = restore(settings, [2, 0], lambda: False)
    assert restored == {
        0: Restored({settings.uploads_topic: "done: 8, 9; é", settings.retry_topic: "x"}, {"ä": b"0", "b": b"zero"}),
        2: Restored({settings.uploads_topic: "", settings.retry_topic: "y" * 4000}, {"ä": b"2"}),
    }


def test_the_last_value_of_a_key_counts_in_the_order_of_writing(topics: Topics, owner: Owner) -> None:
    owner.writes(progress=[("a", b"1"), ("b", b"1"), ("c", b"1"), ("c", None)])
    owner.writes(progress=[("a", b"2"), ("d", None), ("e", b"1"), ("e", None), ("e", b"2")])
    assert list(left(topics.settings).progress.items()) == [("b", b"1"), ("a", b"2"), ("e", b"2")]


def test_keys_that_are_not_ours_are_passed_over(topics: Topics, owner: Owner) -> None:
    owner.writes(progress=[(b"\xff", b"1"), ("a", b"1")])
    assert left(topics.settings).progress == {"a": b"1"}


@pytest.mark.parametrize("before", [[], [("a", b"1")]])
def test_what_was_undone_at_the_end_of_the_partition_is_passed_over(
    topics: Topics, owner: Owner, before: list[Pair]
) -> None:
    owner.writes(progress=before, uploads="stays")
    for _ in range(3):
        owner.begin(progress=[("a", b"undone"), ("b", b"undone")], uploads="undone")
        owner.end("abort")
    restored = left(topics.settings)
    assert restored.progress == dict(before)
    assert restored.committed[topics.settings.uploads_topic] == "stays"


@pytest.mark.parametrize("how", ["commit", "abort"])
@pytest.mark.parametrize("topic", ["uploads", "retry"])
def test_an_open_transaction_with_offsets_is_waited_for(topics: Topics, owner: Owner, how: str, topic: str) -> None:
    owner.writes(progress=[("a", b"before")], uploads="before", retry="before")
    changed = ("after", None) if topic == "uploads" else (None, "after")
    owner.begin(0, [("a", b"after")], *changed)
    with restoring(topics.settings) as (restored, _):
        owner.end(how)
        found = restored.result(20)[0]
    outcome = "after" if how == "commit" else "before"
    assert found.progress == {"a": outcome.encode()}
    assert found.committed[getattr(topics.settings, f"{topic}_topic")] == outcome


@pytest.mark.parametrize("how", ["commit", "abort"])
def test_progress_that_is_not_decided_is_waited_for_though_the_offsets_are_stable(
    topics: Topics, owner: Owner, how: str
) -> None:
    """As when the end of a transaction has reached the partition of the offsets, and not yet that of the progress."""
    owner.writes(progress=[("a", b"before")], uploads="after")
    owner.begin(progress=[("a", b"after")])
    with restoring(topics.settings, turns=30) as (restored, _):
        owner.end(how)
        found = restored.result(20)[0]
    assert found.progress == {"a": b"after" if how == "commit" else b"before"}
    assert found.committed[topics.settings.uploads_topic] == "after"


def test_only_the_partitions_that_were_asked_for_are_waited_for(topics: Topics, owner: Owner) -> None:
    owner.begin(1, [("a", b"open")], uploads="open")
    assert left(topics.settings, 0).progress == {}
    owner.end()


@pytest.mark.parametrize("waits_for", ["offsets", "progress", "broker"])
def test_the_wait_can_be_ended_and_leaves_no_thread_behind(topics: Topics, owner: Owner, waits_for: str) -> None:
    settings = topics.settings
    if waits_for == "broker":
        settings = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    owner.begin(0, [("a", b"open")], "open" if waits_for == "offsets" else None)
    before = num_threads()
    with restoring(settings) as (restored, patience):
        patience.end()
        with pytest.raises(Abandoned):
            restored.result(10)
    del restored  # its error holds the clients
    assert eventually(lambda: num_threads() == before)
    owner.end("abort")


def test_no_thread_stays_behind_a_restore(topics: Topics) -> None:
    before = num_threads()
    left(topics.settings)
    assert num_threads() == before


def test_a_topic_that_is_made_meanwhile_is_not_missing(topics: Topics) -> None:
    others = kafka_settings(topics.settings.bootstrap_servers)
    settings = topics.settings.model_copy(update={"progress_topic": others.progress_topic})
    with restoring(settings) as (restored, _):
        create_topics(others, partitions=1, replication=1)
        assert restored.result(20)[0].progress == {}


@pytest.mark.parametrize("missing", ["progress_topic", "retry_topic"])
def test_a_missing_topic_is_named_with_what_to_do(topics: Topics, missing: str) -> None:
    settings = topics.settings.model_copy(update={missing: "nowhere"})
    with pytest.raises(TagstreamError, match="topic 'nowhere' does not exist; make it with `tagstream topics create`"):
        left(settings)


@pytest.mark.parametrize("small", ["progress_topic", "retry_topic"])
def test_a_topic_with_too_few_partitions_is_named_with_what_to_do(topics: Topics, small: str) -> None:
    others = kafka_settings(topics.settings.bootstrap_servers)
    create_topics(others, partitions=2, replication=1)
    settings = topics.settings.model_copy(update={small: getattr(others, small)})
    assert left(settings, 1).progress == {}
    with pytest.raises(TagstreamError, match=rf"topic '{getattr(others, small)}' has no partition 2: .* --partitions`"):
        left(settings, 2)


@pytest.mark.parametrize(
    ("protocol", "client"),
    [("classic", {"session.timeout.ms": "6000"}), ("consumer", {"group.remote.assignor": "uniform"})],
)
def test_client_settings_for_the_group_do_not_disturb(real_kafka: str, protocol: str, client: dict[str, str]) -> None:
    topics = fresh_topics(real_kafka, group_protocol=protocol, client=client)
    assert left(topics.settings).progress == {}


def test_a_long_past_is_read_to_its_end(topics: Topics) -> None:
    config: dict[str, Any] = {"bootstrap.servers": topics.settings.bootstrap_servers, "linger.ms": 20}
    producer = Producer(config)
    for n in range(30_000):
        producer.produce(topics.settings.progress_topic, b"%d" % n, b"%d" % (n % 20_000), 0)
    assert producer.flush(30) == 0
    producer.close()
    progress = left(topics.settings).progress
    assert len(progress) == 20_000
    assert (progress["0"], progress["19999"]) == (b"20000", b"19999")


def test_it_works_on_the_embedded_broker() -> None:
    plain = kafka_settings("", delivery="at_least_once")
    with EmbeddedBroker(topic_names(plain)) as broker:
        settings = plain.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
        assert left(settings).progress == {}
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for key, value in [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None), (None, b"1")]:
            producer.produce(settings.progress_topic, value, key, 0)
        assert producer.flush(10) == 0
        producer.close()
        member = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": settings.group_id})
        member.commit(offsets=[TopicPartition(settings.uploads_topic, 0, 3, "é")], asynchronous=False)
        member.close()
        assert left(settings) == Restored({settings.uploads_topic: "é", settings.retry_topic: ""}, {"a": b"2"})


def test_a_broker_that_does_not_answer_is_waited_for(own_broker: Broker) -> None:
    own_broker.start()
    settings = fresh_topics(own_broker.bootstrap).settings
    own_broker.freeze()
    try:
        with restoring(settings) as (restored, _):
            own_broker.thaw()
            assert restored.result(40)[0].progress == {}
    finally:
        own_broker.thaw()
