"""What is known of the uploads of one partition: where each stands, and which are finished. Pure but for a lock.

The ledger lives in the progress topic, in the partition of the same number, and in memory while the partition is ours.
Its keys: an upload's own key for work that is not finished; `finished/` and that key for a short memory of it
afterwards; `left`, written by an owner that gives the partition up in peace, so that work which it had begun does not
look as if it had killed the process.
"""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, Literal, NamedTuple

from consumer import metrics

SCHEMA = 1
"""Of the values. Whatever comes later, `schema` and the names in `_LASTING` keep their meaning."""

_MAX_BYTES = 500_000
_FINISHED = "finished/"
_LEFT = "left"

Outcome = Literal["working", "retrying", "dead_lettered", "published"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One upload of one input record.

    `order` is the offset of its record in the input topic, where it came first, and `at_ms` that record's time, if it
    has one. `place` names the record and which of its uploads this is. `attempt` counts from 1; `retried`: it comes
    from the retry topic.
    """

    key: str
    video: str
    order: int
    place: str
    attempt: int = 1
    retried: bool = False
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the work on an upload stands. `checkpoint` is that of `tag_video`, as JSON; `deaths` counts the processes
    that died over it since it last made progress."""

    video: str
    order: int
    place: str
    pipeline: str
    outcome: Outcome = "working"
    attempt: int = 1
    deaths: int = 0
    tenure: str = ""
    version: str | None = None
    revision: int = 0
    latest: str | None = None
    checkpoint: Mapping[str, Any] | None = field(default=None, hash=False)
    at_ms: int = 0

    def to_json(self) -> bytes:
        """Without the checkpoint where that is so large (thousands of captions of a letter each) that brokers might
        refuse it: work that is interrupted then starts over, and publishes no revision again."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        whole = json.dumps({"schema": SCHEMA, **known}, separators=(",", ":")).encode()
        return whole if len(whole) <= _MAX_BYTES else replace(self, checkpoint=None).to_json()


class Verdict(Enum):
    """What to do with an upload that arrives."""

    WORK = "work"
    SETTLED = "settled"
    """This very record has brought it to its end before, and others of its uploads are left."""
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    POISON = "poison"


class Ledger:
    """The uploads of one partition, for one assignment of it: its tenure. Safe for use by several threads."""

    def __init__(self, records: Mapping[str, bytes] | None = None, remembered: int = 20_000) -> None:
        """`records` is what the progress topic holds; `remembered` bounds the finished uploads that are kept."""
        self.tenure = uuid.uuid4().hex
        self._remembered = remembered
        self._entries: dict[str, Entry] = {}
        self._finished: dict[str, Entry] = {}
        self._newest: dict[str, _Latest] = {}  # by video: the key of its newest upload
        self._last_event: dict[str, _Latest] = {}  # by video: the id of the last event of its newest upload
        self._dead: dict[str, None] = {}  # keys of the entries that ended as dead letters, oldest first
        self._lock = threading.Lock()
        self._left = set((records or {}).get(_LEFT, b"").decode(errors="replace").split())
        for key, value in (records or {}).items():
            if key != _LEFT and (entry := _read(value, finished=key.startswith(_FINISHED))) is not None:
                self._keep(key.removeprefix(_FINISHED), entry)

    def entry(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def finished(self, key: str) -> Entry | None:
        """The last finished work on an upload, as far as it is remembered."""
        return self._finished.get(key)

    def last_event(self, video: str) -> str | None:
        """Id of the last event that came out for the newest upload of the video, finished or not."""
        found = self._last_event.get(video)
        return found and found.value

    def verdict(self, arrival: Arrival, max_deaths: int) -> Verdict:
        newest = self._newest.get(arrival.video)
        if newest and newest.value != arrival.key and newest.is_after(arrival):
            return Verdict.SUPERSEDED
        entry = self._entries.get(arrival.key)
        if entry is None or (entry.outcome == "dead_lettered" and entry.place != arrival.place):
            return Verdict.WORK
        if entry.outcome == "working":
            return Verdict.POISON if self.deaths(arrival.key) >= max_deaths else Verdict.WORK
        if entry.place == arrival.place:
            return Verdict.SETTLED
        is_next = arrival.retried and arrival.attempt == entry.attempt + 1
        return Verdict.WORK if is_next else Verdict.DUPLICATE

    def deaths(self, key: str) -> int:
        """How many processes have died over the upload since it last made progress."""
        entry = self._entries.get(key)
        if entry is None:
            return 0
        died = entry.outcome == "working" and entry.tenure not in self._left | {self.tenure, ""}
        return entry.deaths + died

    def begin(self, arrival: Arrival, pipeline: str) -> Entry:
        """The entry of the work that begins now; what was reached before stays in it."""
        before = self._entries.get(arrival.key)
        fresh = Entry(arrival.video, arrival.order, arrival.place, pipeline, at_ms=arrival.at_ms)
        if before is not None:
            latest = before if _Latest.of(before, "").is_after(arrival) else arrival
            fresh = replace(before, place=arrival.place, outcome="working", order=latest.order, at_ms=latest.at_ms)
        return replace(fresh, attempt=arrival.attempt, deaths=self.deaths(arrival.key), tenure=self.tenure)

    def records(self, key: str, entry: Entry) -> list[tuple[str, bytes | None]]:
        """What has to be written for the entry: keys and values, None for a tombstone."""
        if entry.outcome != "published":
            return [(key, entry.to_json())]
        return [(key, None), (_FINISHED + key, entry.to_json())]

    def keep(self, key: str, entry: Entry) -> None:
        """Knows from now on what was written."""
        with self._lock:
            self._keep(key, entry)

    def forget(self, key: str) -> list[tuple[str, bytes | None]]:
        """Nothing is left to do for the upload: what has to be written for that."""
        with self._lock:
            self._dead.pop(key, None)
            return [(key, None)] if self._entries.pop(key, None) else []

    def at_work(self, record: str) -> dict[str, Entry]:
        """By key, what is at work of a record; `record` is what the places of its uploads begin with."""
        with self._lock:
            return {k: e for k, e in self._entries.items() if e.outcome == "working" and e.place.startswith(record)}

    def farewell(self) -> tuple[str, bytes]:
        """What to write when the partition is given up in peace: whose work that is unfinished has killed nobody."""
        with self._lock:
            named = {entry.tenure for entry in self._entries.values() if entry.outcome == "working"} & self._left
        return _LEFT, " ".join(sorted({self.tenure} | named)).encode()

    def _keep(self, key: str, entry: Entry) -> None:
        self._dead.pop(key, None)
        if entry.outcome == "published":
            self._entries.pop(key, None)
            self._finished.pop(key, None)
            self._finished[key] = entry
            if len(self._finished) > self._remembered:
                oldest = next(iter(self._finished))
                self._drop(oldest, self._finished.pop(oldest))
        else:
            self._entries[key] = entry
        if entry.outcome == "dead_lettered":
            self._dead[key] = None
            if len(self._dead) > self._remembered:
                del self._dead[oldest := next(iter(self._dead))]
                self._drop(oldest, self._entries.pop(oldest))
        _raise(self._newest, entry, key)
        if entry.latest:
            _raise(self._last_event, entry, entry.latest)

    def _drop(self, key: str, entry: Entry) -> None:
        for index, value in ((self._newest, key), (self._last_event, entry.latest)):
            if entry.video in index and index[entry.video].value == value:
                del index[entry.video]


class _Latest(NamedTuple):
    """What is known of the newest upload of a video."""

    order: int
    at_ms: int
    value: str

    @classmethod
    def of(cls, entry: Entry, value: str) -> "_Latest":
        return cls(entry.order, entry.at_ms, value)

    def is_after(self, other: "Arrival | Entry") -> bool:
        """Later in the log, and not earlier by the clock: the offsets of a topic that was made anew begin at 0."""
        return self.order > other.order and self.at_ms >= other.at_ms


def _raise(index: dict[str, _Latest], entry: Entry, value: str) -> None:
    before = index.get(entry.video)
    if before is None or not before.is_after(entry):
        index[entry.video] = _Latest.of(entry, value)


def _read(value: bytes, *, finished: bool) -> Entry | None:
    """None for what cannot be read; of a newer schema, what keeps its meaning. Both are counted: the upload starts
    over, and of a newer schema the revisions that are out are not published again."""
    try:
        known = json.loads(value)
        schema = known.pop("schema")
        if schema == SCHEMA:
            return _checked(Entry(**known))
        metrics.progress_unreadable.labels("newer" if schema > SCHEMA else "older").inc()
        outcome: Outcome = "published" if finished else "working"
        return _checked(Entry(place="", outcome=outcome, **{name: known[name] for name in _LASTING if name in known}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        metrics.progress_unreadable.labels("broken").inc()
        return None


_LASTING = ("video", "order", "at_ms", "pipeline", "version", "revision", "latest")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "video": (str,),
    "order": (int,),
    "at_ms": (int,),
    "place": (str,),
    "pipeline": (str,),
    "attempt": (int,),
    "deaths": (int,),
    "tenure": (str,),
    "version": (str, type(None)),
    "revision": (int,),
    "latest": (str, type(None)),
    "checkpoint": (dict, type(None)),
}


def _checked(entry: Entry) -> Entry:
    wrong = [name for name, types in _TYPES.items() if not isinstance(getattr(entry, name), types)]
    if wrong or entry.outcome not in ("working", "retrying", "dead_lettered", "published"):
        raise ValueError(f"wrong types: {wrong}")
    return entry
