"""Takes records from Kafka, hands them out, and commits what is finished. One thread, which never blocks."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

from confluent_kafka import (
    OFFSET_INVALID,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from consumer import metrics
from consumer.kafka import gauges
from consumer.kafka.client import (
    REQUEST_S,
    Troubles,
    consumer_config,
    count_error,
    open_client,
    topic_trouble,
)
from consumer.kafka.jobs import Jobs
from consumer.kafka.offsets import Claim
from consumer.kafka.records import Job
from consumer.settings import KafkaSettings

log = logging.getLogger(__name__)

_POLL_S = 0.1
_ALIVE_S = 60.0
_LAST_COMMIT_S = 5.0
_LEAVE_S = 2 * REQUEST_S


class Intake:
    """At most `capacity` records at work, each handed to `begin`, which must not block.

    `run` is the thread. Every job ends in one of two ways: `finished(job.claim)` once its results are stored,
    or we set its `cancelled`. While the house is full its partitions are paused and polling goes on, as the
    broker expects.
    """

    def __init__(self, settings: KafkaSettings, capacity: int, begin: Callable[[Job], None]) -> None:
        """Raises SettingsError where librdkafka refuses the settings."""
        self._settings = settings
        self._begin = begin
        self._jobs = Jobs(capacity)
        self._finished: SimpleQueue[Claim] = SimpleQueue()
        self._troubles = Troubles(settings.bootstrap_servers)
        self._paused = False
        self._commits_pending = 0
        self._commit_again_at_s = 0.0
        self._last_turn_s = time.monotonic()
        self._drain_until_s: float | None = None
        self._assigned_once = threading.Event()
        self._ended = threading.Event()
        callbacks = {
            "error_cb": self._troubles.client_failed,
            "on_commit": self._on_commit,
            "stats_cb": self._on_statistics,
        }
        self._consumer = open_client(Consumer, consumer_config(settings) | callbacks)

    def run(self) -> None:
        """Polls until drained. Raises TagstreamError when the client is broken for good (fenced)."""
        try:
            self._consumer.subscribe(
                [self._settings.uploads_topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._is_drained():
                self._turn()
            log.info("drained: %d uploads given back unfinished", self._jobs.give_back())
            self._commit_last()
        finally:
            self._leave()
            self._ended.set()

    def finished(self, claim: Claim) -> None:
        """The results of the claim are stored: its offset may be committed. From any thread."""
        self._finished.put(claim)

    def drain(self, deadline_s: float) -> bool:
        """Takes no more, waits so long for the jobs at work, gives back the others, commits and leaves.

        From another thread than `run`. False if `run` has not ended. A broker that does not answer may cost
        `_LAST_COMMIT_S` and `_LEAVE_S` beyond the deadline; leaving in the midst of a rebalance, `REQUEST_S`.
        """
        self._drain_until_s = time.monotonic() + deadline_s
        return self._ended.wait(deadline_s + _LAST_COMMIT_S + _LEAVE_S)

    def alive(self) -> bool:
        """Whether the poll loop has turned within the last minute; a broker that is away does not stop it."""
        return time.monotonic() - self._last_turn_s < _ALIVE_S

    @property
    def assigned_once(self) -> bool:
        """Whether the group has taken us in."""
        return self._assigned_once.is_set()

    # --- a turn of the loop ---

    def _turn(self) -> None:
        message = self._consumer.poll(_POLL_S)
        self._last_turn_s = time.monotonic()
        metrics.poll_turn_timestamp.set_to_current_time()
        self._collect_finished()
        if message is not None:
            self._receive(message)
        for job in self._jobs.begin():
            self._begin(job)
        self._balance()
        if self._commits_pending == 0 and time.monotonic() >= self._commit_again_at_s:
            self._commit()

    def _collect_finished(self) -> None:
        while True:
            try:
                claim = self._finished.get_nowait()
            except Empty:
                return
            if not self._jobs.finish(claim):
                metrics.late_results_dropped.inc()

    def _receive(self, message: Message) -> None:
        if error := message.error():
            self._fetch_failed(error)
            return
        metrics.records_received.inc()
        partition, offset = message.partition(), message.offset()
        if not self._jobs.offsets.follows(partition, offset):
            log.warning("partition %d goes back to offset %d: the log was cut or remade", partition, offset)
            self._jobs.abandon(partition)
            self._jobs.offsets.assign(partition)
        self._jobs.hold(_job(message, self._jobs.offsets.add(partition, offset)))

    def _fetch_failed(self, error: KafkaError) -> None:
        count_error(error)
        what = topic_trouble(self._settings.uploads_topic, error)
        self._troubles.say(
            "intake", f"no uploads from Kafka at {self._settings.bootstrap_servers}: {what}; still waiting"
        )

    def _balance(self) -> None:
        if self._jobs.is_hungry if self._paused else self._jobs.is_full:
            self._paused = not self._paused
            self._apply_pause(self._partitions(dict.fromkeys(self._jobs.offsets.partitions, OFFSET_INVALID)))

    def _apply_pause(self, partitions: list[TopicPartition]) -> None:
        # librdkafka keeps an old pause through a revocation: a resume has to be said, not assumed.
        if self._paused:
            self._consumer.pause(partitions)
        else:
            self._consumer.resume(partitions)
        metrics.partitions_paused.set(len(self._jobs.offsets.partitions) if self._paused else 0)

    def _partitions(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        topic = self._settings.uploads_topic
        return [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]

    # --- commits: never synchronous, since nothing bounds that call while a broker is away ---

    def _commit(self) -> None:
        offsets = self._jobs.offsets.committable()
        if offsets:
            self._commits_pending += 1
            self._consumer.commit(offsets=self._partitions(offsets), asynchronous=True)
            self._commit_again_at_s = time.monotonic() + self._settings.commit_interval_s

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._commits_pending -= 1
        stored = {p.partition: p.offset for p in partitions if error is None and p.error is None}
        self._jobs.offsets.committed(stored)
        metrics.commits.labels(result="stored" if len(stored) == len(partitions) else "refused").inc()

    # --- called from within `poll` and `close` ---

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._jobs.offsets.assign(partition.partition)
        consumer.incremental_assign(partitions)
        self._apply_pause(partitions)
        self._assigned_once.set()
        self._troubles.over("intake", f"topic {self._settings.uploads_topic!r} is there")
        self._assignment_changed("assigned", partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """librdkafka hands the partitions on only once this commit is answered."""
        self._collect_finished()
        self._commit()
        self._give_up("revoked", consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Others may have them already: nothing is committed."""
        self._give_up("lost", consumer, partitions)

    def _give_up(self, event: str, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._jobs.abandon(partition.partition)
            gauges.forget(partition.partition)
        consumer.incremental_unassign(partitions)
        self._assignment_changed(event, partitions)

    def _assignment_changed(self, event: str, partitions: list[TopicPartition]) -> None:
        metrics.rebalances.labels(event=event).inc()
        metrics.partitions_assigned.set(len(self._jobs.offsets.partitions))
        if partitions:
            log.info("partitions %s: %s", event, ", ".join(str(p.partition) for p in partitions))

    def _on_statistics(self, statistics: str) -> None:
        seen = json.loads(statistics)
        if any(broker["state"] == "UP" for broker in seen["brokers"].values()):
            self._troubles.broker_answers()
        gauges.show(self._jobs, seen["topics"].get(self._settings.uploads_topic, {}))

    # --- the end ---

    def _is_drained(self) -> bool:
        if self._drain_until_s is None:
            return False
        self._jobs.stop_taking()
        return self._jobs.num_at_work == 0 or time.monotonic() >= self._drain_until_s

    def _commit_last(self) -> None:
        until_s = time.monotonic() + _LAST_COMMIT_S
        while (self._commits_pending or self._jobs.offsets.committable()) and time.monotonic() < until_s:
            if self._commits_pending == 0:
                self._commit()
            self._consumer.poll(_POLL_S)  # a record that slips in is not tracked, so it is not committed
            self._collect_finished()

    def _leave(self) -> None:
        # `close` waits for an unanswered commit as long as the session lasts: let the broker find out itself.
        if self._commits_pending == 0:
            self._consumer.close()
        del self._consumer


def _job(message: Message, claim: Claim) -> Job:
    kind, timestamp_ms = message.timestamp()
    return Job(
        claim=claim,
        topic=message.topic(),
        key=message.key(),
        value=message.value(),
        headers=message.headers() or [],
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE or timestamp_ms < 0 else timestamp_ms,
        received_at_s=time.monotonic(),
        cancelled=threading.Event(),
    )
