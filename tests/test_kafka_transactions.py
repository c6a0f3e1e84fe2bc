import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from prometheus_client import REGISTRY

from consumer.errors import Abandoned, TagstreamError
from consumer.kafka import transactions
from consumer.kafka.client import consumer_config
from consumer.kafka.delivery import Batch, NothingStored, Refused
from consumer.kafka.offsets import Partition, Position, token_of
from consumer.kafka.records import Record
from consumer.kafka.transactions import ExactlyOnce
from consumer.settings import KafkaSettings
from tests.kafka_house import eventually
from tests.real_kafka import Topics, fresh_topics


class Kafka:
    """Fresh topics, who we are in their group, and what is stored there."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.settings = topics.settings.model_copy(update={"transactional_id": f"tx-{uuid.uuid4().hex[:8]}"})
        self._admin = AdminClient({"bootstrap.servers": self.settings.bootstrap_servers})
        self._members: list[Any] = []
        assert eventually(self._is_there)
        self.member = self.join()

    def join(self) -> Any:
        """A new member of the group, which has its partitions."""
        protocol = self.settings.group_protocol
        assert protocol != "auto"
        member = Consumer(consumer_config(self.settings, protocol))
        member.subscribe([self.settings.uploads_topic])
        self._members.append(member)
        assert eventually(lambda: bool(self._turn() and member.assignment()))
        return member

    def _is_there(self) -> bool:
        try:
            return self.end(IsolationLevel.READ_COMMITTED) == 0
        except KafkaException:  # its partitions have no leader yet
            return False

    def _turn(self) -> bool:
        for member in self._members:
            member.poll(0.02)
        return True

    def leave(self, member: Any) -> None:
        self._members.remove(member)
        member.close()

    def close(self) -> None:
        for member in self._members:
            member.close()

    @contextmanager
    def delivery(self, **changes: object) -> Iterator[ExactlyOnce]:
        settings = self.settings.model_copy(update=changes)
        with closing(ExactlyOnce(settings, lambda: False)) as delivery:
            yield delivery

    def batch(
        self, *values: bytes, at: int = 1, finished: Sequence[int] = (), member: object = None, topic: str | None = None
    ) -> Batch:
        records = [Record(topic or self.settings.tags_topic, b"v", value, [("a", b"b")], "test") for value in values]
        position = Position(at, tuple(finished))
        return Batch(
            records,
            {Partition(self.settings.uploads_topic, 0): position, Partition(self.settings.retry_topic, 1): position},
            member or self.member.consumer_group_metadata(),
        )

    def values(self, number: int) -> list[bytes | None]:
        """What a reader sees in the tags topic, as soon as it is so much, and has come to the end of it."""
        found = self.topics.read(self.settings.tags_topic, lambda found: len(found) >= number)
        assert self.end(IsolationLevel.READ_COMMITTED) == self.end(IsolationLevel.READ_UNCOMMITTED)
        return [message.value() for message in found]

    def end(self, level: IsolationLevel) -> int:
        """Offsets written to the tags topic so far, markers included, in all its partitions."""
        partitions = [TopicPartition(self.settings.tags_topic, number) for number in range(4)]
        asked = self._admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.latest()), isolation_level=level)
        return sum(answer.result(10).offset for answer in asked.values())

    def committed(self) -> dict[Partition, tuple[int, str]]:
        """The group's offsets of two partitions, and what stands beside them."""
        asked = [TopicPartition(self.settings.uploads_topic, 0), TopicPartition(self.settings.retry_topic, 1)]
        config = {"bootstrap.servers": self.settings.bootstrap_servers, "group.id": self.settings.group_id}
        with closing(Consumer(config | {"isolation.level": "read_committed"})) as reader:
            found = reader.committed(asked, timeout=10)
        return {Partition(p.topic, p.partition): (p.offset, p.metadata or "") for p in found if p.offset >= 0}

    def offsets(self) -> set[int]:
        return {offset for offset, _ in self.committed().values()}


@pytest.fixture
def kafka(real_kafka: str) -> Iterator[Kafka]:
    kafka = Kafka(fresh_topics(real_kafka, group_protocol="classic"))
    yield kafka
    kafka.close()


