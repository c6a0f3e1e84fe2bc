import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import REGISTRY

from consumer.errors import Abandoned, PermanentError, TagstreamError
from consumer.kafka.delivery import AtLeastOnce, Batch, Delivery, NothingStored, Refused
from consumer.kafka.offsets import Claim, OffsetTracker, Partition, Position
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Record
from consumer.settings import KafkaSettings
from tests.kafka_house import eventually
from tests.real_kafka import Topics

HERE, THERE = Partition("uploads", 0), Partition("uploads", 1)
AT_ONCE = KafkaSettings.model_validate({"commit_interval_s": 0.001})
AT_LENGTH = KafkaSettings.model_validate({"commit_interval_s": 3600})
REFUSED = b"refused"
T = TypeVar("T")


class Shelf:
    """A delivery that stores what it is given, refuses what says so, and does what it is told in between."""

    def __init__(self, settings: KafkaSettings, is_over: Callable[[], bool]) -> None:
        self.batches: list[Batch] = []
        self.tries: deque[Callable[[], None]] = deque()
        """What happens instead at the next tries."""
        self.answers = threading.Event()
        self.answers.set()
        self.closed = False
        self._is_over = is_over

    @property
    def values(self) -> list[list[bytes | None]]:
        return [[record.value for record in batch.records] for batch in self.batches]

    def store(self, batch: Batch) -> None:
        while not self.answers.wait(0.01):
            if self._is_over():
                raise Abandoned("nobody answers")
        if self.tries:
            self.tries.popleft()()
            raise NothingStored
        if any(record.value == REFUSED for record in batch.records):
            raise Refused("too large")
        self.batches.append(batch)

    def close(self) -> None:
        self.closed = True


@dataclass
class Told:
    """An outbox at work, and what it has told."""

    outbox: Outbox
    offsets: OffsetTracker
    delivery: Delivery
    finished: list[Claim]
    errors: list[BaseException] = field(default_factory=list)

    @property
    def shelf(self) -> Shelf:
        assert isinstance(self.delivery, Shelf)
        return self.delivery

    def claim(self, offset: int, partition: Partition = HERE) -> Claim:
        claim = self.offsets.add(partition, offset)
        assert claim
        return claim

    def claims(self, number: int) -> list[Claim]:
        return [self.claim(offset) for offset in range(number)]

    def put(self, claim: Claim, *values: bytes) -> None:
        self.outbox.put(claim, [record(value) for value in values])

    def finishing(self, claim: Claim, *values: bytes) -> "Future[None]":
        return started(lambda: self.outbox.finish(claim, [record(value) for value in values]))

    def finish(self, claim: Claim, *records: Record) -> None:
        started(lambda: self.outbox.finish(claim, records)).result(20)

    def store(self, claim: Claim, *records: Record) -> None:
        started(lambda: self.outbox.store(claim, records)).result(20)

    def first_batch_is_stored(self) -> None:
        """What is put from now on waits for the interval."""
        self.store(self.claim(0, THERE), record(b"first"))


