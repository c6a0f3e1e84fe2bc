"""The input records in the house. Pure: no Kafka, no thread."""

from collections import deque
from collections.abc import Iterator

from consumer.kafka.offsets import Claim, OffsetTracker
from consumer.kafka.records import Job

_MAX_HELD = 32
_MIN_HELD = 8


class Jobs:
    """At most `capacity` jobs at work, and some held, so that a free worker need not wait for a fetch."""

    def __init__(self, capacity: int) -> None:
        self.offsets = OffsetTracker()
        self._capacity = capacity
        self._jobs: dict[Claim, Job] = {}
        self._held: deque[Job] = deque()
        self._open = True

    @property
    def num_at_work(self) -> int:
        return len(self._jobs) - len(self._held)

    @property
    def is_full(self) -> bool:
        """Time to pause the partitions."""
        return not self._open or len(self._held) >= _MAX_HELD

    @property
    def is_hungry(self) -> bool:
        """Time to resume them. Not at once: a pause throws away what was fetched, and costs another fetch."""
        return self._open and len(self._held) <= _MIN_HELD

    def stop_taking(self) -> None:
        """Nothing more is begun."""
        self._open = False

    def hold(self, job: Job) -> None:
        self._jobs[job.claim] = job
        self._held.append(job)

    def begin(self) -> Iterator[Job]:
        """Those held, oldest first, while there is room; records with one key one after the other, so that the events
        of two uploads of one video do not mix, and the newer one's are the last."""
        while self._open and self.num_at_work < self._capacity and (job := self._next()):
            self._held.remove(job)
            yield job

    def _next(self) -> Job | None:
        held = {job.claim for job in self._held}
        busy = {_lane(job) for job in self._jobs.values() if job.key and job.claim not in held}
        return next((job for job in self._held if _lane(job) not in busy), None)

    def finish(self, claim: Claim) -> bool:
        """False if the claim is over: its result does not count."""
        self._jobs.pop(claim, None)
        return self.offsets.done(claim)

    def abandon(self, partition: int) -> None:
        """The partition is taken away: its jobs are cancelled, and what they still bring is too late."""
        self.offsets.revoke(partition)
        for job in [job for job in self._jobs.values() if job.claim.partition == partition]:
            job.cancelled.set()
            del self._jobs[job.claim]
        self._held = deque(job for job in self._held if job.claim.partition != partition)

    def give_back(self) -> int:
        """Cancels all that is unfinished, and says how many that were."""
        for job in self._jobs.values():
            job.cancelled.set()
        given_back = len(self._jobs)
        self._jobs.clear()
        self._held.clear()
        return given_back

    def oldest(self, partition: int) -> Job | None:
        """The job of the partition that came first."""
        claim = self.offsets.oldest(partition)
        return None if claim is None else self._jobs.get(claim)


def _lane(job: Job) -> tuple[int, bytes | None]:
    return job.claim.partition, job.key
