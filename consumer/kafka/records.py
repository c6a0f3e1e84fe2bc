"""What comes in from Kafka and what goes out to it, as plain values."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from consumer.kafka.offsets import Claim

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One input record in work, as it came.

    `timestamp_ms` is the record's own (Unix time), `received_at_s` is ours (monotonic). Once `cancelled` is
    set the record is no longer ours: stop, publish nothing.
    """

    claim: Claim
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None
    received_at_s: float
    cancelled: threading.Event


@dataclass(frozen=True, slots=True)
class Record:
    """One output record; `event_type` is the CloudEvents type that it is counted under."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    event_type: str

    @property
    def size_bytes(self) -> int:
        carried = (self.key, self.value, *(value for _, value in self.headers))
        return sum(len(part or b"") for part in carried)