def started(call: Callable[[], T]) -> "Future[T]":
    """A call on a thread of its own, so that one that never returns fails the test."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except TagstreamError as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@contextmanager
def running(
    settings: KafkaSettings = AT_ONCE,
    open_delivery: Callable[[KafkaSettings, Callable[[], bool]], Delivery] = Shelf,
    offsets: OffsetTracker | None = None,
    member: Callable[[], object] = lambda: "member",
) -> Iterator[Told]:
    finished: list[Claim] = []
    opened: list[Delivery] = []

    def open_it(settings: KafkaSettings, is_over: Callable[[], bool]) -> Delivery:
        opened.append(open_delivery(settings, is_over))
        return opened[-1]

    offsets = offsets or OffsetTracker()
    for partition in (HERE, THERE):
        offsets.assign(partition)
    outbox = Outbox(settings, offsets, member, open_it, finished.append)

    def run() -> None:
        try:
            outbox.run()
        except TagstreamError as error:
            told.errors.append(error)

    told = Told(outbox, offsets, opened[0], finished)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield told
    finally:
        if isinstance(told.delivery, Shelf):
            told.delivery.answers.set()
        outbox.close(5.0)
        thread.join(20.0)
        assert not thread.is_alive()


def record(value: bytes, topic: str = "tags", key: bytes = b"v", partition: int | None = None) -> Record:
    return Record(topic, key, value, [("content-type", b"text/plain")], "test", partition)


def progress(value: bytes, key: bytes = b"u", partition: int = 0) -> Record:
    return record(value, AT_ONCE.progress_topic, key, partition)


# --- batches ---


def test_results_are_stored_in_the_order_they_were_put_at_most_once_an_interval() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        one, other = told.claims(2)
        for number in range(10):
            told.put(one if number % 2 else other, b"%d" % number)
        assert told.shelf.values == [[b"first"]]
        assert told.outbox.flush(20)
        assert told.shelf.values == [[b"first"], [b"%d" % number for number in range(10)]]


def test_a_batch_says_where_its_partitions_stand_once_it_is_stored() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        _, second, third = told.claims(3)
        told.finishing(second)
        told.put(third, b"x")
        assert eventually(lambda: told.outbox.flush(20) and told.finished == [second])
        positions = [dict(batch.positions) for batch in told.shelf.batches]
        assert positions[0] == {THERE: Position(0)}
        assert positions[-1] == {HERE: Position(0, (1,))}
        assert {batch.member for batch in told.shelf.batches} == {"member"}


def test_a_claim_is_finished_when_its_last_results_are_stored_and_not_before() -> None:
    with running() as told:
        first, second = told.claims(2)
        told.put(first, b"partial")
        told.shelf.answers.clear()
        waiting = told.finishing(second, b"final")
        assert eventually(lambda: not told.outbox.flush(0.01))
        assert not waiting.done()
        assert told.finished == []
        told.shelf.answers.set()
        waiting.result(20)
        assert told.finished == [second]
        assert told.offsets.committable() == {HERE: Position(0, (1,))}


def test_an_upload_without_results_is_finished_as_any_other() -> None:
    with running() as told:
        claim = told.claim(0)
        told.finish(claim)
        assert told.finished == [claim]
        assert told.shelf.batches[-1].positions == {HERE: Position(1)}


def test_of_the_progress_of_one_upload_a_batch_has_only_the_last() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        claim = told.claim(0)
        told.outbox.put(claim, [record(b"r1"), progress(b"p1"), progress(b"other", b"w")])
        told.outbox.put(claim, [record(b"r2"), progress(b"p2"), progress(b"elsewhere", partition=1)])
        told.outbox.put(claim, [record(b"r3"), progress(b"p3")])
        assert told.outbox.flush(20)
        assert told.shelf.values[1:] == [[b"r1", b"other", b"r2", b"elsewhere", b"r3", b"p3"]]


def test_a_batch_is_no_larger_than_the_limit_unless_one_put_is() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        claim = told.claim(0)
        for _ in range(3):
            told.put(claim, bytes(3 << 20))
        stored = started(lambda: told.store(claim, record(bytes(9 << 20))))
        assert eventually(lambda: told.outbox.flush(1) and stored.done())
        assert [sum(len(value or b"") >> 20 for value in batch) for batch in told.shelf.values] == [0, 6, 3, 9]


def test_every_stored_event_is_counted_by_its_type() -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("tagstream_events_published_total", {"type": "test"}) or 0.0

    before = count()
    with running() as told:
        told.finish(told.claim(0), record(b"1"), record(b"2"))
    assert count() == before + 2


# --- what goes wrong ---


def test_what_was_not_stored_is_tried_again_as_a_whole() -> None:
    with running() as told:
        told.shelf.tries.extend([lambda: None] * 3)
        told.finish(told.claim(0), record(b"1"), record(b"2"))
        assert told.shelf.values == [[b"1", b"2"]]


def test_a_refused_result_takes_no_other_upload_with_it() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        guilty, before, after = told.claims(3)
        told.put(before, b"before")
        told.put(guilty, b"good", REFUSED)
        told.put(after, b"after")
        assert told.outbox.flush(20)
        assert told.shelf.values[1:] == [[b"before"], [b"after"]]


def test_what_else_was_put_for_a_refused_claim_is_dropped_and_its_next_call_hears_of_it() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        guilty, other = told.claims(2)
        told.put(guilty, b"earlier")
        told.put(guilty, REFUSED)
        told.put(other, b"other")
        told.put(guilty, b"later")
        assert told.outbox.flush(20)
        assert told.shelf.values[1:] == [[b"earlier"], [b"other"]]
        with pytest.raises(PermanentError, match="too large") as refusal:
            told.put(guilty, b"more")
        assert (refusal.value.reason, refusal.value.stage) == ("result_refused", "publish")
        told.put(guilty, b"dead letter")
        assert told.outbox.flush(20)
        assert told.shelf.values[-1] == [b"dead letter"]


def test_one_that_waits_for_its_last_results_hears_at_once_that_some_were_refused() -> None:
    with running() as told:
        claim = told.claim(0)
        told.shelf.answers.clear()
        told.put(claim, REFUSED)
        waiting = told.finishing(claim, b"final")
        assert eventually(lambda: not told.outbox.flush(0.01))
        told.shelf.answers.set()
        with pytest.raises(PermanentError, match="too large"):
            waiting.result(20)
        assert told.finished == []
        told.finish(claim, record(b"dead letter"))
        assert told.finished == [claim]
        assert told.shelf.values == [[b"dead letter"]]


def test_results_of_a_partition_that_was_taken_away_are_dropped_and_their_waiters_told() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        late, kept = told.claim(0), told.claim(1, THERE)
        waiting = told.finishing(late, b"late")
        told.put(kept, b"kept")
        told.offsets.revoke(HERE)
        assert eventually(lambda: told.outbox.flush(1) and waiting.done())
        with pytest.raises(Abandoned, match="taken away"):
            waiting.result(0)
        assert told.finished == []
        assert b"late" not in [value for batch in told.shelf.values for value in batch]
        assert told.shelf.values[-1] == [b"kept"]


def test_what_is_tried_again_leaves_out_what_was_taken_away_meanwhile() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        told.shelf.tries.append(lambda: told.offsets.revoke(HERE))
        told.put(told.claim(0), b"late")
        told.put(told.claim(1, THERE), b"kept")
        assert told.outbox.flush(20)
        assert told.shelf.values[1:] == [[b"kept"]]
        assert set(told.shelf.batches[-1].positions) == {THERE}


def test_a_partition_given_back_in_a_new_epoch_does_not_take_the_results_of_the_old_one() -> None:
    with running() as told:
        old = told.claim(0)
        told.offsets.revoke(HERE)
        told.offsets.assign(HERE)
        told.claim(0)
        with pytest.raises(Abandoned):
            told.finish(old, record(b"old"))
        assert told.shelf.values == []


class Shifting(OffsetTracker):
    """Once it shifts, each partition is taken away as soon as it has said that it is ours."""

    shifts = False

    def stand(
        self, claims: Collection[Claim], finishing: Collection[Claim]
    ) -> tuple[set[Claim], dict[Partition, Position]]:
        stand = super().stand(claims, finishing)
        if self.shifts:
            for partition in self.partitions:
                self.revoke(partition)
        return stand


def test_no_result_is_stored_without_the_position_of_its_partition_which_fences() -> None:
    shifting = Shifting()
    with running(offsets=shifting) as told:
        claim = told.claim(0)
        shifting.shifts = True
        told.finish(claim, record(b"late"))
    assert [set(batch.positions) for batch in told.shelf.batches] == [{HERE}]


def test_who_we_are_is_asked_before_what_is_ours() -> None:
    """So that one who was shut out after being asked is refused by the broker."""
    shifting = Shifting()

    def member() -> str:
        return "before" if shifting.partitions else "after"

    with running(offsets=shifting, member=member) as told:
        claim = told.claim(0)
        shifting.shifts = True
        told.finish(claim)
    assert [batch.member for batch in told.shelf.batches] == ["before"]


def test_one_who_has_left_the_group_stores_nothing_more() -> None:
    def nobody() -> object:
        raise Abandoned("we have left the group")

    with running(member=nobody) as told:
        with pytest.raises(Abandoned):
            told.finish(told.claim(0), record(b"late"))
        assert not told.outbox.close(20)
    assert told.shelf.batches == []
    assert told.errors == []


def test_a_delivery_that_fails_for_good_ends_the_outbox_loudly_and_frees_its_workers() -> None:
    def fail() -> None:
        raise TagstreamError("no such topic")

    with running() as told:
        told.shelf.tries.append(fail)
        with pytest.raises(Abandoned):
            told.finish(told.claim(0), record(b"x"))
        with pytest.raises(Abandoned):
            told.put(told.claim(1), b"y")
        assert eventually(lambda: bool(told.errors))
        assert not told.outbox.flush(20)
    assert str(told.errors[0]) == "no such topic"
    assert told.shelf.closed


# --- room, and the end ---


def test_too_much_unstored_blocks_the_workers_until_there_is_room() -> None:
    with running() as told:
        claim = told.claim(0)
        told.shelf.answers.clear()
        for _ in range(4):
            told.put(claim, bytes(4_000_000))
        blocked = started(lambda: told.put(claim, bytes(4_000_000)))
        assert not told.outbox.flush(0.05)
        assert not blocked.done()
        told.shelf.answers.set()
        blocked.result(20)
        assert told.outbox.flush(20)
        assert sum(map(len, told.shelf.values)) == 5


def test_one_put_that_is_larger_than_all_the_room_waits_to_be_alone() -> None:
    with running() as told:
        claim = told.claim(0)
        told.shelf.answers.clear()
        told.put(claim, b"small")
        large = started(lambda: told.put(claim, bytes(20_000_000)))
        assert not told.outbox.flush(0.05)
        assert not large.done()
        told.shelf.answers.set()
        large.result(20)
        assert told.outbox.flush(20)


def test_last_words_need_no_room_and_come_last() -> None:
    with running() as told:
        claim = told.claim(0)
        told.shelf.answers.clear()
        for _ in range(4):
            told.put(claim, bytes(4_000_000))
        words = [(claim, progress(b"left" + bytes(1_000_000)))]
        assert not started(lambda: told.outbox.flush(0.05, words)).result(20)
        told.shelf.answers.set()
        assert told.outbox.flush(20)
        last = told.shelf.values[-1][-1]
        assert last
        assert last.startswith(b"left")


def test_flushing_nothing_returns_at_once() -> None:
    with running() as told:
        told.shelf.answers.clear()
        assert told.outbox.flush(0)


def test_a_flush_that_took_too_long_says_that_something_is_left() -> None:
    with running() as told:
        told.shelf.answers.clear()
        told.put(told.claim(0), b"x")
        assert not told.outbox.flush(0.05)


def test_closing_stores_what_was_put_and_takes_no_more() -> None:
    with running(AT_LENGTH) as told:
        told.first_batch_is_stored()
        claim = told.claim(0)
        told.put(claim, b"last")
        assert told.outbox.close(20)
        assert told.shelf.values[-1] == [b"last"]
        assert told.shelf.closed
        with pytest.raises(Abandoned):
            told.put(claim, b"late")
        with pytest.raises(Abandoned):
            told.finish(claim)
    assert told.finished == []


@pytest.mark.parametrize("answers", [True, False])
def test_closing_too_late_to_store_says_so_and_tells_the_waiters(answers: bool) -> None:
    """A delivery that stores nothing at each try, and one that does not answer."""
    with running() as told:
        told.shelf.tries.extend([lambda: None] * 10_000)
        if not answers:
            told.shelf.answers.clear()
        waiting = told.finishing(told.claim(0), b"x")
        assert not told.outbox.flush(0.05)
        assert not told.outbox.close(0.05)
        with pytest.raises(Abandoned):
            waiting.result(20)
    assert told.finished == []
    assert told.shelf.closed
    assert told.errors == []


def test_closing_frees_a_worker_that_waits_for_room() -> None:
    with running() as told:
        claim = told.claim(0)
        told.shelf.answers.clear()
        for _ in range(4):
            told.put(claim, bytes(4_000_000))
        blocked = started(lambda: told.put(claim, bytes(4_000_000)))
        assert not told.outbox.flush(0.05)
        assert not told.outbox.close(0.05)
        with pytest.raises(Abandoned):
            blocked.result(20)


# --- at least once, with a real Kafka ---


@contextmanager
def real(settings: KafkaSettings) -> Iterator[Told]:
    with running(settings, AtLeastOnce) as told:
        yield told


def test_at_least_once_a_claim_is_finished_once_everything_put_for_it_is_stored(topics: Topics) -> None:
    topic = topics.settings.tags_topic
    with real(topics.settings) as told:
        first, second = told.claims(2)
        for number in range(50):
            told.outbox.put(first, [record(b"%d" % number, topic, b"a")])
        told.finish(second, record(b"other", topic, b"b"))
        assert told.finished == [second]
        told.finish(first, record(b"50", topic, b"a"), record(b"51", topic, b"a"))
        assert told.finished == [second, first]
        found = topics.read(topic, lambda found: len(found) == 53)
    assert [m.value() for m in found if m.key() == b"a"] == [b"%d" % number for number in range(52)]
    assert found[0].headers() == [("content-type", b"text/plain")]


def test_a_record_goes_to_the_partition_it_names_or_to_its_keys(topics: Topics) -> None:
    topic = topics.settings.progress_topic
    with real(topics.settings) as told:
        claim = told.claim(0)
        told.outbox.put(claim, [record(b"%d" % number, topic, b"%d" % number, number) for number in range(4)])
        told.finish(claim, *(record(b"free", topic, b"%d" % number) for number in range(20)))
        found = topics.read(topic, lambda found: len(found) == 24)
    assert {m.value(): m.partition() for m in found if m.value() != b"free"} == {b"%d" % n: n for n in range(4)}
    assert len({m.partition() for m in found if m.value() == b"free"}) > 1


def narrow_topic(topics: Topics) -> str:
    """A topic that takes 5 kB at most."""
    name = f"narrow-{topics.settings.group_id}"
    admin = AdminClient({"bootstrap.servers": topics.settings.bootstrap_servers})
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "5000"})])[name].result(10)
    return name


def test_at_least_once_a_record_that_kafka_refuses_takes_no_other_with_it(topics: Topics) -> None:
    topic = narrow_topic(topics)
    with real(topics.settings) as told:
        claims = told.claims(11)
        told.outbox.put(claims[10], [record(os.urandom(20_000), topic, b"same")])
        for claim in claims[:10]:
            told.outbox.put(claim, [record(b"x", topic, b"same")])
        for claim in claims[:10]:
            told.finish(claim)
        with pytest.raises(PermanentError, match="20014 bytes") as refusal:
            told.finish(claims[10])
        assert (refusal.value.reason, refusal.value.stage) == ("result_refused", "publish")
        told.finish(claims[10], record(b"dead letter", topics.settings.dead_letter_topic))
    assert set(told.finished) == set(claims)


def test_at_least_once_a_record_beyond_the_clients_own_limit_is_refused(topics: Topics) -> None:
    with real(topics.settings) as told:
        claim = told.claim(0)
        with pytest.raises(PermanentError, match="refuses a record of 2000011 bytes"):
            told.finish(claim, record(bytes(2_000_000), topics.settings.tags_topic))
        told.finish(claim, record(b"dead letter", topics.settings.dead_letter_topic))
        assert told.finished == [claim]


def test_at_least_once_a_missing_topic_ends_the_outbox_loudly(topics: Topics) -> None:
    impatient = {"topic.metadata.propagation.max.ms": "100"}
    settings = topics.settings.model_copy(update={"client": impatient})
    with real(settings) as told:
        with pytest.raises(Abandoned):
            told.finish(told.claim(0), record(b"x", "no-such-topic"))
        assert eventually(lambda: bool(told.errors))
    assert "topic 'no-such-topic' does not exist; make it with `tagstream topics create`" in str(told.errors[0])


def test_at_least_once_a_broker_that_is_away_does_not_keep_the_outbox_from_closing() -> None:
    nobody = KafkaSettings.model_validate({"bootstrap_servers": "127.0.0.1:1"})
    with real(nobody) as told:
        waiting = told.finishing(told.claim(0), b"x")
        assert not told.outbox.flush(0.05)
        assert not told.outbox.close(0.1)
        with pytest.raises(Abandoned):
            waiting.result(20)
    assert told.finished == []
