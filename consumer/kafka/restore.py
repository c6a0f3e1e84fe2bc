"""What the owners before have left of a partition, read before its first record is worked on."""

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from consumer.errors import Abandoned, TagstreamError
from consumer.kafka.client import Troubles, client_config, count_error, open_client, topic_trouble
from consumer.settings import KafkaSettings

_CALL_S = 1.0
_ANSWER_S = 15.0
_AGAIN_S = 0.05
_SETTLE_S = 3.0
_BATCH = 5_000
_FRESH_METADATA = {"metadata.max.age.ms": 1000}  # else what was missing once is missing for 15 minutes
_MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)

Answer = TypeVar("Answer")
Offsets = dict[tuple[str, int], int]
"""By topic and number of a partition."""


@dataclass(frozen=True)
class Restored:
    """What the owners before left of one partition."""

    committed: Mapping[str, str]
    """By input topic (uploads, retries): the metadata beside the committed offset; empty where nothing is committed."""
    progress: Mapping[str, bytes]
    """The last value of each key of the progress, in the order of writing; keys whose last value is none are absent."""


def restore(settings: KafkaSettings, numbers: Sequence[int], is_over: Callable[[], bool]) -> dict[int, Restored]:
    """Reads what was left of the partitions of these numbers; for a thread of its own, while they are paused.

    1. The committed offsets, once they are stable (KIP-447): the last transaction of the owner before is over, which
       takes `transaction.timeout.ms` where that owner has died in its midst.
    2. Where the progress begins, and where it ends with all that is not decided yet: the end of a transaction reaches
       the partition of the offsets and this one in any order.
    3. The progress up to there, which waits for what is not decided.

    A broker that is away is waited for. Raises Abandoned once `is_over()`, and TagstreamError where the progress or
    retry topic is missing or too small.
    """
    if not numbers:
        return {}
    with (
        open_client(AdminClient, client_config(settings) | _FRESH_METADATA) as admin,
        closing(open_client(Consumer, _reader_config(settings))) as reader,
    ):
        restoring = _Restoring(settings, numbers, admin, reader, is_over)
        committed = restoring.committed()
        progress = restoring.progress(restoring.begins(), restoring.ends())
    return {number: Restored(committed[number], progress[number]) for number in numbers}


def _reader_config(settings: KafkaSettings) -> dict[str, Any]:
    """A consumer that never joins the group, and is told where a partition ends."""
    ours = {name: value for name, value in client_config(settings).items() if not name.startswith("group.")}
    return {
        "queued.max.messages.kbytes": 16_384,
        "fetch.wait.max.ms": 50,  # nobody waits longer to be told that there is no more
        **ours,
        "group.id": settings.group_id,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "error_cb": count_error,
        "isolation.level": "read_committed",
    }


