"""`tagstream dlq`: look at dead letters, and try their uploads again."""

import argparse
import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime

from consumer.display import out, plain
from consumer.errors import SettingsError
from consumer.kafka.dead_letters import Letter, Selection, read_letters
from consumer.kafka.reader import TopicReader
from consumer.kafka.redrives import Redrive, plan_redrives, send
from consumer.settings import KafkaSettings

_LEFT_OUT = -1


def list_letters(kafka: KafkaSettings, options: argparse.Namespace) -> int:
    """Prints the letters that `options` select, then how many there are by reason. Returns the exit code."""
    reasons: Counter[str] = Counter()
    selection = _selection(options)
    with closing(TopicReader(kafka)) as reader:
        for letter in read_letters(reader, kafka.dead_letter_topic, selection):
            reasons[letter.event.data.reason] += 1
            # All but ASCII is escaped: nothing in it is a terminal's command.
            out(json.dumps(letter.event.model_dump(mode="json")) if options.json else _line(letter))
    if not options.json:
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        out(f"{reasons.total()} dead letters{': ' if counts else ''}{counts}")
    return 0


def redrive_letters(kafka: KafkaSettings, options: argparse.Namespace) -> int:
    """Prints the letters that `options` select, and sends them if told to. Returns the exit code."""
    counts: Counter[int] = Counter()
    selection = _selection(options)
    with closing(TopicReader(kafka)) as reader:
        letters = read_letters(reader, kafka.dead_letter_topic, selection)
        plan = plan_redrives(reader, kafka.retry_topic, letters, time.time_ns() // 1_000_000)
        redrives = _shown(plan, counts)
        if options.send:
            send(kafka, redrives)
        else:
            deque(redrives, maxlen=0)
    num_left_out = counts.pop(_LEFT_OUT, 0)
    places = "".join(f", {count} to partition {partition}" for partition, count in sorted(counts.items()))
    done = "sent" if options.send else "would be sent"
    then = "; --send sends them" if counts and not options.send else ""
    out(f"{counts.total()} dead letters {done} to {kafka.retry_topic}{places}, {num_left_out} left out{then}")
    return 1 if num_left_out else 0


def _selection(options: argparse.Namespace) -> Selection:
    if options.since is not None and options.until is not None and options.since >= options.until:
        raise SettingsError("--since must be before --until")
    return Selection(frozenset(options.reason), options.stage, options.video, options.since, options.until)


def _shown(plan: Iterable[tuple[Letter, Redrive | None]], counts: Counter[int]) -> Iterator[Redrive]:
    """Prints each letter, and counts it by partition."""
    for letter, redrive in plan:
        out(_line(letter))
        counts[redrive.partition if redrive else _LEFT_OUT] += 1
        if redrive:
            yield redrive


def _line(letter: Letter) -> str:
    data, original = letter.event.data, letter.event.data.original
    stored_at = datetime.fromtimestamp(letter.timestamp_ms // 1000, UTC)
    cells = (
        stored_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        data.reason,
        data.stage,
        f"attempt {data.attempt}",
        data.video_id or "-",
        f"{original.topic}/{original.partition}@{original.offset}",
        data.message,
    )
    return plain("  ".join(cells))
