"""What exactly-once costs beside at-least-once: tiny uploads on a real Kafka, with tools that take no time.

    python -m tests.benchmarks.delivery [--seconds 10]

The consumer is a process of its own on one core; uploads are sent, and tags read as users read them, from another.
"tagging" is the whole product around stand-ins for the models; "Kafka alone" answers each upload with one record, and
shows what the way in and out can carry. The broker is the one of the tests (`TAGSTREAM_TEST_BOOTSTRAP`, `KAFKA_HOME`).
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from consumer.display import out
from consumer.kafka.admin import create_topics
from consumer.kafka.client import client_config
from consumer.settings import KafkaSettings, Settings
from tests.faults.arena import Member, environment_of
from tests.faults.at_hand import broker_at_hand
from tests.faults.member import ROLE, Role
from tests.faults.workload import event, stand_in
from tests.real_kafka import kafka_settings

Work = Literal["tagging", "Kafka alone"]
Delivery = Literal["exactly_once", "at_least_once"]

DELIVERIES: tuple[Delivery, Delivery] = ("exactly_once", "at_least_once")
CASES: Sequence[tuple[Work, int]] = (("tagging", 1), ("tagging", 500), ("Kafka alone", 500))
HEADING = f"{'work':<12} {'sent/s':>6} {'exactly once':>34} {'at least once':>34} {'ratio':>15}\n" + (
    f"{'':<19} {'done/s':>10} {'CPU ms':>9} {'delay ms':>13} {'done/s':>10} {'CPU ms':>9} {'delay ms':>13}"
    f" {'done/s':>7} {'CPU':>7}"
)

_PARTITIONS = 6
_IN_FLIGHT = 200
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Measured:
    """Uploads finished per second, CPU time of the consumer for each, and the median time from sending to reading."""

    rate: float
    cpu_ms: float
    delay_ms: float

    @property
    def cells(self) -> str:
        return f"{self.rate:>10.1f} {self.cpu_ms:>9.2f} {self.delay_ms:>13.0f}"


def measure(bootstrap: str, work: Work, delivery: Delivery, rate: int, num_uploads: int) -> Measured:
    kafka = kafka_settings(bootstrap, delivery=delivery, group_protocol="consumer")
    create_topics(kafka, _PARTITIONS, 1)
    with _consumer(Settings(kafka=kafka, max_videos_in_flight=_IN_FLIGHT), work) as member, _Ends(kafka) as ends:
        ends.send(range(_PARTITIONS * 4), rate=100)  # until every partition is at work
        ends.receive()
        cpu_s, started_s = _cpu_s(member.pid), time.monotonic()
        ends.send(range(1_000_000, 1_000_000 + num_uploads), rate)
        ends.receive()
        took_s, cpu_s = time.monotonic() - started_s, _cpu_s(member.pid) - cpu_s
    return Measured(num_uploads / took_s, 1000 * cpu_s / num_uploads, 1000 * statistics.median(ends.delays_s))


class _Ends:
    """Where uploads are sent and tags are read; one record of tags for each upload."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._sent_s: dict[bytes, float] = {}
        self.delays_s: list[float] = []

    def __enter__(self) -> Self:
        config = client_config(self._kafka)
        reading = {"group.id": "reader", "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
        self._producer: Any = Producer(config | {"linger.ms": 2})
        self._reader: Any = Consumer(config | reading | {"enable.auto.commit": False})
        topic = self._kafka.tags_topic
        self._reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(_PARTITIONS)])
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._producer.close()

    def send(self, numbers: Sequence[int], rate: int) -> None:
        """At so many a second, and reads meanwhile."""
        self.delays_s = []
        started_s = time.monotonic()
        for at, number in enumerate(numbers):
            while (wait_s := started_s + at / rate - time.monotonic()) > 0:
                self._read(min(wait_s, 0.001))
            key = f"video-{number}".encode()
            value = event(stand_in(key.decode(), 1)).model_dump_json(exclude_none=True)
            self._sent_s[key] = time.monotonic()
            self._producer.produce(self._kafka.uploads_topic, key=key, value=value)
            self._producer.poll(0)

    def receive(self) -> None:
        """What is on its way."""
        until_s = time.monotonic() + _PATIENCE_S
        while self._sent_s:
            self._read(0.01)
            assert time.monotonic() < until_s, f"{len(self._sent_s)} uploads without tags"

    def _read(self, within_s: float) -> None:
        for message in self._reader.consume(500, within_s):
            if message.error() is None and (sent_s := self._sent_s.pop(message.key(), None)):
                self.delays_s.append(time.monotonic() - sent_s)


@contextmanager
def _consumer(settings: Settings, work: Work) -> Iterator[Member]:
    """On the first core; the others are for the rest."""
    first, *others = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        role = Role(None, untagged=work == "Kafka alone")
        environment = os.environ | environment_of(settings) | {ROLE: role.to_json()}
        os.sched_setaffinity(0, {first})
        member = Member("benchmark", environment, Path(folder) / "log")
        os.sched_setaffinity(0, {first, *others})
        try:
            yield member
            member.send(signal.SIGTERM)
            assert member.wait() == 0, member.said
        finally:
            if member.exit_code is None:
                member.kill()


def _cpu_s(pid: int) -> float:
    """User and system time of a process: proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="Exactly once beside at least once.")
    parser.add_argument("--seconds", type=int, default=10, help="how long uploads are sent for each figure (10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, broker_at_hand(Path(folder) / "broker") as bootstrap:
        out(f"{os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}; {_IN_FLIGHT} uploads in flight at most")
        out(HEADING)
        for work, rate in CASES:
            num_uploads = max(10, rate * options.seconds)
            once, least = (measure(bootstrap, work, delivery, rate, num_uploads) for delivery in DELIVERIES)
            ratios = f"{once.rate / least.rate:>6.2f}x {once.cpu_ms / least.cpu_ms:>6.2f}x"
            out(f"{work:<12} {rate:>6}{once.cells}{least.cells} {ratios}")


if __name__ == "__main__":
    main()
