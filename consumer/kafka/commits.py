"""Commits offsets where no transaction does: at least once."""

import time
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from consumer import metrics
from consumer.kafka.offsets import OffsetTracker, Partition, Position
from consumer.settings import KafkaSettings


class Commits:
    """One commit at a time, and never synchronous, since nothing bounds that call while a broker is away.

    Used by the poll thread. Where the outbox commits in its transactions there is nothing to do here.
    """

    def __init__(self, settings: KafkaSettings, offsets: OffsetTracker) -> None:
        self._is_ours = settings.delivery == "at_least_once"
        self._interval_s = settings.commit_interval_s
        self._offsets = offsets
        self._num_unanswered = 0
        self._asked: dict[Partition, Position] = {}
        self._again_at_s = 0.0

    @property
    def is_unanswered(self) -> bool:
        return self._num_unanswered > 0

    @property
    def is_missing(self) -> bool:
        """Whether something is finished and not committed yet."""
        return self.is_unanswered or (self._is_ours and bool(self._offsets.committable()))

    def ask_if_due(self, consumer: Any) -> None:
        if not self.is_unanswered and time.monotonic() >= self._again_at_s:
            self.ask(consumer)

    def ask(self, consumer: Any) -> None:
        """Commits what is finished."""
        if self._is_ours and (positions := self._offsets.committable()):
            self._num_unanswered += 1
            self._asked = positions
            self._again_at_s = time.monotonic() + self._interval_s
            offsets = [TopicPartition(*at, position.offset, position.metadata()) for at, position in positions.items()]
            consumer.commit(offsets=offsets, asynchronous=True)

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """librdkafka's answer, from within `poll`."""
        self._num_unanswered -= 1
        stored = {Partition(p.topic, p.partition) for p in partitions if error is None and p.error is None}
        self._offsets.committed({partition: self._asked[partition] for partition in stored & self._asked.keys()})
        metrics.commits.labels(result="stored" if len(stored) == len(partitions) else "refused").inc()
