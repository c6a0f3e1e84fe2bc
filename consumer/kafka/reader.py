"""Reads what a topic holds, from anywhere in it, without joining a group."""

from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.errors import TagstreamError
from consumer.kafka.client import client_config, open_client, plain_reason, topic_trouble
from consumer.settings import KafkaSettings

_ANSWER_S = 15.0
_CHUNK_BYTES = 1 << 20
_NO_ANSWER = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN)
_NOT_THERE = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


class TopicReader:
    """Committed records only. Where Kafka says no, or says nothing, there is a TagstreamError."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap_servers = settings.bootstrap_servers
        self._consumer: Any = open_client(Consumer, _config(settings))

    def close(self) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> list[int]:
        try:
            found = self._consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
        except KafkaException as error:
            raise self._trouble(topic, error.args[0]) from error
        if found.error:
            raise self._trouble(topic, found.error)
        return sorted(found.partitions)

    def bounds(self, topic: str, partition: int) -> range:
        """The offsets that are there now; none where there is no such partition."""
        try:
            marks = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() in _NOT_THERE:
                return range(0)
            raise self._trouble(topic, error.args[0]) from error
        if marks is None:
            raise self._silence()
        return range(*marks)

    def offset_at(self, topic: str, partition: int, time_ms: int) -> int | None:
        """Of the first record that is not older (Unix time); None if all are."""
        asked = [TopicPartition(topic, partition, time_ms)]
        try:
            (found,) = self._consumer.offsets_for_times(asked, timeout=_ANSWER_S)
        except KafkaException as error:
            raise self._trouble(topic, error.args[0]) from error
        if found.error:
            raise self._trouble(topic, found.error)
        return found.offset if found.offset >= 0 else None

    def chunk(self, topic: str, partition: int, offsets: range) -> tuple[list[Any], range]:
        """The messages that have the first of these offsets, about a megabyte, and the offsets left after them."""
        found: list[Any] = []
        num_bytes = 0
        self._consumer.assign([TopicPartition(topic, partition, offsets.start)])
        while num_bytes < _CHUNK_BYTES:
            message = self._consumer.poll(_ANSWER_S)
            if message is None:
                raise self._silence()
            if message.error() and message.error().code() != KafkaError._PARTITION_EOF:
                raise self._trouble(topic, message.error())
            if message.error() or message.offset() >= offsets.stop:  # offsets have holes: markers, what was undone
                return found, range(0)
            found.append(message)
            num_bytes += len(message)
        return found, range(found[-1].offset() + 1, offsets.stop)

    def _silence(self) -> TagstreamError:
        return TagstreamError(f"no answer from Kafka at {self._bootstrap_servers} in {_ANSWER_S:.0f} s")

    def _trouble(self, topic: str, error: KafkaError) -> TagstreamError:
        if error.code() in _NO_ANSWER:
            return TagstreamError(f"no answer from Kafka at {self._bootstrap_servers}: {plain_reason(error)}")
        return TagstreamError(topic_trouble(topic, error))


def _config(settings: KafkaSettings) -> dict[str, Any]:
    return {
        # A chunk begins with a fetch and may end with one that finds nothing: neither should wait.
        "fetch.wait.max.ms": 20,
        "fetch.queue.backoff.ms": 20,
        "queued.max.messages.kbytes": 1024,  # what is fetched past a chunk's end is fetched again
        **client_config(settings),
        "group.id": settings.group_id,  # librdkafka wants one, also to read without it
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
