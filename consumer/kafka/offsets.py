"""Which offsets may be committed, when records are finished in any order. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to finish one record. It ends with its epoch: when the partition is taken away."""

    partition: int
    offset: int
    epoch: int


@dataclass(slots=True)
class _Assigned:
    epoch: int
    end: int | None = None
    """One past the last record received."""
    committed: int | None = None
    unfinished: dict[int, Claim] = field(default_factory=dict)
    """By rising offset, as they came."""

    @property
    def first_unfinished(self) -> int | None:
        return next(iter(self.unfinished), self.end)


class OffsetTracker:
    """What one consumer has in work.

    The committable offset of a partition is that of its first unfinished record: everything before it is
    finished. Offsets rise but may have holes (compaction, transaction markers).
    """

    def __init__(self) -> None:
        self._assigned: dict[int, _Assigned] = {}
        self._epoch = 0

    @property
    def partitions(self) -> tuple[int, ...]:
        return tuple(self._assigned)

    def assign(self, partition: int) -> int:
        """Starts an epoch of the partition, and forgets what was known of it."""
        self._epoch += 1
        self._assigned[partition] = _Assigned(self._epoch)
        return self._epoch

    def revoke(self, partition: int) -> None:
        """Ends the partition's epoch: what is in work there is no longer ours to finish."""
        del self._assigned[partition]

    def follows(self, partition: int, offset: int) -> bool:
        """Whether `offset` lies past everything received: if not, the log was cut or made anew."""
        end = self._assigned[partition].end
        return end is None or offset >= end

    def add(self, partition: int, offset: int) -> Claim:
        """Takes a record into work. Offsets must rise (ValueError)."""
        assigned = self._assigned[partition]
        if not self.follows(partition, offset):
            raise ValueError(f"offset {offset} of partition {partition} comes after {assigned.end}")
        if assigned.end is None:
            assigned.committed = offset  # where we were told to start
        claim = Claim(partition, offset, assigned.epoch)
        assigned.unfinished[offset] = claim
        assigned.end = offset + 1
        return claim

    def done(self, claim: Claim) -> bool:
        """Marks a record finished; False when that comes too late, its epoch being over.

        Finishing a record twice is a mistake (ValueError).
        """
        assigned = self._assigned.get(claim.partition)
        if assigned is None or assigned.epoch != claim.epoch:
            return False
        if assigned.unfinished.pop(claim.offset, None) is None:
            raise ValueError(f"{claim} was finished before")
        return True

    def committable(self) -> dict[int, int]:
        """The next offset to read, by partition, where it differs from what is committed."""
        offsets: dict[int, int] = {}
        for partition, assigned in self._assigned.items():
            first = assigned.first_unfinished
            if first is not None and first != assigned.committed:
                offsets[partition] = first
        return offsets

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Notes what the broker has stored; partitions that are no longer ours are passed over."""
        for partition, offset in offsets.items():
            if partition in self._assigned:
                self._assigned[partition].committed = offset

    def first_unfinished(self, partition: int) -> int | None:
        """Where a new owner would have to start; None while nothing was received."""
        return self._assigned[partition].first_unfinished

    def oldest(self, partition: int) -> Claim | None:
        """The record that has been in work longest."""
        return next(iter(self._assigned[partition].unfinished.values()), None)

    def gap(self, partition: int) -> int:
        """Offsets from the first unfinished record to the last received: what a crash now would repeat."""
        assigned = self._assigned[partition]
        if assigned.end is None or assigned.first_unfinished is None:
            return 0
        return assigned.end - assigned.first_unfinished
