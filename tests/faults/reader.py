"""Reads what the product has published, as its users do: committed records only, with the time when each came."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from consumer.checkpoint import Checkpoint
from consumer.kafka.client import quiet_logger
from consumer.settings import KafkaSettings
from tests.faults.stand_ins import version_of

Kind = Literal["tags", "case", "letter", "progress"]
Place = tuple[str, int, int]
"""Topic, partition and offset of a record."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A committed record: of an event its id and what names it; of progress the next window to work on. `of`
    is the partition and offset of a dead letter's upload. `at_s` is monotonic."""

    kind: Kind
    id: str
    video: str
    version: str | None
    place: Place
    at_s: float
    revision: int = 0
    stage: str = ""
    supersedes: str | None = None
    reason: str = ""
    of: tuple[int, int] | None = None
    next_window: int = 0


class Reader:
    """Reads all the output topics from their beginning, on a thread, while its `with` block lasts."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._seen: list[Seen] = []
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="reader")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    @property
    def seen(self) -> list[Seen]:
        """So far, each partition's in order."""
        if self._failure is not None:
            raise self._failure
        return list(self._seen)

    def _run(self) -> None:
        try:
            with closing(_open(self._settings)) as consumer:
                while not self._stop.is_set():
                    self._take(consumer.poll(0.1))
        except BaseException as error:  # raised where the drill asks
            self._failure = error

    def _take(self, message: Message | None) -> None:
        if message is not None and not message.error() and (seen := _read(message, self._settings)):
            self._seen.append(seen)


def read_all(settings: KafkaSettings, within_s: float = 60.0) -> list[Seen]:
    """All that is committed by now. Raises TimeoutError where a transaction stays open and hides the rest."""
    found: list[Seen] = []
    until_s = time.monotonic() + within_s
    with closing(_open(settings)) as consumer:
        ends = _ends(settings, consumer.assignment())
        at = dict.fromkeys(ends, 0)
        while any(at[partition] < end for partition, end in ends.items()):
            if time.monotonic() > until_s:
                raise TimeoutError(f"not readable to its end: {[p for p, end in ends.items() if at[p] < end]}")
            message = consumer.poll(0.1)
            if message is None:
                continue
            if not message.error():
                found += filter(None, [_read(message, settings)])
                at[message.topic(), message.partition()] = message.offset() + 1
            elif message.error().code() == KafkaError._PARTITION_EOF:  # past the markers of transactions
                at[message.topic(), message.partition()] = message.offset()
    return found


def _open(settings: KafkaSettings) -> Any:
    """A consumer without a group, at the beginning of every output topic."""
    config = {
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": "reader",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "reconnect.backoff.max.ms": 500,
        "fetch.wait.max.ms": 50,
        "logger": quiet_logger(),
    }
    consumer = Consumer(config)
    partitions = [
        TopicPartition(topic, partition, OFFSET_BEGINNING)
        for topic in _kinds(settings)
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions
    ]
    consumer.assign(partitions)
    return consumer


def _ends(settings: KafkaSettings, partitions: Sequence[TopicPartition]) -> dict[tuple[str, int], int]:
    """Where the logs end, with what is not committed yet."""
    config = {"bootstrap.servers": settings.bootstrap_servers, "group.id": "reader"}
    with closing(Consumer(config | {"isolation.level": "read_uncommitted"})) as consumer:
        return {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=10)[1] for p in partitions}


def _kinds(settings: KafkaSettings) -> dict[str, Kind]:
    return {
        settings.tags_topic: "tags",
        settings.cases_topic: "case",
        settings.dead_letter_topic: "letter",
        settings.progress_topic: "progress",
    }


def _read(message: Message, settings: KafkaSettings) -> Seen | None:
    """None for a tombstone."""
    at_s, value = time.monotonic(), message.value()
    if value is None:
        return None
    place = message.topic(), message.partition(), message.offset()
    return _READ[_kinds(settings)[message.topic()]](message.key().decode(), value, place, at_s)


def _tags(key: str, value: bytes, place: Place, at_s: float) -> Seen:
    event = json.loads(value)
    video, status = event["data"]["video"], event["data"]["status"]
    return Seen(
        "tags",
        event["id"],
        video["id"],
        video["content_version"],
        place,
        at_s,
        revision=status["revision"],
        stage=status["stage"],
        supersedes=status["supersedes"],
    )


def _case(key: str, value: bytes, place: Place, at_s: float) -> Seen:
    event = json.loads(value)
    video = event["data"]["video"]
    return Seen("case", event["id"], video["id"], video["content_version"], place, at_s)


def _letter(key: str, value: bytes, place: Place, at_s: float) -> Seen:
    event = json.loads(value)
    data = event["data"]
    of = data["original"]["partition"], data["original"]["offset"]
    version = version_of(data["uri"] or "")
    return Seen("letter", event["id"], data["video_id"] or "", version, place, at_s, reason=data["reason"], of=of)


def _progress(key: str, value: bytes, place: Place, at_s: float) -> Seen | None:
    """None for what is no entry of work."""
    if not value.startswith(b"{"):
        return None
    entry = json.loads(value)
    checkpoint = entry.get("checkpoint")
    next_window = Checkpoint.from_json(checkpoint).next_window if checkpoint else 0
    return Seen("progress", key, entry["video"], entry.get("version"), place, at_s, next_window=next_window)


_READ: dict[Kind, Callable[[str, bytes, Place, float], Seen | None]] = {
    "tags": _tags,
    "case": _case,
    "letter": _letter,
    "progress": _progress,
}
