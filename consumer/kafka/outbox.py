"""The only way out of the house: gathers results and stores them in batches, each with the offsets it finishes."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from consumer import metrics
from consumer.errors import Abandoned, PermanentError
from consumer.kafka.delivery import Batch, Delivery, NothingStored, Refused, refusal
from consumer.kafka.offsets import Claim, OffsetTracker
from consumer.kafka.records import Record
from consumer.settings import KafkaSettings

_MAX_UNSTORED_BYTES = 16 << 20
_MAX_BATCH_BYTES = 8 << 20
_AGAIN_S = 0.05
_SHUT_S = 20.0


@dataclass(slots=True, eq=False)
class _Entry:
    """What one `put` brought."""

    claim: Claim
    records: Sequence[Record]
    finishes: bool
    settled: threading.Event = field(default_factory=threading.Event)
    error: PermanentError | Abandoned | None = None

    @property
    def size_bytes(self) -> int:
        return sum(record.size_bytes for record in self.records)


class Outbox:
    """Stores an upload's results in the order of `put`, and each entry as a whole.

    `run` is the thread. Results of a partition that has been taken away are dropped. When Kafka refuses a record for
    good, the next call for its claim raises that, and what else was put for the claim is dropped.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        offsets: OffsetTracker,
        member: Callable[[], object],
        open_delivery: Callable[[KafkaSettings, Callable[[], bool]], Delivery],
        on_finished: Callable[[Claim], None],
    ) -> None:
        """`member` says who we are in the group; `on_finished` may not block."""
        self._interval_s = settings.commit_interval_s
        self._progress_topic = settings.progress_topic
        self._offsets = offsets
        self._member = member
        self._on_finished = on_finished
        self._changed = threading.Condition()
        self._queue: deque[_Entry] = deque()
        self._batch: list[_Entry] = []
        self._unstored_bytes = 0
        self._refused: dict[Claim, PermanentError] = {}
        self._next_at_s = 0.0
        self._hurried = False
        self._close_at_s: float | None = None
        self._ended = threading.Event()
        self._delivery = open_delivery(settings, self._is_late)

    def run(self) -> None:
        """Stores what is put until closed. Raises TagstreamError when it cannot store any more."""
        try:
            while self._take_batch():
                self._store(self._batch)
                self._forget_batch()
        except Abandoned:
            return  # closed before all was stored: `close` says so
        finally:
            self._shut()

    def put(self, claim: Claim, records: Sequence[Record]) -> None:
        """Goes with the next batch. Blocks while too much is unstored.

        Raises PermanentError when Kafka has refused a record of this claim for good, Abandoned once closed.
        """
        self._put(_Entry(claim, records, finishes=False))

    def store(self, claim: Claim, records: Sequence[Record]) -> None:
        """As `put`, and returns when these and all before are stored."""
        self._wait(self._put(_Entry(claim, records, finishes=False)))

    def finish(self, claim: Claim, records: Sequence[Record]) -> None:
        """As `store`, for the last ones of the claim: its offset is finished with them."""
        self._wait(self._put(_Entry(claim, records, finishes=True)))

    def flush(self, deadline_s: float, last_words: Sequence[tuple[Claim, Record]] = ()) -> bool:
        """Waits so long for what was put, and for last words, which need not wait for room; true if none is left."""
        with self._changed:
            for claim, record in last_words:
                self._enqueue(_Entry(claim, [record], finishes=False))
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._unstored_bytes == 0 or self._ended.is_set(), deadline_s)
            return self._unstored_bytes == 0

    def close(self, deadline_s: float) -> bool:
        """Takes no more, and waits so long for what is on its way; true if all of it was stored."""
        with self._changed:
            self._close_at_s = time.monotonic() + deadline_s
            self._changed.notify_all()
        return self._ended.wait(deadline_s + _SHUT_S) and self._unstored_bytes == 0

    # --- from the workers ---

    def _put(self, entry: _Entry) -> _Entry:
        with self._changed:
            self._changed.wait_for(lambda: self._close_at_s is not None or self._fits(entry))
            if self._close_at_s is not None:
                raise Abandoned("the outbox is closed: the upload's next owner goes on")
            if refused := self._refused.pop(entry.claim, None):
                raise refused
            self._enqueue(entry)
        return entry

    def _enqueue(self, entry: _Entry) -> None:
        self._queue.append(entry)
        self._unstored_bytes += entry.size_bytes + 1  # one without records is something to wait for, too
        self._changed.notify_all()

    def _fits(self, entry: _Entry) -> bool:
        """An entry larger than the limit waits to be the only one."""
        return self._unstored_bytes == 0 or self._unstored_bytes + entry.size_bytes <= _MAX_UNSTORED_BYTES

    def _wait(self, entry: _Entry) -> None:
        entry.settled.wait()
        if entry.error is not None:
            with self._changed:
                self._refused.pop(entry.claim, None)
            raise entry.error

    # --- on the thread ---

    def _take_batch(self) -> bool:
        """What is ready, at most once an interval; nothing once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._close_at_s is not None)
            self._changed.wait_for(
                lambda: self._hurried or self._close_at_s is not None, max(0.0, self._next_at_s - time.monotonic())
            )
            self._next_at_s = time.monotonic() + self._interval_s
            size_bytes = 0
            while self._queue and (not self._batch or size_bytes + self._queue[0].size_bytes <= _MAX_BATCH_BYTES):
                self._batch.append(self._queue.popleft())
                size_bytes += self._batch[-1].size_bytes
            return bool(self._batch)

    def _store(self, entries: list[_Entry]) -> None:
        while True:
            member = self._member()  # before it is asked what is ours: one of before a revocation is refused
            finishing = [entry.claim for entry in entries if entry.finishes and entry.error is None]
            lasting, positions = self._offsets.stand([entry.claim for entry in entries], finishing)
            entries = [entry for entry in entries if self._counts(entry, lasting)]
            if not entries:
                return
            try:
                self._delivery.store(Batch(self._records(entries), positions, member))
            except NothingStored:
                self._pause()
            except Refused as reason:
                if len(entries) > 1:  # a batch is refused as a whole: alone, an entry shows whether it is to blame
                    for entry in entries:
                        self._store([entry])
                else:
                    self._refuse(entries[0], refusal(reason))
                return
            else:
                self._settle(entries)
                return

    def _counts(self, entry: _Entry, lasting: Collection[Claim]) -> bool:
        """Whether the entry is to be stored. One that is not is settled."""
        if entry.error is None and entry.claim not in lasting:
            metrics.late_results_dropped.inc()
            entry.error = Abandoned("the partition was taken away before the result was stored")
        if entry.error is not None:
            entry.settled.set()
        return entry.error is None

    def _records(self, entries: Sequence[_Entry]) -> list[Record]:
        """The records of the entries; of the progress of one upload only the last."""
        records = [record for entry in entries for record in entry.records]
        last = {(record.partition, record.key): record for record in records if record.topic == self._progress_topic}
        return [
            record
            for record in records
            if record.topic != self._progress_topic or last[record.partition, record.key] is record
        ]

    def _settle(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            if entry.finishes:
                self._offsets.done(entry.claim)
                self._on_finished(entry.claim)
            for record in entry.records:
                if record.event_type:
                    metrics.events_published.labels(type=record.event_type).inc()
            entry.settled.set()

    def _refuse(self, refused: _Entry, error: PermanentError) -> None:
        with self._changed:
            self._refused[refused.claim] = error
            self._give_up(error, refused.claim)

    def _give_up(self, error: PermanentError | Abandoned, claim: Claim | None = None) -> None:
        for entry in (*self._batch, *self._queue):
            if not entry.settled.is_set() and claim in (None, entry.claim):
                entry.error = entry.error or error
                entry.settled.set()

    def _forget_batch(self) -> None:
        with self._changed:
            self._unstored_bytes -= sum(entry.size_bytes + 1 for entry in self._batch)
            self._batch.clear()
            self._hurried = self._hurried and self._unstored_bytes > 0
            self._changed.notify_all()

    def _pause(self) -> None:
        """Before another try: the poll thread has to hear what has become of our partitions."""
        with self._changed:
            self._changed.wait_for(self._is_late, _AGAIN_S)
        if self._is_late():
            raise Abandoned("the outbox closes before Kafka took what it holds")

    def _is_late(self) -> bool:
        return self._close_at_s is not None and time.monotonic() >= self._close_at_s

    def _shut(self) -> None:
        with self._changed:
            self._close_at_s = time.monotonic()
            self._give_up(Abandoned("the outbox closed before the result was stored"))
            self._changed.notify_all()
        try:
            self._delivery.close()
        finally:
            self._ended.set()
            with self._changed:
                self._changed.notify_all()