class Plan:
    """What a producer's commits do instead, one after the other; then what they always do."""

    def __init__(self) -> None:
        self.commits: list[Callable[[Callable[[], None]], None]] = []
        self.num_producers = 0


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    plan = Plan()

    class Planned(Producer):  # type: ignore[misc]
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config)
            plan.num_producers += 1

        def commit_transaction(self, timeout_s: float) -> None:
            if plan.commits:
                plan.commits.pop(0)(lambda: super(Planned, self).commit_transaction(20))
            else:
                super().commit_transaction(timeout_s)

    monkeypatch.setattr(transactions, "Producer", Planned)
    monkeypatch.setattr(transactions, "_SLOW_COMMIT_S", 3600.0)  # however busy the machine
    return plan


def lost(retriable: bool = False) -> KafkaException:
    """The answer to a commit is lost."""
    return KafkaException(KafkaError(KafkaError._TRANSPORT, "connection lost", retriable=retriable))


# --- all or nothing ---


def test_a_batch_is_stored_as_a_whole_with_the_offsets_it_finishes(kafka: Kafka) -> None:
    with kafka.delivery() as delivery:
        delivery.store(kafka.batch(b"1", b"2"))
        delivery.store(kafka.batch(b"3", at=7, finished=[9, 12]))
        assert kafka.values(3) == [b"1", b"2", b"3"]
        committed = kafka.committed()
    assert set(committed) == {Partition(kafka.settings.uploads_topic, 0), Partition(kafka.settings.retry_topic, 1)}
    for offset, metadata in committed.values():
        assert offset == 7
        assert Position.read(metadata) == Position(7, (9, 12))
        assert token_of(metadata)


def test_nothing_of_a_batch_is_seen_before_all_of_it(kafka: Kafka, plan: Plan) -> None:
    seen: list[int] = []

    def look(commit: Callable[[], None]) -> None:
        assert eventually(lambda: kafka.end(IsolationLevel.READ_UNCOMMITTED) == 2)
        seen.append(kafka.end(IsolationLevel.READ_COMMITTED))
        commit()

    with kafka.delivery() as delivery:
        plan.commits.append(look)
        delivery.store(kafka.batch(b"1", b"2"))
        assert seen == [0]
        assert kafka.values(2) == [b"1", b"2"]


def test_a_batch_without_records_moves_the_offsets(kafka: Kafka) -> None:
    with kafka.delivery() as delivery:
        delivery.store(kafka.batch(at=5))
    assert kafka.offsets() == {5}


def test_a_record_keeps_its_key_its_headers_and_the_partition_it_names(kafka: Kafka) -> None:
    named = Record(kafka.settings.tags_topic, b"k", None, [("a", b"1"), ("a", None)], "test", 3)
    batch = Batch([named], kafka.batch().positions, kafka.member.consumer_group_metadata())
    with kafka.delivery() as delivery:
        delivery.store(batch)
    (found,) = kafka.topics.read(kafka.settings.tags_topic, lambda found: len(found) == 1)
    assert (found.partition(), found.key(), found.value()) == (3, b"k", None)
    assert found.headers() == [("a", b"1"), ("a", None)]


def test_more_records_than_the_clients_queue_holds_are_stored_all_the_same(kafka: Kafka) -> None:
    values = [b"%d" % number for number in range(30)]
    client = kafka.settings.client | {"queue.buffering.max.messages": "5"}
    with kafka.delivery(client=client) as delivery:
        delivery.store(kafka.batch(*values))
    assert kafka.values(30) == values


# --- who may store ---


