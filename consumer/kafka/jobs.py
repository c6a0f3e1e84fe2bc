"""The input records in the house. Pure: no Kafka, no thread."""

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from consumer.kafka.offsets import MAX_GAP, Claim, OffsetTracker, Partition
from consumer.kafka.records import Job

# Many, since a pause throws away what was fetched ahead, and costs about half a second; records are short.
_MAX_HELD, _MAX_HELD_BYTES = 1000, 16 << 20
_MIN_HELD = 250
_MAX_WAITING, _MAX_WAITING_BYTES = 1000, 64 << 20


class Jobs:
    """At most `capacity` jobs at work, some held, so that a free worker need not wait for a fetch, and some that wait
    until their time has come."""

    def __init__(self, capacity: int, offsets: OffsetTracker) -> None:
        self.offsets = offsets
        self._capacity = capacity
        self._at_work: dict[Claim, Job] = {}
        self._held: deque[Job] = deque()
        self._waiting: list[tuple[int, int, Job]] = []  # a heap by time
        self._num_waited = 0
        self._open = True

    @property
    def num_at_work(self) -> int:
        return len(self._at_work)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Time to pause the partitions."""
        return not self._open or len(self._held) >= _MAX_HELD or _size_bytes(self._held) >= _MAX_HELD_BYTES

    @property
    def is_hungry(self) -> bool:
        """Time to resume them. Not at once: a pause throws away what was fetched, and costs another fetch."""
        return self._open and len(self._held) <= _MIN_HELD and _size_bytes(self._held) < _MAX_HELD_BYTES

    @property
    def is_waiting_room_full(self) -> bool:
        """Time to pause the partitions that bring what has to wait."""
        size_bytes = _size_bytes(job for _, _, job in self._waiting)
        return len(self._waiting) >= _MAX_WAITING or size_bytes >= _MAX_WAITING_BYTES

    def is_stretched(self, partition: Partition) -> bool:
        """Whether so much was taken past its first unfinished record that a commit could not note any more."""
        return self.offsets.gap(partition) >= MAX_GAP

    def stop_taking(self) -> None:
        """Nothing more is begun; what is at work stops after the window in hand."""
        self._open = False
        for job in self._at_work.values():
            job.leaving.set()

    def hold(self, job: Job, now_ms: int) -> None:
        if job.not_before_ms > now_ms:
            self._num_waited += 1
            heapq.heappush(self._waiting, (job.not_before_ms, self._num_waited, job))
        else:
            self._held.append(job)

    def begin(self, now_ms: int) -> Iterator[Job]:
        """Those held, oldest first, while there is room; records with one key one after the other, so that the events
        of two uploads of one video do not mix, and the newer one's are the last."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            self._held.append(heapq.heappop(self._waiting)[-1])
        while self._open and self.num_at_work < self._capacity and (job := self._next()):
            self._held.remove(job)
            self._at_work[job.claim] = job
            yield job

    def _next(self) -> Job | None:
        busy = {_lane(job) for job in self._at_work.values() if job.key}
        return next((job for job in self._held if _lane(job) not in busy), None)

    def end(self, claim: Claim) -> None:
        """The job is no longer at work, finished or not."""
        self._at_work.pop(claim, None)

    def cancel(self, partitions: Collection[Partition]) -> None:
        """The partitions are about to be taken away: their jobs stop."""
        for job in self._at_work.values():
            if job.claim.partition in partitions:
                job.cancelled.set()

    def abandon(self, partition: Partition) -> None:
        """The partition is taken away: its jobs are cancelled, and what they still bring is too late."""
        self.cancel([partition])
        self.offsets.revoke(partition)
        self._at_work = {claim: job for claim, job in self._at_work.items() if claim.partition != partition}
        self._held = deque(job for job in self._held if job.claim.partition != partition)
        self._waiting = [item for item in self._waiting if item[-1].claim.partition != partition]
        heapq.heapify(self._waiting)

    def age_s(self, partition: Partition, now_s: float) -> float:
        """How long the oldest unfinished record of the partition has been in the house; `now_s` is monotonic."""
        claim = self.offsets.oldest(partition)
        here = (*self._at_work.values(), *self._held)
        return max((now_s - job.received_at_s for job in here if job.claim == claim), default=0.0)


def _size_bytes(jobs: Iterable[Job]) -> int:
    return sum(len(job.value or b"") for job in jobs)


def _lane(job: Job) -> tuple[int, bytes | None]:
    return job.claim.partition.number, job.key
