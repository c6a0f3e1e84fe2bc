"""Which offsets may be committed, when records are finished in any order. Pure but for a lock."""

import base64
import binascii
import threading
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Partition(NamedTuple):
    """A partition of an input topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to finish one record. It ends with its epoch: when the partition is taken away."""

    partition: Partition
    offset: int
    epoch: int


class Position(NamedTuple):
    """Where a new owner of a partition has to start: the next offset to read, and the offsets past it that are
    finished all the same."""

    offset: int
    finished: tuple[int, ...] = ()

    def metadata(self, token: str = "") -> str:
        """What is committed beside the offset: this position, and a name for the commit itself.

        A map of bits, as in parallel-consumer; brokers keep 4,096 characters (`offset.metadata.max.bytes`).
        """
        noted = [offset - self.offset for offset in self.finished if offset - self.offset <= MAX_GAP]
        bits = bytearray((noted[-1] >> 3) + 1 if noted else 0)
        for at in noted:
            bits[at >> 3] |= 1 << (at & 7)
        packed = base64.b64encode(zlib.compress(bits)).decode() if bits else ""
        return f"{_FORMAT}:{token}:{self.offset}:{packed}"

    @classmethod
    def read(cls, metadata: str) -> "Position | None":
        """The position in the metadata; None for what others wrote there."""
        try:
            form, _, offset, packed = metadata.split(":")
            bits = zlib.decompressobj().decompress(base64.b64decode(packed), (MAX_GAP >> 3) + 1) if packed else b""
            first = int(offset)
        except (ValueError, binascii.Error, zlib.error):
            return None
        finished = (first + 8 * at + bit for at, byte in enumerate(bits) for bit in _set_bits(byte))
        return cls(first, tuple(finished)) if form == _FORMAT else None


def token_of(metadata: str) -> str:
    """The name of the commit that wrote the metadata; empty for what others wrote."""
    parts = metadata.split(":")
    return parts[1] if len(parts) == 4 and parts[0] == _FORMAT else ""


_FORMAT = "1"
MAX_GAP = 20_000
"""Offsets past the first unfinished one up to which records are taken, and noted as finished: a bit of each fits into
the metadata."""


def _set_bits(byte: int) -> Iterable[int]:
    return (bit for bit in range(8) if byte >> bit & 1)


@dataclass(slots=True)
class _Assigned:
    epoch: int
    end: int | None = None
    """One past the last record received."""
    committed: Position | None = None
    unfinished: dict[int, Claim] = field(default_factory=dict)
    """By rising offset, as they came."""
    finished: dict[int, None] = field(default_factory=dict)
    """Those past the first unfinished one."""

    def forget_passed(self) -> None:
        first = next(iter(self.unfinished), self.end)
        for offset in [offset for offset in self.finished if first is not None and offset < first]:
            del self.finished[offset]

    def position(self, finishing: Collection[int] = ()) -> Position | None:
        """Where to start once `finishing` are finished too."""
        first = next((offset for offset in self.unfinished if offset not in finishing), self.end)
        if first is None:
            return None
        while first in self.finished:  # by the owner before, and not received yet
            first += 1
        return Position(first, tuple(sorted(offset for offset in (*self.finished, *finishing) if offset > first)))


