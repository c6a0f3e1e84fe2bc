"""The only way out of the house: stores records with Kafka, and says when all of an upload's are stored."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer import metrics
from consumer.errors import Abandoned, PermanentError, TagstreamError
from consumer.kafka.client import open_client, producer_config, topic_trouble
from consumer.kafka.offsets import Claim
from consumer.kafka.records import Record
from consumer.settings import KafkaSettings

STAGE = "publish"
"""Of the errors raised for records that Kafka refuses."""

_POLL_S = 0.1
_PURGE_S = 5.0
_MAX_UNSTORED_BYTES = 16 << 20

_REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
}
"""Errors that are the record's own fault. Any other is no reason to give up an upload."""

_PURGED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}


@dataclass(slots=True, eq=False)
class _Account:
    """What is on its way for one upload."""

    claim: Claim
    unstored: int = 0
    done: bool = False
    refusal: PermanentError | None = None


@dataclass(frozen=True, slots=True)
class _Parcel:
    record: Record
    account: _Account
    alone: bool = False


class Outbox:
    """Delivers at least once, an upload's records in the order of `put`; a broker that is away is waited for.

    `run` is the thread. `on_done(claim)` is called once everything put for the claim is stored, up to and
    with the entry that was `done`. When Kafka refuses a record for good, the claim's next `put` raises that;
    where there is none to come, `on_refused(claim, error)` is called in place of `on_done`. Neither may block
    or put: hand the dead letter to a worker.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        on_done: Callable[[Claim], None],
        on_refused: Callable[[Claim, PermanentError], None],
    ) -> None:
        """Raises SettingsError where librdkafka refuses the settings."""
        self._on_done = on_done
        self._on_refused = on_refused
        self._changed = threading.Condition()
        self._accounts: dict[Claim, _Account] = {}
        self._unstored_bytes = 0
        self._num_sent = 0
        self._again: deque[_Parcel] = deque()
        self._failure: TagstreamError | None = None
        self._close_at_s: float | None = None
        self._ended = threading.Event()
        self._producer = open_client(Producer, producer_config(settings))

    def run(self) -> None:
        """Serves deliveries until closed. Raises TagstreamError when it cannot store."""
        try:
            while not self._is_over():
                self._producer.poll(_POLL_S)
                if self._failure:
                    raise self._failure
                self._send_again()
        finally:
            self._shut()

    def put(self, claim: Claim, records: Sequence[Record], *, done: bool) -> None:
        """Sends the records; `done` says that they are the upload's last. Blocks while too much is unstored.

        Raises PermanentError when Kafka refuses a record of this upload for good, Abandoned once closed.
        """
        with self._changed:
            self._wait_for_room(sum(record.size_bytes for record in records))
            account = self._accounts.setdefault(claim, _Account(claim))
            if account.refusal:
                del self._accounts[claim]
                raise account.refusal
            try:
                for record in records:
                    self._accept(_Parcel(record, account))
                account.done = done
            finally:
                self._conclude(account)

    def close(self, deadline_s: float) -> bool:
        """Takes no more, and waits so long for what is on its way; True if all of it was stored."""
        with self._changed:
            self._close_at_s = time.monotonic() + deadline_s
            self._changed.notify_all()
        return self._ended.wait(deadline_s + 2 * _PURGE_S) and self._unstored_bytes == 0

    # --- with the lock held, from the workers ---

    def _wait_for_room(self, size_bytes: int) -> None:
        """What is to be sent again goes first. An entry larger than the limit waits to be the only one."""
        while self._close_at_s is None and (self._again or not self._fits(size_bytes)):
            self._changed.wait()
        if self._close_at_s is not None:
            raise Abandoned("the outbox is closed: the upload's next owner tags it again")

    def _fits(self, size_bytes: int) -> bool:
        return self._num_sent == 0 or self._unstored_bytes + size_bytes <= _MAX_UNSTORED_BYTES

    def _accept(self, parcel: _Parcel) -> None:
        try:
            self._send(parcel)
        except KafkaException as error:
            if error.args[0].code() in _REFUSED:
                raise _refusal(parcel.record, error.args[0]) from error
            raise _cannot_store(parcel.record, error.args[0]) from error
        parcel.account.unstored += 1
        self._unstored_bytes += parcel.record.size_bytes

    def _send(self, parcel: _Parcel) -> None:
        record = parcel.record
        self._producer.produce(
            record.topic,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            on_delivery=partial(self._answered, parcel),
        )
        self._num_sent += 1

    def _conclude(self, account: _Account) -> None:
        """Tells what has become of the upload, once that is known."""
        if account.refusal and account.done:
            account.done = False  # told once
            self._forget(account)
            self._on_refused(account.claim, account.refusal)
        elif account.unstored == 0 and not account.refusal:
            self._forget(account)
            if account.done:
                self._on_done(account.claim)

    def _forget(self, account: _Account) -> None:
        if self._accounts.get(account.claim) is account:
            del self._accounts[account.claim]

    # --- on the thread ---

    def _answered(self, parcel: _Parcel, error: KafkaError | None, _: Message) -> None:
        """Called by librdkafka from within `poll`, once for each record."""
        with self._changed:
            self._num_sent -= 1
            if error is None:
                self._settle(parcel, None)
                metrics.events_published.labels(type=parcel.record.event_type).inc()
            elif error.code() in _REFUSED and parcel.alone:
                self._settle(parcel, _refusal(parcel.record, error))
            elif error.code() in _REFUSED:
                self._again.append(replace(parcel, alone=True))
            elif error.code() not in _PURGED:
                self._failure = self._failure or _cannot_store(parcel.record, error)
            self._changed.notify_all()

    def _settle(self, parcel: _Parcel, refusal: PermanentError | None) -> None:
        if parcel.alone:
            self._again.popleft()
        self._unstored_bytes -= parcel.record.size_bytes
        parcel.account.unstored -= 1
        parcel.account.refusal = parcel.account.refusal or refusal
        self._conclude(parcel.account)

    def _send_again(self) -> None:
        """Kafka refuses a batch as a whole: only a record that travels alone is itself at fault."""
        with self._changed:
            if self._again and self._num_sent == 0:
                self._send(self._again[0])

    def _is_over(self) -> bool:
        if self._close_at_s is None:
            return False
        return (self._num_sent == 0 and not self._again) or time.monotonic() >= self._close_at_s

    def _shut(self) -> None:
        with self._changed:
            self._close_at_s = time.monotonic()
            self._changed.notify_all()
        try:
            self._producer.purge()
            self._producer.flush(_PURGE_S)
            self._producer.close()
        finally:
            self._ended.set()


def _refusal(record: Record, error: KafkaError) -> PermanentError:
    return PermanentError(
        "result_refused",
        f"Kafka refuses a record of {record.size_bytes} bytes for topic {record.topic!r}: {error.str()}",
        stage=STAGE,
    )


def _cannot_store(record: Record, error: KafkaError) -> TagstreamError:
    return TagstreamError(f"cannot store events: {topic_trouble(record.topic, error)}")