@pytest.fixture(params=["classic", "consumer"])
def group(real_kafka: str, request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """In both protocols."""
    kafka = Kafka(fresh_topics(real_kafka, group_protocol=request.param))
    yield kafka
    kafka.close()


def test_a_member_of_a_generation_that_is_over_stores_nothing(group: Kafka) -> None:
    stale = group.member.consumer_group_metadata()
    with group.delivery() as delivery:
        delivery.store(group.batch(b"before"))
        group.join()
        with pytest.raises(NothingStored):
            delivery.store(group.batch(b"stale", at=9, member=stale))
        assert group.end(IsolationLevel.READ_UNCOMMITTED) == 2  # a record and a marker
        assert group.offsets() == {1}
        delivery.store(group.batch(b"after", at=2))
    assert sorted(map(str, group.values(2))) == ["b'after'", "b'before'"]
    assert group.offsets() == {2}


def test_a_member_that_has_left_stores_nothing(group: Kafka) -> None:
    gone = group.member.consumer_group_metadata()
    group.leave(group.member)
    with group.delivery() as delivery, pytest.raises(NothingStored):
        delivery.store(group.batch(b"late", member=gone))
    assert group.end(IsolationLevel.READ_UNCOMMITTED) == 0
    assert group.committed() == {}


def test_a_twin_with_the_same_transactional_id_shuts_us_out_and_the_setting_is_named(kafka: Kafka) -> None:
    with kafka.delivery() as delivery, kafka.delivery() as twin:
        delivery.store(kafka.batch(b"ours"))
        twin.store(kafka.batch(b"theirs", at=2))
        with pytest.raises(TagstreamError, match=r"another process uses .*kafka\.transactional_id"):
            delivery.store(kafka.batch(b"ours again", at=3))
    assert set(kafka.values(2)) == {b"ours", b"theirs"}
    assert kafka.offsets() == {2}


def test_a_successor_ends_what_a_dead_process_left_open(kafka: Kafka, plan: Plan) -> None:
    def die(commit: Callable[[], None]) -> None:
        assert eventually(lambda: kafka.end(IsolationLevel.READ_UNCOMMITTED) == 1)
        raise MemoryError

    with kafka.delivery() as delivery, kafka.delivery() as successor:
        plan.commits.append(die)
        with pytest.raises(MemoryError):
            delivery.store(kafka.batch(b"lost", at=9))
        successor.store(kafka.batch(b"stored"))
        assert kafka.values(1) == [b"stored"]
        assert kafka.offsets() == {1}


# --- what Kafka will not take ---


def narrow_topic(kafka: Kafka) -> str:
    """A topic that takes 5 kB at most."""
    name = f"narrow-{kafka.settings.group_id}"
    admin = AdminClient({"bootstrap.servers": kafka.settings.bootstrap_servers})
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "5000"})])[name].result(10)
    return name


@pytest.mark.parametrize(("size_bytes", "topic"), [(2_000_000, "any"), (20_000, "narrow")])
def test_a_record_that_is_too_large_is_refused_and_nothing_is_left_of_its_batch(
    kafka: Kafka, size_bytes: int, topic: str
) -> None:
    """Too large for the client, and for the topic only."""
    large = kafka.batch(os.urandom(size_bytes), topic=narrow_topic(kafka) if topic == "narrow" else None).records
    batch = kafka.batch(b"with it", at=9)
    with kafka.delivery() as delivery:
        with pytest.raises(Refused, match=f"{size_bytes + 2} bytes or less"):
            delivery.store(Batch([*batch.records, *large], batch.positions, batch.member))
        delivery.store(kafka.batch(b"after"))
    assert kafka.values(1) == [b"after"]
    assert kafka.offsets() == {1}


@pytest.mark.parametrize("which", ["uploads_topic", "tags_topic"])
def test_a_missing_topic_is_named(kafka: Kafka, which: str) -> None:
    batch = kafka.batch(b"x", topic="no-such-topic" if which == "tags_topic" else None)
    if which == "uploads_topic":
        batch = replace(batch, positions={Partition("no-such-topic", 0): Position(1)})
    client = kafka.settings.client | {"topic.metadata.propagation.max.ms": "100"}
    missing = r"topic 'no-such-topic' does not exist; make it with `tagstream topics create`"
    with kafka.delivery(client=client) as delivery, pytest.raises(TagstreamError, match=missing):
        store_as_the_outbox_does(delivery, batch)


def store_as_the_outbox_does(delivery: ExactlyOnce, batch: Batch) -> None:
    for _ in range(20):
        with suppress(NothingStored):
            delivery.store(batch)
            return


# --- what became of it ---


def replaced() -> float:
    samples = (s for metric in REGISTRY.collect() for s in metric.samples)
    return sum(s.value for s in samples if s.name == "tagstream_producers_replaced_total")


