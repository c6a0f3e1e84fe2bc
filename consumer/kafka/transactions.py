"""Exactly once: each batch is one short transaction of its records and of the offsets that they finish.

What librdkafka does in which trouble was measured on librdkafka 2.16 and Apache Kafka 4.3; the rest is KIP-98 and
KIP-447.
"""

import logging
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from consumer import metrics
from consumer.errors import Abandoned, TagstreamError
from consumer.kafka.client import consumer_config, named, open_client, producer_config, topic_trouble
from consumer.kafka.delivery import REFUSED, Batch, NothingStored, Refused, send
from consumer.kafka.offsets import token_of
from consumer.settings import KafkaSettings

log = logging.getLogger(__name__)

_CALL_S = 2.0
_SLOW_COMMIT_S = 0.5
_CLOSE_S = 1.0
_HUNG_S = 10.0
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_DOUBTED = {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}


class ExactlyOnce:
    """One transactional producer with a static id, replaced whenever what became of a commit is in doubt.

    1. The offsets are sent first, for every partition that the batch writes for, moved or not: a member that the
       group no longer knows fails here, before it has written anything (KIP-447).
    2. The records follow.
    3. The commit is asked for until it is answered. A `read_committed` reader sees all of the batch, or nothing.

    Each commit names itself in the offsets' metadata. When a producer breaks in the midst of one, its successor has
    the coordinator end the transaction (`init_transactions`), and the name that stands beside the committed offset
    then says how it has ended.
    """

    def __init__(self, settings: KafkaSettings, is_over: Callable[[], bool]) -> None:
        """`is_over` ends the waiting for a broker. Raises SettingsError where librdkafka refuses the settings."""
        self._settings = settings
        self._is_over = is_over
        self._id = named(settings.transactional_id)
        self._name = uuid.uuid4().hex[:12]
        self._num_commits = 0
        self._doubted: str | None = None
        self._begun_at_s = 0.0
        self._replace_for: str | None = None
        self._ready = False
        self._producer: Any = self._make()

    def store(self, batch: Batch) -> None:
        token = self._next_token()
        producer = self._ready_producer()
        self._doubted, self._begun_at_s = None, time.monotonic()
        committing = False
        try:
            producer.begin_transaction()
            # Not asked again: a second call can wait for ever for a coordinator that the first one has lost
            # (measured, librdkafka 2.16). A new producer finds it anew.
            _bounded(lambda: producer.send_offsets_to_transaction(_offsets(batch, token), batch.member, _CALL_S))
            for record in batch.records:
                send(producer, record, None)
            committing = True
            self._again(lambda: producer.commit_transaction(_CALL_S))
        except KafkaException as error:
            self._failed(error.args[0], batch, token if committing else None)
        except BufferError as error:
            self._undo()
            raise NothingStored from error
        self._stored()

    def close(self) -> None:
        """On a thread of its own: in the midst of a transaction it takes as long as the broker is silent."""
        closing = threading.Thread(target=_close, args=(self._producer,), name="close", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    # --- one transaction ---

    def _next_token(self) -> str:
        self._num_commits += 1
        return f"{self._name}-{self._num_commits}"

    def _again(self, call: Callable[[], object]) -> None:
        """Calls until it is answered. A call that has timed out goes on where it was; any other call would be refused
        until then."""
        while True:
            try:
                _bounded(call)
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                if self._is_over():
                    raise Abandoned("the outbox closes before Kafka has answered") from error

    def _stored(self) -> None:
        took_s = time.monotonic() - self._begun_at_s
        metrics.transaction_seconds.observe(took_s)
        if self._doubted or took_s > _SLOW_COMMIT_S:
            # librdkafka asks again by itself, with an epoch that stays the same: an end that was delayed on its way
            # could end a later transaction (KIP-890 has the remedy; librdkafka issue 5423).
            self._replace_for = self._doubted or "slow_commit"

    def _failed(self, error: KafkaError, batch: Batch, token: str | None) -> None:
        """Raises what the failure of a transaction means, or returns if it was committed all the same."""
        metrics.transaction_failures.labels(error.name()).inc()
        if error.code() in REFUSED:
            self._undo()
            raise Refused(f"Kafka refuses a record of {_largest(batch)} bytes or less: {error.str()}")
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise TagstreamError(f"cannot store events: {topic_trouble(self._missing_topic(batch), error)}")
        if error.txn_requires_abort():
            self._undo()
            raise NothingStored
        if error.code() in _FENCED and time.monotonic() - self._begun_at_s < self._settings.transaction_timeout_s:
            raise TagstreamError(
                f"another process uses the transactional id {self._id!r}, and Kafka has shut us "
                "out: give each process one of its own (kafka.transactional_id)"
            )
        self._replace(error.name())
        if token is None or not self._was_committed(batch, token):
            raise NothingStored

    def _missing_topic(self, batch: Batch) -> str:
        """The error does not say which it is."""
        topics = sorted({record.topic for record in batch.records} | {topic for topic, _ in batch.positions})
        try:
            there = self._producer.list_topics(timeout=_CALL_S).topics
        except KafkaException:
            return " or ".join(topics)
        return next((topic for topic in topics if topic not in there), " or ".join(topics))

    def _undo(self) -> None:
        """Ends the transaction without effect."""
        try:
            self._again(lambda: self._producer.abort_transaction(_CALL_S))
        except KafkaException as error:
            self._replace(error.args[0].name())

    def _was_committed(self, batch: Batch, token: str) -> bool:
        """How a transaction ended whose producer broke. Its coordinator has ended it by now; `committed` waits until
        the offsets say so too (KIP-447, `isolation.level=read_committed`)."""
        partitions = [TopicPartition(topic, number) for topic, number in batch.positions]
        asked = consumer_config(self._settings)
        asking = open_client(Consumer, asked)
        found: list[TopicPartition] = []
        try:
            self._again(lambda: found.extend(asking.committed(partitions, _CALL_S)))
        finally:
            asking.close()
        return any(token_of(partition.metadata or "") == token for partition in found)

    # --- the producer ---

    def _ready_producer(self) -> Any:
        """Made known to its coordinator, which shuts out all others of the same id and ends what they left open."""
        if self._replace_for:
            self._replace(self._replace_for)
        while not self._ready:
            try:
                self._again(lambda: self._producer.init_transactions(_CALL_S))
                self._ready = True
            except KafkaException as error:
                if error.args[0].code() not in _DOUBTED:
                    raise TagstreamError(
                        f"no transactions as {self._id!r}: {error.args[0].str()}; where brokers have none, set "
                        "kafka.delivery to at_least_once"
                    ) from error
                self._renew()
        self._producer.poll(0)
        return self._producer

    def _replace(self, reason: str) -> None:
        log.info("a new transactional producer: %s", reason)
        metrics.producers_replaced.labels(reason).inc()
        self._renew()
        self._ready_producer()

    def _renew(self) -> None:
        self.close()
        self._producer, self._ready, self._replace_for = self._make(), False, None

    def _make(self) -> Any:
        # Said by a client that is closed in the midst of a call: it is let go for that very reason.
        warnings.filterwarnings("ignore", "Producer abort_transaction failed", RuntimeWarning)
        timeout_ms = int(self._settings.transaction_timeout_s * 1000)
        config = {
            "topic.metadata.propagation.max.ms": 5_000,
            "socket.timeout.ms": min(5_000, timeout_ms // 2),
            **producer_config(self._settings),
            "transactional.id": self._id,
            "transaction.timeout.ms": timeout_ms,
            "message.timeout.ms": timeout_ms * 4 // 5,
            "error_cb": self._client_failed,
        }
        return open_client(Producer, config)

    def _client_failed(self, error: KafkaError) -> None:
        """What is fatal comes out of the call that it concerns."""
        metrics.kafka_errors.labels(code=error.name()).inc()
        if error.code() in _DOUBTED:
            self._doubted = error.name()


def _bounded(call: Callable[[], object]) -> None:
    """Calls on a thread of its own, which is let go when it does not come back: while a coordinator is lost librdkafka
    does not keep its own limits (measured, 2.16), and only a new producer gets further."""
    answer: SimpleQueue[BaseException | None] = SimpleQueue()

    def body() -> None:
        try:
            call()
        except BaseException as error:
            answer.put(error)
        else:
            answer.put(None)

    threading.Thread(target=body, name="transaction", daemon=True).start()
    try:
        error = answer.get(timeout=_HUNG_S)
    except Empty:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "librdkafka does not come back")) from None
    if error is not None:
        raise error


def _close(producer: Any) -> None:
    with suppress(KafkaException):  # one that broke says so once more
        producer.purge()
        producer.close()


def _offsets(batch: Batch, token: str) -> list[TopicPartition]:
    return [
        TopicPartition(topic, number, position.offset, position.metadata(token))
        for (topic, number), position in batch.positions.items()
    ]


def _largest(batch: Batch) -> int:
    return max((record.size_bytes for record in batch.records), default=0)
