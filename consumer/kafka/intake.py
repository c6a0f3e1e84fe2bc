"""Takes records from Kafka, hands them out, and gives partitions up in peace. One thread, which never blocks."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from consumer import metrics
from consumer.errors import Abandoned
from consumer.kafka import gauges, headers
from consumer.kafka.client import (
    REQUEST_S,
    Troubles,
    consumer_config,
    count_error,
    open_client,
    topic_trouble,
)
from consumer.kafka.commits import Commits
from consumer.kafka.jobs import Jobs
from consumer.kafka.ledger import Ledger
from consumer.kafka.offsets import Claim, OffsetTracker, Partition, Position
from consumer.kafka.outbox import Outbox
from consumer.kafka.protocol import group_protocol
from consumer.kafka.records import Job, Record
from consumer.kafka.restore import Restored
from consumer.kafka.restoring import Epochs, Restorer
from consumer.settings import KafkaSettings

log = logging.getLogger(__name__)

_POLL_S = 0.1
_ALIVE_S = 60.0
_LAST_COMMIT_S = 5.0
_GIVE_UP_S = 10.0
_LEAVE_S = 2 * REQUEST_S


class Intake:
    """At most `capacity` records at work, each handed to `begin`, which must not block.

    `run` is the thread. Every job ends in one of three ways: `finished(job.claim)` once its results are stored,
    `given_back(job.claim)`, or we set its `cancelled`. While the house is full its partitions are paused and polling
    goes on, as the broker expects.

    Whoever has a partition of the input topic has the one of the same number of the retry topic and of the progress
    topic too: so an upload, its retries and its progress always have the same owner.
    """

    def __init__(self, settings: KafkaSettings, capacity: int, begin: Callable[[Job], None]) -> None:
        self._settings = settings
        self._topics = settings.uploads_topic, settings.retry_topic
        self._begin = begin
        self.offsets = OffsetTracker()
        self._jobs = Jobs(capacity, self.offsets)
        self._ledgers: dict[int, Ledger] = {}
        self._ended_jobs: SimpleQueue[Claim] = SimpleQueue()
        self._restorer = Restorer(settings, self._is_over)
        self._commits = Commits(settings, self.offsets)
        self._troubles = Troubles(settings.bootstrap_servers)
        self._full = False
        self._paused: set[Partition] = set()
        self._last_turn_s = time.monotonic()
        self._drain_until_s: float | None = None
        self._leave_by_s: float | None = None
        self._assigned_once = threading.Event()
        self._ended = threading.Event()
        self._consumer: Any = None
        self._member: object = None
        self._note_again_at_s = 0.0
        self._outbox: Outbox

    def run(self, outbox: Outbox) -> None:
        """Polls until drained. Raises TagstreamError when the client is broken for good (fenced), SettingsError where
        librdkafka refuses the settings."""
        self._outbox = outbox
        try:
            self._consumer = self._open()
            self._consumer.subscribe(
                [self._settings.uploads_topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._is_drained():
                self._turn()
            self._give_back()
            self._commit_last()
        except Abandoned:
            log.info("asked to stop before a broker has answered")
        finally:
            self._leave()
            self._ended.set()

    def finished(self, claim: Claim) -> None:
        """The results of the claim are stored, and its offset is finished. From any thread."""
        self._ended_jobs.put(claim)

    def given_back(self, claim: Claim) -> None:
        """The job has stopped before its end; the record's next owner goes on. From any thread."""
        self._ended_jobs.put(claim)

    def member(self) -> object:
        """Who we were in the group a moment ago (KIP-447); one who is no longer that is refused by the broker. None
        once we have left, when nothing is ours any more. From any thread."""
        return self._member

    def drain(self, deadline_s: float) -> bool:
        """Takes no more, waits so long for the windows in hand, gives back the rest, commits and leaves.

        From another thread than `run`. False if `run` has not ended. A broker that does not answer may cost
        `_GIVE_UP_S`, `_LAST_COMMIT_S` and `_LEAVE_S` beyond the deadline; leaving in the midst of a rebalance,
        `REQUEST_S`.
        """
        self._drain_until_s = time.monotonic() + deadline_s
        return self._ended.wait(deadline_s + _GIVE_UP_S + _LAST_COMMIT_S + _LEAVE_S)

    def alive(self) -> bool:
        """Whether the poll loop has turned within the last minute; a broker that is away does not stop it."""
        return time.monotonic() - self._last_turn_s < _ALIVE_S

    @property
    def assigned_once(self) -> bool:
        """Whether the group has taken us in."""
        return self._assigned_once.is_set()

    def _open(self) -> Any:
        callbacks = {
            "error_cb": self._troubles.client_failed,
            "on_commit": self._commits.on_commit,
            "stats_cb": self._on_statistics,
        }
        protocol = group_protocol(self._settings, self._is_asked_to_stop)
        log.info("group protocol: %s", protocol)
        return open_client(Consumer, consumer_config(self._settings, protocol) | callbacks)

    def _is_asked_to_stop(self) -> bool:
        self._last_turn_s = time.monotonic()
        return self._drain_until_s is not None

    # --- a turn of the loop ---

    def _turn(self) -> None:
        message = self._consumer.poll(_POLL_S)
        self._last_turn_s = time.monotonic()
        metrics.poll_turn_timestamp.set_to_current_time()
        if self._last_turn_s >= self._note_again_at_s:
            self._note_member()
        self._collect_ended()
        self._collect_restored()
        if message is not None:
            self._receive(message)
        for job in self._jobs.begin(_now_ms()):
            self._begin(job)
        self._balance()
        self._commits.ask_if_due(self._consumer)

    def _note_member(self) -> None:
        # On this thread only: while one polls again and again, the client lets no other in (measured, 2.16.1). Not for
        # each record: librdkafka's own thread has to answer, for which a busy machine takes milliseconds.
        self._member = self._consumer.consumer_group_metadata()
        self._note_again_at_s = time.monotonic() + _POLL_S

    def _collect_ended(self) -> None:
        with suppress(Empty):
            while True:
                self._jobs.end(self._ended_jobs.get_nowait())

    def _receive(self, message: Message) -> None:
        if error := message.error():
            self._fetch_failed(error)
            return
        metrics.records_received.inc()
        partition, offset = Partition(message.topic(), message.partition()), message.offset()
        if not self.offsets.follows(partition, offset):
            log.warning("%s-%d goes back to offset %d: the log was cut or remade", *partition, offset)
            self._jobs.abandon(partition)
            self.offsets.assign(partition)
        if claim := self.offsets.add(partition, offset):
            self._jobs.hold(self._job(message, claim), _now_ms())

    def _job(self, message: Message, claim: Claim) -> Job:
        kind, timestamp_ms = message.timestamp()
        job = Job(
            claim=claim,
            key=message.key(),
            value=message.value(),
            headers=message.headers() or [],
            timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE or timestamp_ms < 0 else timestamp_ms,
            received_at_s=time.monotonic(),
            ledger=self._ledgers[claim.partition.number],
        )
        if claim.partition.topic == self._settings.uploads_topic:  # where only strangers write such headers
            return job
        return replace(job, not_before_ms=headers.number(job.header(headers.NOT_BEFORE)) or 0)

    def _fetch_failed(self, error: KafkaError) -> None:
        count_error(error)
        what = topic_trouble(self._settings.uploads_topic, error)
        self._troubles.say(
            "intake", f"no uploads from Kafka at {self._settings.bootstrap_servers}: {what}; still waiting"
        )

    def _balance(self) -> None:
        self._full = not self._jobs.is_hungry if self._full else self._jobs.is_full
        ours = self.offsets.partitions
        wanted = {partition for partition in ours if self._should_pause(partition)}
        self._set_paused(wanted - self._paused, self._consumer.pause)
        self._set_paused(self._paused - wanted, self._consumer.resume)
        self._paused = wanted
        metrics.partitions_paused.set(sum(topic == self._settings.uploads_topic for topic, _ in wanted))
        metrics.retries_waiting.set(self._jobs.num_waiting)

    def _should_pause(self, partition: Partition) -> bool:
        return (
            self._full
            or partition.number not in self._ledgers
            or self._jobs.is_stretched(partition)
            or (partition.topic == self._settings.retry_topic and self._jobs.is_waiting_room_full)
        )

    def _set_paused(self, partitions: Iterable[Partition], call: Callable[[list[TopicPartition]], None]) -> None:
        if chosen := [TopicPartition(*partition) for partition in partitions]:
            call(chosen)

    # --- called from within `poll` and `close` ---

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """What is assigned stays paused until its progress has been read. librdkafka keeps an old pause through a
        revocation: each state has to be said, not assumed."""
        consumer.incremental_assign(partitions)
        if self._leave_by_s is not None:  # too late: they go back with all others
            return
        numbers = [partition.partition for partition in partitions]
        ours = [Partition(topic, number) for number in numbers for topic in self._topics]
        if numbers:
            consumer.incremental_assign([TopicPartition(self._settings.retry_topic, number) for number in numbers])
            consumer.pause([TopicPartition(*partition) for partition in ours])
            self._paused |= set(ours)
            epochs = {partition: self.offsets.assign(partition) for partition in ours}
            self._restorer.start({number: epochs[self._uploads(number)] for number in numbers})
        self._assigned_once.set()
        self._troubles.over("intake", f"topic {self._settings.uploads_topic!r} is there")
        self._assignment_changed("assigned", numbers)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """What is ready is stored before the partitions go, all within one deadline; librdkafka hands them on only
        once a commit that we ask for here is answered."""
        ours = self._ours(partitions)
        self._note_member()
        self._jobs.cancel(ours)
        self._flush(ours)
        self._collect_ended()
        self._commits.ask(consumer)
        self._give_up("revoked", consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Others may have them already: nothing is stored."""
        self._give_up("lost", consumer, partitions)

    def _give_up(self, event: str, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        ours = self._ours(partitions)
        for partition in ours:
            self._jobs.abandon(partition)
            self._ledgers.pop(partition.number, None)
            gauges.forget(partition.number)
        self._paused -= set(ours)
        if retries := [TopicPartition(*p) for p in ours if p.topic == self._settings.retry_topic]:
            consumer.incremental_unassign(retries)
        consumer.incremental_unassign(partitions)
        self._assignment_changed(event, [partition.partition for partition in partitions])

    def _ours(self, partitions: list[TopicPartition]) -> list[Partition]:
        numbers = {partition.partition for partition in partitions}
        return [partition for partition in self.offsets.partitions if partition.number in numbers]

    def _flush(self, partitions: Iterable[Partition]) -> None:
        """Waits until what is ready is stored; when we leave, one deadline holds for all partitions and steps."""
        left_s = (self._leave_by_s or time.monotonic() + _GIVE_UP_S) - time.monotonic()
        self._outbox.flush(max(0.0, left_s), self._last_words(partitions))

    def _last_words(self, partitions: Iterable[Partition]) -> list[tuple[Claim, Record]]:
        """That what is unfinished there was given back, and has killed nobody."""
        words = []
        for partition in partitions:
            claim, ledger = self.offsets.oldest(partition), self._ledgers.get(partition.number)
            if claim is not None and ledger is not None:
                key, value = ledger.farewell()
                words.append(
                    (
                        claim,
                        Record(self._settings.progress_topic, key.encode(), value, [], partition=partition.number),
                    )
                )
        return words

    def _assignment_changed(self, event: str, numbers: list[int]) -> None:
        metrics.rebalances.labels(event=event).inc()
        metrics.partitions_assigned.set(len(self.offsets.partitions) // len(self._topics))
        if numbers:
            log.info("partitions %s: %s", event, ", ".join(map(str, sorted(numbers))))

    def _on_statistics(self, statistics: str) -> None:
        seen = json.loads(statistics)
        if any(broker["state"] == "UP" for broker in seen["brokers"].values()):
            self._troubles.broker_answers()
        topic = self._settings.uploads_topic
        gauges.show(self._jobs, topic, seen["topics"].get(topic, {}))

    # --- what the owners before have left ---

    def _uploads(self, number: int) -> Partition:
        return Partition(self._settings.uploads_topic, number)

    def _is_over(self, epochs: Epochs) -> bool:
        lasting = (self.offsets.epoch(self._uploads(number)) == epoch for number, epoch in epochs.items())
        return self._ended.is_set() or not any(lasting)

    def _collect_restored(self) -> None:
        for number, epoch, restored in self._restorer.restored():
            if not self._is_over({number: epoch}):
                self._install(number, restored)

    def _install(self, number: int, restored: Restored) -> None:
        for topic, metadata in restored.committed.items():
            if position := Position.read(metadata):
                self.offsets.restore(Partition(topic, number), position)
        self._ledgers[number] = Ledger(restored.progress, self._settings.remembered_uploads)

    # --- the end ---

    def _is_drained(self) -> bool:
        if self._drain_until_s is None:
            return False
        self._jobs.stop_taking()
        return self._jobs.num_at_work == 0 or time.monotonic() >= self._drain_until_s

    def _give_back(self) -> None:
        """All that is unfinished; the next owner goes on where it stands."""
        ours = self.offsets.partitions
        log.info("drained: %d records given back unfinished", self.offsets.num_unfinished)
        self._jobs.cancel(ours)
        self._leave_by_s = time.monotonic() + _GIVE_UP_S
        self._outbox.flush(0.0, self._last_words(ours))
        # A rebalance that is under way needs us to poll before it takes what a member of the new generation stores.
        while not self._outbox.flush(_POLL_S) and time.monotonic() < self._leave_by_s:
            self._consumer.poll(0.0)  # a record that slips in is not tracked, so it is not committed
            self._note_member()

    def _commit_last(self) -> None:
        until_s = time.monotonic() + _LAST_COMMIT_S
        while self._commits.is_missing and time.monotonic() < until_s:
            self._commits.ask_if_due(self._consumer)
            self._consumer.poll(_POLL_S)

    def _leave(self) -> None:
        # `close` waits for an unanswered commit as long as the session lasts: let the broker find out itself.
        if self._consumer is not None and not self._commits.is_unanswered:
            try:
                self._consumer.close()
            except (KafkaException, SystemError) as error:  # the second is what the client makes of a callback's error
                log.warning("the group was left in the midst of a rebalance: %s", error)
        self._consumer = self._member = None


def _now_ms() -> int:
    return int(time.time() * 1000)
