"""What all Kafka clients of the house have in common: their settings, and one voice about their troubles."""

import logging
import re
import socket
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from confluent_kafka import KafkaError, KafkaException

from consumer import metrics
from consumer.errors import SettingsError, TagstreamError
from consumer.settings import KafkaSettings

log = logging.getLogger(__name__)

_OWN_SETTING = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "group.id": "kafka.group_id",
    "group.instance.id": "kafka.group_instance_id",
    "group.protocol": "kafka.group_protocol",
    "transaction.timeout.ms": "kafka.transaction_timeout_s",
    "transactional.id": "kafka.transactional_id",
}
_GUARANTEES = {
    "acks",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "isolation.level",
    "partition.assignment.strategy",
    "request.required.acks",
}

REQUEST_S = 5.0
"""How long a consumer waits for an answer; what bounds leaving the group."""

Client = TypeVar("Client")


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """The librdkafka settings of every client: ours, then those of `kafka.client`.

    Raises SettingsError for those that must not be changed.
    """
    for name in settings.client:
        if name in _OWN_SETTING:
            raise SettingsError(f"kafka.client must not set {name}: use {_OWN_SETTING[name]}")
        if name in _GUARANTEES:
            raise SettingsError(f"kafka.client must not set {name}: the delivery guarantee rests on it")
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "tagstream",
        "logger": quiet_logger("debug" in settings.client),
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 5000,
        **settings.client,
    }


def named(template: str) -> str:
    """An id with this machine's name in its place."""
    return template.replace("{hostname}", socket.gethostname())


def quiet_logger(debug: bool = False) -> logging.Logger:
    """librdkafka's log, heard only in debugging: it repeats what `Troubles` says once."""
    logger = logging.getLogger("librdkafka")
    logger.setLevel(logging.DEBUG if debug else logging.CRITICAL)
    return logger


def consumer_config(settings: KafkaSettings, protocol: Literal["classic", "consumer"] = "classic") -> dict[str, Any]:
    """A member of the group: commits only what it is told to, reads only what is committed."""
    classic = {"partition.assignment.strategy": "cooperative-sticky"}
    static = {"group.instance.id": named(settings.group_instance_id)} if settings.group_instance_id else {}
    return {
        "auto.offset.reset": "earliest",
        "max.poll.interval.ms": 120_000,
        "topic.metadata.refresh.interval.ms": 5_000,
        "socket.timeout.ms": int(REQUEST_S * 1000),
        "statistics.interval.ms": 1_000,
        # Jobs are long and records short: fetch few, since a pause throws away what was fetched ahead.
        "queued.min.messages": 100,
        "queued.max.messages.kbytes": 1024,
        "fetch.queue.backoff.ms": 20,
        "fetch.wait.max.ms": 200,  # a partition that is resumed waits for the fetch that is under way
        **client_config(settings),
        "group.id": settings.group_id,
        "group.protocol": protocol,
        **(classic if protocol == "classic" else {}),
        **static,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
    }


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Idempotent, in order, as long as it takes; keys go to the partitions that Java clients choose."""
    return {
        "linger.ms": 5,
        "compression.type": "zstd",
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": 0,
        "message.timeout.ms": 0,
        "error_cb": count_error,
        **client_config(settings),
        "acks": "all",
        "enable.idempotence": True,
    }


def open_client(make: Callable[[dict[str, Any]], Client], config: dict[str, Any]) -> Client:
    """Makes a client; a setting that librdkafka does not know or take is a SettingsError."""
    try:
        return make(config)
    except KafkaException as error:
        raise SettingsError(f"kafka.client: librdkafka says: {error.args[0].str()}") from error


def count_error(error: KafkaError) -> None:
    """For librdkafka's `error_cb`: a fatal error is raised, and comes out of the client's `poll`."""
    metrics.kafka_errors.labels(code=error.name()).inc()
    if error.fatal() or error.code() == KafkaError._FATAL:
        raise TagstreamError(f"the Kafka client is broken for good: {error.str()}")


class Troubles:
    """Says a trouble once, and once when it is over."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._reason = "no answer"
        self._said: set[str] = set()

    def say(self, trouble: str, message: str) -> None:
        if trouble not in self._said:
            self._said.add(trouble)
            log.warning(message)

    def over(self, trouble: str, message: str) -> None:
        if trouble in self._said:
            self._said.remove(trouble)
            log.info(message)

    def client_failed(self, error: KafkaError) -> None:
        """For librdkafka's `error_cb`."""
        count_error(error)
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._waiting(plain_reason(error))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._waiting(self._reason)
        else:
            self._reason = plain_reason(error)

    def broker_answers(self) -> None:
        self._reason = "no answer"
        self.over("broker", f"Kafka at {self._bootstrap_servers} answers again")

    def _waiting(self, reason: str) -> None:
        self.say("broker", f"waiting for Kafka at {self._bootstrap_servers}: {reason}; will go on by itself")


def topic_trouble(topic: str, error: KafkaError) -> str:
    """What is wrong with a topic, and what to do."""
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return f"topic {topic!r} does not exist; make it with `tagstream topics create`"
    return f"topic {topic!r}: {error.str()}"


def plain_reason(error: KafkaError) -> str:
    """librdkafka's message without its address and state: `Connection refused`."""
    message = re.sub(r" \(after .*", "", error.str())
    return message.rsplit("failed: ", 1)[-1]
