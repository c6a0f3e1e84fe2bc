"""A broker inside this process, for the demo and for trying out."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from consumer.kafka.client import open_client, quiet_logger

_START_S = 10.0


class EmbeddedBroker:
    """librdkafka's mock cluster, with the given topics, for as long as the `with` block lasts.

    Topics have four partitions, and live in memory. For at-least-once only: it stores no offsets in
    transactions, fences no one, and shows records of open and aborted transactions to every reader.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = tuple(topics)
        self._producer = open_client(
            Producer,
            {"bootstrap.servers": "embedded", "test.mock.num.brokers": 1, "logger": quiet_logger()},
        )
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        for topic in self._topics:
            self._producer.list_topics(topic, timeout=_START_S)  # a producer's question makes the topic
        brokers = self._producer.list_topics(timeout=_START_S).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._producer.close()
