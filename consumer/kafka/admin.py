"""What the commands do with Kafka: make topics, send uploads, watch a topic."""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any, Literal

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.errors import TagstreamError
from consumer.kafka.client import (
    client_config,
    consumer_config,
    open_client,
    plain_reason,
    producer_config,
    topic_trouble,
)
from consumer.settings import KafkaSettings
from schemas import UploadedEvent

_ANSWER_S = 15.0
_STORE_S = 30.0
_IDLE_S = 0.5
_DAY_MS = 24 * 3600 * 1000

Outcome = Literal["made", "was there"]


def topic_names(settings: KafkaSettings) -> tuple[str, ...]:
    """Every topic that the product reads or writes."""
    return (
        settings.uploads_topic,
        settings.tags_topic,
        settings.cases_topic,
        settings.progress_topic,
        settings.retry_topic,
        settings.dead_letter_topic,
    )


def create_topics(settings: KafkaSettings, partitions: int, replication: int) -> dict[str, Outcome]:
    """Makes the topics that are missing; those that are there are left as they are.

    The progress topic gets as many partitions as the uploads topic has. Raises TagstreamError.
    """
    admin = open_client(AdminClient, client_config(settings))
    there = _partition_counts(admin, settings)
    partitions = there.get(settings.uploads_topic, partitions)
    missing = [
        NewTopic(name, partitions, replication, config=_topic_config(name, settings, replication))
        for name in topic_names(settings)
        if name not in there
    ]
    made = admin.create_topics(missing, operation_timeout=_ANSWER_S) if missing else {}
    return {name: _outcome(name, made.get(name)) for name in topic_names(settings)}


def _partition_counts(admin: Any, settings: KafkaSettings) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=_ANSWER_S).topics
    except KafkaException as error:
        raise _unreachable(settings, error.args[0]) from error
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _topic_config(name: str, settings: KafkaSettings, replication: int) -> dict[str, str]:
    safe = {"min.insync.replicas": "2"} if replication > 2 else {}
    if name == settings.tags_topic:
        # A table of every video's tags in the end; readers have a day to see each revision.
        return safe | {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_DAY_MS)}
    if name == settings.progress_topic:
        return safe | {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(7 * _DAY_MS),
            "segment.ms": "600000",
            "min.cleanable.dirty.ratio": "0.1",
        }
    if name == settings.dead_letter_topic:
        return safe | {"retention.ms": str(30 * _DAY_MS)}
    return safe


def _outcome(name: str, made: Any) -> Outcome:
    if made is None:
        return "was there"
    try:
        made.result(_ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return "was there"
        raise TagstreamError(f"cannot make topic {name!r}: {error.args[0].str()}") from error
    return "made"


def publish(settings: KafkaSettings, events: Iterable[UploadedEvent]) -> int:
    """Sends upload events, keyed by video, and returns how many. Raises TagstreamError unless all are stored."""
    problems: list[str] = []
    topic, num_sent = settings.uploads_topic, 0
    limits = {"message.timeout.ms": int(_STORE_S * 1000), "topic.metadata.propagation.max.ms": 2000}

    def answered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            problems.append(topic_trouble(topic, error))

    with closing(open_client(Producer, producer_config(settings) | limits)) as producer:
        for event in events:
            _send(producer, topic, event, answered)
            num_sent += 1
        producer.flush(_STORE_S + 1.0)
    if problems:
        raise TagstreamError(
            f"{len(problems)} of {num_sent} uploads not stored by Kafka at {settings.bootstrap_servers}: {problems[0]}"
        )
    return num_sent


def _send(producer: Any, topic: str, event: UploadedEvent, answered: Callable[..., None]) -> None:
    key = event.data.partition_key.encode()
    value = event.model_dump_json(exclude_none=True).encode()
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    try:
        producer.produce(topic, key=key, value=value, headers=headers, on_delivery=answered)
    except KafkaException as error:
        trouble = topic_trouble(topic, error.args[0])
        raise TagstreamError(f"cannot send {event.data.video_id!r}: {trouble}") from error


def watch(settings: KafkaSettings, topic: str, *, from_beginning: bool) -> Generator[bytes | None, None, None]:
    """The values of a topic as they come, without a group; None whenever nothing came for half a second."""
    with closing(open_client(Consumer, consumer_config(settings))) as consumer:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign(_every_partition(consumer, settings, topic, start))
        while True:
            message = consumer.poll(_IDLE_S)
            if message is None:
                yield None
            elif message.error():
                raise TagstreamError(topic_trouble(topic, message.error()))
            elif message.value() is not None:
                yield message.value()


def _every_partition(consumer: Any, settings: KafkaSettings, topic: str, offset: int) -> list[TopicPartition]:
    try:
        found = consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
    except KafkaException as error:
        raise _unreachable(settings, error.args[0]) from error
    if found.error:
        raise TagstreamError(topic_trouble(topic, found.error))
    return [TopicPartition(topic, partition, offset) for partition in found.partitions]


def _unreachable(settings: KafkaSettings, error: KafkaError) -> TagstreamError:
    return TagstreamError(f"no answer from Kafka at {settings.bootstrap_servers}: {plain_reason(error)}")
