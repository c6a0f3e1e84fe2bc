"""Dead letters are tried again: each becomes a record of the retry topic.

Not of the uploads topic, whose other readers must not see an upload twice.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from consumer.errors import TagstreamError
from consumer.kafka import headers
from consumer.kafka.client import open_client, producer_config, topic_trouble
from consumer.kafka.dead_letters import Letter
from consumer.kafka.reader import TopicReader
from consumer.kafka.records import Headers
from consumer.settings import KafkaSettings

log = logging.getLogger(__name__)

_STORE_S = 30.0
_KEPT = (
    headers.ORIG_TOPIC,
    headers.ORIG_PARTITION,
    headers.ORIG_OFFSET,
    headers.ORIG_TIMESTAMP,
    headers.GROUP,
    headers.STAGE,
    headers.REASON,
    headers.MESSAGE,
    headers.FIRST_FAILURE,
    headers.UPLOAD,
)


class Redrive(NamedTuple):
    """A record of the retry topic: the original key, value and headers, and the history in further headers."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def plan_redrives(
    reader: TopicReader, retry_topic: str, letters: Iterable[Letter], now_ms: int
) -> Iterator[tuple[Letter, Redrive | None]]:
    """What each letter becomes; None, with a warning, where the original record is nowhere to be found.

    Raises TagstreamError when the retry topic is missing or has too few partitions.
    """
    num_partitions = len(reader.partitions(retry_topic))
    for letter in letters:
        redrive = _redrive(reader, letter, now_ms)
        if redrive is not None and redrive.partition >= num_partitions:
            raise TagstreamError(
                f"topic {retry_topic!r} has {num_partitions} partitions, and a dead letter came from partition "
                f"{redrive.partition}: give the topic as many partitions as {letter.event.data.original.topic!r} has"
            )
        yield letter, redrive


def _redrive(reader: TopicReader, letter: Letter, now_ms: int) -> Redrive | None:
    given = dict(letter.headers)
    try:
        partition, offset = (_whole(given[name]) for name in (headers.ORIG_PARTITION, headers.ORIG_OFFSET))
        topic = (given[headers.ORIG_TOPIC] or b"").decode()
        history = _history(letter, now_ms)
    except (KeyError, ValueError) as error:
        log.warning("left out dead letter %r: a header is missing or unreadable: %r", letter.event.id, str(error))
        return None
    if headers.ORIG_VALUE in given:
        return Redrive(partition, letter.key, given[headers.ORIG_VALUE], [*_carried(letter.headers), *history])
    original = _original(reader, topic, partition, offset)
    if original is None or not _is_of(original, letter):
        place = f"{topic}/{partition}@{offset}"
        log.warning("left out dead letter %r: it has no value, and the upload is gone from %r", letter.event.id, place)
        return None
    return Redrive(partition, letter.key, original.value(), [*headers.foreign(original.headers() or []), *history])


def _whole(value: bytes | None) -> int:
    """A number from 0 on, else ValueError."""
    number = headers.number((value or b"").decode())
    if number is None:
        raise ValueError(f"{value!r} is no whole number")
    return number


def _history(letter: Letter, now_ms: int) -> Headers:
    given = dict(letter.headers)
    kept = {name: given[name] for name in _KEPT if name in given}
    now = {
        headers.ATTEMPT: "1",  # the count of tries starts anew
        headers.NOT_BEFORE: str(now_ms),
        headers.REDRIVES: str(_whole(given.get(headers.REDRIVES) or b"0") + 1),
        headers.DEAD_LETTER: letter.event.id,
    }
    return list((kept | {name: text.encode() for name, text in now.items()}).items())


def _carried(given: Headers) -> Headers:
    """The original headers that a letter carries."""
    prefix = headers.ORIG_HEADER_PREFIX
    return headers.foreign([(name.removeprefix(prefix), value) for name, value in given if name.startswith(prefix)])


def _original(reader: TopicReader, topic: str, partition: int, offset: int) -> Any:
    """The message, or None if it is not there any more."""
    if offset not in reader.bounds(topic, partition):
        return None
    found, _ = reader.chunk(topic, partition, range(offset, offset + 1))
    return found[0] if found else None


def _is_of(original: Any, letter: Letter) -> bool:
    """Whether the message is the letter's: offsets start anew when a topic is made anew."""
    timestamp_ms = letter.event.data.original.timestamp_ms
    return original.key() == letter.key and timestamp_ms in (None, original.timestamp()[1])


def send(settings: KafkaSettings, redrives: Iterable[Redrive]) -> int:
    """Writes them to the retry topic, and returns how many. Raises TagstreamError unless all are stored."""
    num_given = num_stored = 0
    problems: list[str] = []
    limits = {
        "message.timeout.ms": int(_STORE_S * 1000),
        "topic.metadata.propagation.max.ms": 2000,
        "queue.buffering.max.kbytes": 32_768,
    }

    def answered(error: KafkaError | None, _: object) -> None:
        nonlocal num_stored
        if error is None:
            num_stored += 1
        else:
            problems.append(topic_trouble(settings.retry_topic, error))

    with closing(open_client(Producer, producer_config(settings) | limits)) as producer:
        try:
            for redrive in redrives:
                num_given += 1
                _produce(producer, settings.retry_topic, redrive, answered)
                if problems:
                    break
        finally:  # at Ctrl-C too: what is on its way cannot be called back
            producer.flush(_STORE_S + 1.0)
            log.info("%d dead letters were sent to %s", num_stored, settings.retry_topic)
    if num_stored < num_given:
        raise TagstreamError(
            f"only {num_stored} dead letters were stored by Kafka at {settings.bootstrap_servers}: "
            f"{problems[0] if problems else 'no answer'}; send them again: a finished upload is not done twice"
        )
    return num_stored


def _produce(producer: Any, topic: str, redrive: Redrive, answered: Callable[..., None]) -> None:
    while True:
        try:
            producer.produce(
                topic,
                partition=redrive.partition,
                key=redrive.key,
                value=redrive.value,
                headers=redrive.headers,
                on_delivery=answered,
            )
        except BufferError:
            producer.poll(0.1)  # until there is room: what waits is stored, or fails, within `_STORE_S`
            continue
        except KafkaException as error:
            raise TagstreamError(f"cannot send a dead letter: {topic_trouble(topic, error.args[0])}") from error
        producer.poll(0)
        return