def test_a_transaction_that_was_open_for_too_long_is_undone_and_then_stored_once(kafka: Kafka, plan: Plan) -> None:
    def stop(commit: Callable[[], None]) -> None:
        assert eventually(lambda: kafka.end(IsolationLevel.READ_UNCOMMITTED) == 1)
        assert eventually(lambda: kafka.end(IsolationLevel.READ_COMMITTED) == 2)  # the marker of an abort
        commit()

    before = replaced()
    with kafka.delivery(transaction_timeout_s=2) as delivery:
        plan.commits.append(stop)
        with pytest.raises(NothingStored):
            delivery.store(kafka.batch(b"x"))
        assert kafka.committed() == {}
        delivery.store(kafka.batch(b"x"))
    assert kafka.values(1) == [b"x"]
    assert kafka.offsets() == {1}
    assert replaced() == before + 1


def test_a_commit_whose_answer_is_lost_is_known_by_its_name_and_not_made_twice(kafka: Kafka, plan: Plan) -> None:
    def lose_the_answer(commit: Callable[[], None]) -> None:
        commit()
        raise lost()

    with kafka.delivery() as delivery:
        delivery.store(kafka.batch(b"1"))
        plan.commits.append(lose_the_answer)
        delivery.store(kafka.batch(b"2"))
        delivery.store(kafka.batch(b"3"))
    assert kafka.values(3) == [b"1", b"2", b"3"]
    assert plan.num_producers == 2


def test_a_commit_that_is_lost_is_known_not_to_have_been_made(kafka: Kafka, plan: Plan) -> None:
    def lose_the_question(commit: Callable[[], None]) -> None:
        raise lost()

    with kafka.delivery() as delivery:
        delivery.store(kafka.batch(b"1"))
        plan.commits.append(lose_the_question)
        with pytest.raises(NothingStored):
            delivery.store(kafka.batch(b"2"))  # at the same offset, so that only its name tells it from the first
        assert kafka.values(1) == [b"1"]
        delivery.store(kafka.batch(b"2"))
    assert kafka.values(2) == [b"1", b"2"]
    assert plan.num_producers == 2


def test_a_commit_that_takes_its_time_is_asked_for_until_it_is_answered(kafka: Kafka, plan: Plan) -> None:
    def take_time(commit: Callable[[], None]) -> None:
        raise lost(retriable=True)

    with kafka.delivery() as delivery:
        plan.commits.extend([take_time] * 3)
        delivery.store(kafka.batch(b"1"))
    assert kafka.values(1) == [b"1"]
    assert plan.num_producers == 1


def test_after_a_slow_commit_the_next_transaction_has_a_producer_of_its_own(
    kafka: Kafka, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kafka.delivery() as delivery:
        monkeypatch.setattr(transactions, "_SLOW_COMMIT_S", -1.0)
        delivery.store(kafka.batch(b"1"))
        assert plan.num_producers == 1
        monkeypatch.setattr(transactions, "_SLOW_COMMIT_S", 3600.0)
        delivery.store(kafka.batch(b"2"))
        assert plan.num_producers == 2
        delivery.store(kafka.batch(b"3"))
    assert plan.num_producers == 2
    assert kafka.values(3) == [b"1", b"2", b"3"]


def test_waiting_for_a_broker_that_is_away_ends_with_the_house() -> None:
    nobody = KafkaSettings.model_validate({"bootstrap_servers": "127.0.0.1:1"})
    ended: list[Abandoned] = []

    def store() -> None:
        try:
            delivery.store(Batch([], {}, None))
        except Abandoned as error:
            ended.append(error)

    with closing(ExactlyOnce(nobody, lambda: True)) as delivery:
        thread = threading.Thread(target=store, daemon=True)
        thread.start()
        thread.join(20)
        assert ended


def test_a_broker_without_transactions_is_told_from_one_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(Producer):  # type: ignore[misc]
        def init_transactions(self, timeout_s: float) -> None:
            raise KafkaException(KafkaError(KafkaError._UNSUPPORTED_FEATURE, "no transactions", fatal=True))

    monkeypatch.setattr(transactions, "Producer", Old)
    with (
        closing(ExactlyOnce(KafkaSettings(), lambda: False)) as delivery,
        pytest.raises(TagstreamError, match=r"set kafka\.delivery to at_least_once"),
    ):
        delivery.store(Batch([], {}, None))
