"""What is in the dead-letter topic."""

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from consumer.kafka.reader import TopicReader
from consumer.kafka.records import Headers
from schemas import DeadLetterEvent, explain

log = logging.getLogger(__name__)

_CLOCKS_APART_MS = 60_000
"""Letters of several consumers stand in the order in which they were stored: by their times, only roughly."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: those to which all that is given applies.

    Times are Unix time, of the letter's record: from `since_ms` on, before `until_ms`.
    """

    reasons: frozenset[str] = frozenset()
    stage: str | None = None
    video: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def covers(self, timestamp_ms: int) -> bool:
        after_start = self.since_ms is None or timestamp_ms >= self.since_ms
        return after_start and (self.until_ms is None or timestamp_ms < self.until_ms)

    def takes(self, event: DeadLetterEvent) -> bool:
        letter = event.data
        return (
            (not self.reasons or letter.reason in self.reasons)
            and self.stage in (None, letter.stage)
            and self.video in (None, letter.video_id)
        )


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and its record as it came; `timestamp_ms` is the record's (Unix time)."""

    event: DeadLetterEvent
    timestamp_ms: int
    key: bytes | None
    headers: Headers


def read_letters(reader: TopicReader, topic: str, selection: Selection) -> Iterator[Letter]:
    """The letters that are there now, oldest first; a few of each partition are in memory at a time.

    What is no readable dead letter is left out with a warning. Raises TagstreamError.
    """
    partitions = {partition: _offsets(reader, topic, partition, selection) for partition in reader.partitions(topic)}
    return heapq.merge(
        *(_letters(reader, topic, partition, offsets, selection) for partition, offsets in partitions.items()),
        key=lambda letter: letter.timestamp_ms,
    )


def _offsets(reader: TopicReader, topic: str, partition: int, selection: Selection) -> range:
    """Those between which all selected letters are."""
    bounds = reader.bounds(topic, partition)
    start: int | None = bounds.start
    stop: int | None = None
    if bounds and selection.since_ms is not None:
        start = reader.offset_at(topic, partition, selection.since_ms)
    if bounds and selection.until_ms is not None:
        stop = reader.offset_at(topic, partition, selection.until_ms + _CLOCKS_APART_MS)
    return range(bounds.stop if start is None else start, bounds.stop if stop is None else stop)


def _letters(reader: TopicReader, topic: str, partition: int, offsets: range, selection: Selection) -> Iterator[Letter]:
    while offsets:
        messages, offsets = reader.chunk(topic, partition, offsets)
        for message in messages:
            if not selection.covers(message.timestamp()[1]):
                continue
            letter = _letter(message)
            if letter is not None and selection.takes(letter.event):
                yield letter


def _letter(message: Any) -> Letter | None:
    try:
        event = DeadLetterEvent.model_validate_json(message.value() or b"")
    except ValidationError as error:
        place = f"{message.topic()}/{message.partition()}@{message.offset()}"
        # Quoted: the explanation holds what a stranger may have written.
        log.warning("left out %s, which is no dead letter: %r", place, explain(error)[:200])
        return None
    return Letter(event, message.timestamp()[1], message.key(), message.headers() or [])
