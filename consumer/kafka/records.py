"""What comes in from Kafka and what goes out to it, as plain values."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from consumer.kafka.ledger import Ledger
from consumer.kafka.offsets import Claim

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One input record in work, as it came, and what is known of the uploads of its partition.

    `timestamp_ms` and `not_before_ms` are Unix time, `received_at_s` is ours (monotonic). Once `leaving` is set: stop
    after the window in hand. Once `cancelled` is set the record is no longer ours: stop, publish nothing.
    """

    claim: Claim
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None
    received_at_s: float
    ledger: Ledger
    not_before_ms: int = 0
    leaving: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def header(self, name: str) -> str | None:
        """The last header of that name, as text."""
        return next((_text(value) for key, value in reversed(self.headers) if key == name), None)


@dataclass(frozen=True, slots=True)
class Record:
    """One output record; without a `partition` the key decides. `event_type` is the CloudEvents type that it is counted
    under; None for what is no event."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    event_type: str | None = None
    partition: int | None = None

    @property
    def size_bytes(self) -> int:
        carried = (self.key, self.value, *(value for _, value in self.headers))
        return sum(len(part or b"") for part in carried)


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
