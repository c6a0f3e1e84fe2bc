"""How a batch of results is stored. Two ways: at least once (here), and exactly once (`transactions.py`)."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import Abandoned, PermanentError, TagstreamError
from consumer.kafka.client import open_client, producer_config, topic_trouble
from consumer.kafka.offsets import Partition, Position
from consumer.kafka.records import Record
from consumer.settings import KafkaSettings

STAGE = "publish"
"""Of the errors raised for records that Kafka refuses."""

REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
}
"""Errors that are a record's own fault. Any other is no reason to give up an upload."""

_POLL_S = 0.1
_PURGE_S = 5.0


class Refused(Exception):
    """Kafka will not take one of the batch's records, whichever it is."""


class NothingStored(Exception):
    """The batch may be tried again, as far as its partitions are still ours."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records, and where each input partition stands once they are stored.

    `member` is who we are in the group (`consumer_group_metadata`); it was asked for before the positions were.
    """

    records: Sequence[Record]
    positions: Mapping[Partition, Position]
    member: object


class Delivery(Protocol):
    """Used by one thread."""

    def store(self, batch: Batch) -> None:
        """Returns when all of the batch is stored. Raises Refused, NothingStored, TagstreamError when nothing can be
        stored any more, Abandoned once the house closes."""

    def close(self) -> None: ...


class AtLeastOnce:
    """An idempotent producer. The offsets are the intake's to commit, once the records are stored."""

    def __init__(self, settings: KafkaSettings, is_over: Callable[[], bool]) -> None:
        """Raises SettingsError where librdkafka refuses the settings."""
        self._progress_topic = settings.progress_topic
        self._is_over = is_over
        self._num_unanswered = 0
        self._error: tuple[Record, KafkaError] | None = None
        self._producer = open_client(Producer, producer_config(settings))

    def store(self, batch: Batch) -> None:
        """Progress comes last: what it says has to be out, whenever the process dies."""
        self._store([record for record in batch.records if record.topic != self._progress_topic])
        self._store([record for record in batch.records if record.topic == self._progress_topic])

    def _store(self, records: Sequence[Record]) -> None:
        self._error = None
        for record in records:
            self._send(record)
        while self._num_unanswered:
            self._producer.poll(_POLL_S)
            if self._is_over():
                raise Abandoned("the outbox closes before Kafka has answered")
        if self._error is not None:
            raise storing_error(*self._error)

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(_PURGE_S)
        self._producer.close()

    def _send(self, record: Record) -> None:
        def answered(error: KafkaError | None, _: Message) -> None:
            self._num_unanswered -= 1
            if error is not None and self._error is None:
                self._error = record, error

        try:
            send(self._producer, record, answered)
        except KafkaException as error:
            self._error = self._error or (record, error.args[0])
        else:
            self._num_unanswered += 1


def send(producer: Producer, record: Record, answered: Callable[[KafkaError | None, Message], None] | None) -> None:
    """Hands the record to librdkafka; waits while its queue is full."""
    place = {} if record.partition is None else {"partition": record.partition}
    until_s = time.monotonic() + _PURGE_S
    while True:
        try:
            producer.produce(
                record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                on_delivery=answered,
                **place,
            )
            return
        except BufferError:
            if time.monotonic() > until_s:
                raise
            producer.poll(_POLL_S)


def storing_error(record: Record, error: KafkaError) -> Exception:
    if error.code() in REFUSED:
        return Refused(f"Kafka refuses a record of {record.size_bytes} bytes for {record.topic!r}: {error.str()}")
    return TagstreamError(f"cannot store events: {topic_trouble(record.topic, error)}")


def refusal(reason: Refused) -> PermanentError:
    """What the upload's worker is told."""
    return PermanentError("result_refused", str(reason), stage=STAGE)