class OffsetTracker:
    """What one consumer has in work. Safe for use by several threads.

    The committable offset of a partition is that of its first unfinished record: everything before it is
    finished. Offsets rise but may have holes (compaction, transaction markers).
    """

    def __init__(self) -> None:
        self._assigned: dict[Partition, _Assigned] = {}
        self._epoch = 0
        self._lock = threading.Lock()

    @property
    def partitions(self) -> tuple[Partition, ...]:
        with self._lock:
            return tuple(self._assigned)

    @property
    def num_unfinished(self) -> int:
        with self._lock:
            return sum(len(assigned.unfinished) for assigned in self._assigned.values())

    def assign(self, partition: Partition) -> int:
        """Starts an epoch of the partition, and forgets what was known of it."""
        with self._lock:
            self._epoch += 1
            self._assigned[partition] = _Assigned(self._epoch)
            return self._epoch

    def restore(self, partition: Partition, position: Position) -> None:
        """What the owner before has finished past the offset where we start."""
        with self._lock:
            assigned = self._assigned[partition]
            assigned.committed = position
            assigned.finished = dict.fromkeys(position.finished)

    def revoke(self, partition: Partition) -> None:
        """Ends the partition's epoch: what is in work there is no longer ours to finish."""
        with self._lock:
            del self._assigned[partition]

    def epoch(self, partition: Partition) -> int | None:
        """None where the partition is not ours."""
        with self._lock:
            assigned = self._assigned.get(partition)
            return None if assigned is None else assigned.epoch

    def follows(self, partition: Partition, offset: int) -> bool:
        """Whether `offset` lies past everything received: if not, the log was cut or made anew."""
        with self._lock:
            end = self._assigned[partition].end
            return end is None or offset >= end

    def add(self, partition: Partition, offset: int) -> Claim | None:
        """Takes a record into work; None if the owner before has finished it. Offsets must rise (ValueError)."""
        with self._lock:
            assigned = self._assigned[partition]
            if assigned.end is not None and offset < assigned.end:
                raise ValueError(f"offset {offset} of {partition} comes after {assigned.end}")
            if assigned.end is None and assigned.committed is None:
                assigned.committed = Position(offset)  # where we were told to start
            assigned.end = offset + 1
            if offset in assigned.finished:
                if not assigned.unfinished:
                    del assigned.finished[offset]
                return None
            claim = Claim(partition, offset, assigned.epoch)
            assigned.unfinished[offset] = claim
            return claim

    def done(self, claim: Claim) -> bool:
        """Marks a record finished; False when that comes too late, its epoch being over.

        Finishing a record twice is a mistake (ValueError).
        """
        with self._lock:
            assigned = self._holder(claim)
            if assigned is None:
                return False
            if claim.offset not in assigned.unfinished:
                raise ValueError(f"{claim} was finished before")
            was_first = claim.offset == next(iter(assigned.unfinished))
            del assigned.unfinished[claim.offset]
            assigned.finished[claim.offset] = None
            if was_first:
                assigned.forget_passed()
            return True

    def stand(
        self, claims: Collection[Claim], finishing: Collection[Claim]
    ) -> tuple[set[Claim], dict[Partition, Position]]:
        """Which of the claims last, and where new owners of their partitions would have to start once those of
        `finishing` that last are finished. Both at one moment."""
        with self._lock:
            lasting = {claim for claim in claims if self._holder(claim) is not None}
            offsets: dict[Partition, set[int]] = {claim.partition: set() for claim in lasting}
            for claim in lasting.intersection(finishing):
                offsets[claim.partition].add(claim.offset)
            positions = {partition: self._assigned[partition].position(done) for partition, done in offsets.items()}
        return lasting, {partition: position for partition, position in positions.items() if position}

    def committable(self) -> dict[Partition, Position]:
        """The position of each partition where it differs from what is committed."""
        with self._lock:
            positions = {partition: (a.position(), a.committed) for partition, a in self._assigned.items()}
        return {
            partition: position
            for partition, (position, before) in positions.items()
            if position and position != before
        }

    def committed(self, positions: Mapping[Partition, Position]) -> None:
        """Notes what the broker has stored; partitions that are no longer ours are passed over."""
        with self._lock:
            for partition, position in positions.items():
                if partition in self._assigned:
                    self._assigned[partition].committed = position

    def first_unfinished(self, partition: Partition) -> int | None:
        """Where a new owner would have to start; None while nothing was received."""
        with self._lock:
            position = self._assigned[partition].position()
        return position and position.offset

    def oldest(self, partition: Partition) -> Claim | None:
        """The record that has been in work longest."""
        with self._lock:
            return next(iter(self._assigned[partition].unfinished.values()), None)

    def gap(self, partition: Partition) -> int:
        """Offsets from the first unfinished record to the last received."""
        with self._lock:
            assigned = self._assigned[partition]
            return 0 if assigned.end is None else assigned.end - next(iter(assigned.unfinished), assigned.end)

    def _holder(self, claim: Claim) -> _Assigned | None:
        assigned = self._assigned.get(claim.partition)
        return assigned if assigned is not None and assigned.epoch == claim.epoch else None
