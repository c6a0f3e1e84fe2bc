"""Which rebalance protocol the group speaks."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.errors import Abandoned, TagstreamError
from consumer.kafka.client import Troubles, client_config, open_client
from consumer.settings import KafkaSettings

_POLL_S = 0.05
_CALL_S = 2.0
_SILENCE_S = 2.0
_CLASSIC_ONLY = {"group.protocol.type", "heartbeat.interval.ms", "session.timeout.ms"}
_NO_ASSIGNOR = "tagstream-asks-which-protocol-is-spoken"

GroupProtocol = Literal["classic", "consumer"]


def group_protocol(settings: KafkaSettings, is_over: Callable[[], bool]) -> GroupProtocol:
    """What `kafka.group_protocol` says; `auto`: `consumer` (KIP-848) where the brokers speak it, else `classic`.

    A broker lists the new protocol among what it knows even where it is switched off, so it is asked to let a member
    in whose assignor no broker has. One that speaks the protocol refuses the assignor, before it looks at the group;
    one that does not refuses the request. Neither changes the group. Of older brokers librdkafka does not even ask:
    a coordinator that answers other questions, and not this one, does not know it. That takes twice `_SILENCE_S`.

    Settings that only the classic protocol takes choose it. A broker that is away is waited for. Raises Abandoned
    once `is_over()`, TagstreamError where the group refuses us for another reason.
    """
    if settings.group_protocol != "auto":
        return settings.group_protocol
    if not _CLASSIC_ONLY.isdisjoint(settings.client):
        return "classic"
    troubles = Troubles(settings.bootstrap_servers)
    with closing(open_client(Consumer, _asking_config(settings, troubles))) as consumer:
        protocol = _answer(consumer, settings, is_over)
    troubles.broker_answers()
    return protocol


def _asking_config(settings: KafkaSettings, troubles: Troubles) -> dict[str, Any]:
    return {
        **client_config(settings),
        "logger": _mute_logger(),
        "error_cb": troubles.client_failed,
        "group.id": settings.group_id,
        "group.protocol": "consumer",
        "group.remote.assignor": _NO_ASSIGNOR,
        "enable.auto.commit": False,
        "isolation.level": "read_uncommitted",  # an open transaction shall not look like a silent coordinator
    }


def _mute_logger() -> logging.Logger:
    """The answer comes as a fatal error, which librdkafka would log as an emergency."""
    logger = logging.getLogger("librdkafka.protocol")
    logger.disabled = True
    return logger


def _answer(consumer: Any, settings: KafkaSettings, is_over: Callable[[], bool]) -> GroupProtocol:
    let_in = threading.Event()
    consumer.subscribe([settings.uploads_topic], on_assign=lambda *_: let_in.set())
    coordinator_answers = False
    while True:
        until_s = time.monotonic() + _SILENCE_S
        while time.monotonic() < until_s:
            if is_over():
                raise Abandoned("no broker has answered yet")
            message = consumer.poll(_POLL_S)
            if let_in.is_set():
                return "consumer"  # librdkafka's mock cluster takes any assignor
            if message is not None and (protocol := _meaning(message.error(), settings.group_id)):
                return protocol
        if coordinator_answers:
            return "classic"  # librdkafka sends nothing, and says nothing, where the request is not known at all
        coordinator_answers = _answers_another_question(consumer, settings.uploads_topic)


def _answers_another_question(consumer: Any, topic: str) -> bool:
    """Whether the group's coordinator is there, and has loaded its groups."""
    try:
        consumer.committed([TopicPartition(topic, 0)], timeout=_CALL_S)
    except KafkaException:
        return False
    return True


def _meaning(error: KafkaError | None, group_id: str) -> GroupProtocol | None:
    """None: this is no answer. The reason of a fatal error is in its text alone."""
    if error is None or error.code() != KafkaError._FATAL:
        return None
    if KafkaError(KafkaError.UNSUPPORTED_ASSIGNOR).str() in error.str():
        return "consumer"
    if KafkaError(KafkaError.UNSUPPORTED_VERSION).str() in error.str():
        return "classic"
    raise TagstreamError(f"Kafka does not let us into group {group_id!r}: {error.str()}")