class _Restoring:
    """The questions, each asked until Kafka answers or until it is over."""

    def __init__(
        self, settings: KafkaSettings, numbers: Sequence[int], admin: Any, reader: Any, is_over: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._numbers = numbers
        self._admin = admin
        self._reader = reader
        self._is_over = is_over
        self._troubles = Troubles(settings.bootstrap_servers)
        # Until then a topic that was just made, or a leader that has just moved, may be unknown to some brokers.
        self._settled_at_s = time.monotonic() + _SETTLE_S

    def begins(self) -> Offsets:
        """The first offset of each partition of the three topics; raises TagstreamError where one is missing."""
        # Of the uploads too, since they are there: librdkafka names what is missing only beside what is not.
        topics = (self._settings.uploads_topic, self._settings.retry_topic, self._settings.progress_topic)
        return self._answered(lambda: self._log_offsets(topics, OffsetSpec.earliest()))

    def ends(self) -> Offsets:
        """The high watermarks of the progress."""
        topics = (self._settings.progress_topic,)
        return self._answered(lambda: self._log_offsets(topics, OffsetSpec.latest()))

    def committed(self) -> dict[int, dict[str, str]]:
        """The metadata beside the committed offsets, by number and topic."""
        topics = (self._settings.uploads_topic, self._settings.retry_topic)
        asked = [TopicPartition(topic, number) for topic in topics for number in self._numbers]
        found = self._answered(lambda: self._stable_offsets(asked))
        return {n: {p.topic: p.metadata or "" for p in found if p.partition == n} for n in self._numbers}

    def progress(self, begins: Offsets, ends: Offsets) -> dict[int, dict[str, bytes]]:
        """The progress from its beginnings up to these ends, by number and key."""
        topic = self._settings.progress_topic
        progress: dict[int, dict[str, bytes]] = {number: {} for number in self._numbers}
        unread = {number for number in self._numbers if begins[topic, number] < ends[topic, number]}
        # A topic that librdkafka has not met yet is looked for once a second only.
        self._answered(lambda: self._reader.list_topics(topic, timeout=_CALL_S))
        self._reader.assign([TopicPartition(topic, number, begins[topic, number]) for number in unread])
        while unread:
            self._go_on()
            for message in self._reader.consume(_BATCH, _AGAIN_S):
                number, error = message.partition(), message.error()
                if error is None:
                    _take(message, progress[number])
                elif error.code() != KafkaError._PARTITION_EOF:
                    count_error(error)
                    self._say(error)
                # Only the end counts: what was undone, and the markers of transactions, take offsets unseen.
                elif message.offset() >= ends[topic, number]:
                    unread.discard(number)
        return progress

    # --- one question ---

    def _log_offsets(self, topics: Iterable[str], at: OffsetSpec) -> Offsets:
        asked = {TopicPartition(topic, number): at for topic in topics for number in self._numbers}
        asked_at_s = time.monotonic()
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_ANSWER_S
        )
        offsets: Offsets = {}
        for partition, future in futures.items():
            try:
                offsets[partition.topic, partition.partition] = self._result(future).offset
            except KafkaException as error:
                if asked_at_s > self._settled_at_s:
                    self._check_is_there(partition, error)
                raise
        return offsets

    def _check_is_there(self, partition: TopicPartition, error: KafkaException) -> None:
        if error.args[0].code() in _MISSING:
            raise TagstreamError(topic_trouble(partition.topic, error.args[0])) from error
        if error.args[0].code() == KafkaError._UNKNOWN_PARTITION:
            raise TagstreamError(
                f"topic {partition.topic!r} has no partition {partition.partition}: it needs as many as "
                f"{self._settings.uploads_topic!r} has; add them with Kafka's `kafka-topics.sh --alter --partitions`"
            ) from error

    def _stable_offsets(self, asked: list[TopicPartition]) -> list[TopicPartition]:
        # Not the admin client's question: librdkafka ends the process where its coordinator is away (issue 4605).
        found: list[TopicPartition] = self._reader.committed(asked, timeout=_CALL_S)
        for partition in found:
            if partition.error:
                raise KafkaException(partition.error)
        return found

    # --- waiting ---

    def _answered(self, question: Callable[[], Answer]) -> Answer:
        while True:
            try:
                return question()
            except KafkaException as error:
                self._say(error.args[0])
            self._go_on()
            self._reader.poll(_AGAIN_S)  # the pause; nothing is assigned yet, only errors are heard

    def _result(self, future: "concurrent.futures.Future[Any]") -> Any:
        while not concurrent.futures.wait([future], _AGAIN_S).done:
            self._go_on()
        return future.result()

    def _go_on(self) -> None:
        if self._is_over():
            raise Abandoned("the partitions were taken away before they were restored")

    def _say(self, error: KafkaError) -> None:
        # That a broker is away is said by the client that polls.
        if error.code() > 0 and time.monotonic() > self._settled_at_s:
            self._troubles.say(error.name(), f"partitions wait for their progress: {error.str()}; still trying")


def _take(message: Message, progress: dict[str, bytes]) -> None:
    try:
        key = message.key().decode()
    except (AttributeError, UnicodeDecodeError):
        return  # no key, or none of ours
    progress.pop(key, None)
    if message.value() is not None:
        progress[key] = message.value()
