"""Batches across videos: `submit` looks like a plain call, and is answered from a batch of whoever asks.

Work-conserving: a free device takes what is queued. Only a batch that is less than half full is held back, for at
most `max_wait_s`. First windows go first, since they decide when a video's first tags come; then videos take turns;
among equals, items of like length go together, since a batch costs its longest item times its items.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from consumer import metrics
from consumer.errors import Abandoned, TagstreamError, TransientError

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)


_SICK_AFTER_VIDEOS = 3


class Prepared(Protocol):
    """An item ready for the device. Only items of one `bucket` share a batch; `cost` is in tokens or frames."""

    @property
    def cost(self) -> int: ...
    @property
    def bucket(self) -> int: ...


Ready = TypeVar("Ready", bound=Prepared)
Raw = TypeVar("Raw")


class BatchModel(Protocol[Item, Ready, Raw, Result]):
    """A model behind three calls: `prepare` and `finish` on the CPU for one item, `run` on the device for a batch."""

    def prepare(self, item: Item, /) -> Ready: ...
    def run(self, batch: Sequence[Ready], /) -> Sequence[Raw]: ...
    def finish(self, item: Item, raw: Raw, /) -> Result: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_cost` bounds what the device works through: items times the longest of them."""

    max_items: int
    max_cost: int
    max_wait_s: float = 0.01


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the policy knows of an item in the queue."""

    arrived_s: float
    video: str
    first: bool
    cost: int
    bucket: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Positions in the queue, shortest item first, and why the batch leaves: full, budget, waited, idle."""

    positions: tuple[int, ...]
    trigger: str


def choose(queue: Sequence[Waiting], limits: Limits, now_s: float) -> Choice | None:
    """The batch that a free device should take now, or None if it pays to wait for more. Pure."""
    if not queue:
        return None
    turns = _turns(queue)
    lead = min(range(len(queue)), key=lambda at: (not queue[at].first, turns[at], at))
    near = sorted(
        (at for at in range(len(queue)) if queue[at].bucket == queue[lead].bucket),
        key=lambda at: (
            at != lead,
            queue[at].first != queue[lead].first,
            turns[at],
            abs(queue[at].cost - queue[lead].cost),
            at,
        ),
    )
    batch, trigger = _filled([(at, queue[at].cost) for at in near], limits)
    if trigger is None:
        waited_s = now_s - min(item.arrived_s for item in queue)
        if 2 * len(batch) >= limits.max_items:
            trigger = "idle"
        elif waited_s >= limits.max_wait_s:
            trigger = "waited"
        else:
            return None
    return Choice(tuple(sorted(batch, key=lambda at: (queue[at].cost, at))), trigger)


def _turns(queue: Sequence[Waiting]) -> list[int]:
    """How many items of the same video stand before each item."""
    seen: Counter[str] = Counter()
    turns = []
    for item in queue:
        turns.append(seen[item.video])
        seen[item.video] += 1
    return turns


def _filled(candidates: Sequence[tuple[int, int]], limits: Limits) -> tuple[list[int], str | None]:
    batch: list[int] = []
    longest = 0
    for at, cost in candidates:
        if len(batch) == limits.max_items:
            return batch, "full"
        if batch and max(longest, cost) * (len(batch) + 1) > limits.max_cost:
            return batch, "budget"
        batch.append(at)
        longest = max(longest, cost)
    return batch, "full" if len(batch) == limits.max_items else None


@dataclass(slots=True)
class _Entry(Generic[Item, Ready, Result]):
    item: Item
    ready: Ready
    waiting: Waiting
    future: "Future[Result]"


class Batcher(Generic[Item, Ready, Raw, Result]):
    """Owns a model's thread. `device` is held while a batch runs: models that share a device take turns on it."""

    def __init__(
        self,
        stage: str,
        model: BatchModel[Item, Ready, Raw, Result],
        limits: Limits,
        device: AbstractContextManager[object],
    ) -> None:
        self._stage = stage
        self._model = model
        self._limits = limits
        self._device = device
        self._queue: list[_Entry[Item, Ready, Result]] = []
        self._changed = threading.Condition()
        self._ended: BaseException | None = None
        self._failed: set[str] = set()  # videos since the last success
        self._thread = threading.Thread(target=self._run, name=f"batch-{stage}", daemon=True)
        self._thread.start()

    def submit(self, item: Item, *, video: str, first: bool = False) -> "Future[Result]":
        """Queues an item. The future fails with an UploadError when this item fails; others are not touched."""
        ready = self._model.prepare(item)
        waiting = Waiting(time.monotonic(), video, first, ready.cost, ready.bucket)
        future: Future[Result] = Future()
        with self._changed:
            if self._ended is not None:
                raise self._ended
            self._queue.append(_Entry(item, ready, waiting, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Gives back what is queued, waits for the batch that runs, and ends the thread."""
        self._end(Abandoned(f"the {self._stage} batcher is closed"))
        self._thread.join()

    def _end(self, error: BaseException) -> None:
        with self._changed:
            self._ended = self._ended or error
            given_back, self._queue = self._queue, []
            self._changed.notify()
        for entry in given_back:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(error)

    def _run(self) -> None:
        try:
            while batch := self._take():
                self._answer(batch)
        except BaseException as error:  # nobody may wait for ever for a thread that has died
            self._end(error)
            raise

    def _take(self) -> list[_Entry[Item, Ready, Result]]:
        """The next batch; empty once ended."""
        with self._changed:
            while self._ended is None:
                choice = choose([entry.waiting for entry in self._queue], self._limits, time.monotonic())
                if choice is None:
                    self._changed.wait(self._limits.max_wait_s if self._queue else None)
                    continue
                batch = [self._queue[at] for at in choice.positions]
                self._queue = [entry for at, entry in enumerate(self._queue) if at not in choice.positions]
                running = [entry for entry in batch if entry.future.set_running_or_notify_cancel()]
                if running:
                    metrics.batch_items.labels(self._stage, choice.trigger).observe(len(running))
                    return running
        return []

    def _answer(self, batch: list[_Entry[Item, Ready, Result]]) -> None:
        started_s = time.monotonic()
        for entry in batch:
            metrics.queue_seconds.labels(self._stage).observe(started_s - entry.waiting.arrived_s)
        try:
            with self._device, metrics.stage_seconds.labels(self._stage).time():
                raws = self._model.run([entry.ready for entry in batch])
            if len(raws) != len(batch):
                raise RuntimeError(f"the {self._stage} model gave {len(raws)} results for {len(batch)} items")
        except Exception as error:  # whatever a model raises, it is the fault of one of these items
            if len(batch) == 1:
                self._fail(batch[0], error)
            else:  # one failing item fails alone: the others are run again without it
                for entry in batch:
                    self._answer([entry])
            return
        self._failed.clear()
        for entry, raw in zip(batch, raws, strict=True):
            self._finish(entry, raw)

    def _fail(self, entry: _Entry[Item, Ready, Result], error: Exception) -> None:
        """An item's own fault, unless item after item fails: then it is the device's, and no upload may pay for it."""
        self._failed.add(entry.waiting.video)
        if len(self._failed) >= _SICK_AFTER_VIDEOS:
            entry.future.set_exception(RuntimeError(f"the {self._stage} model fails for every video: {error}"))
        else:
            entry.future.set_exception(self._as_upload_error(error))

    def _finish(self, entry: _Entry[Item, Ready, Result], raw: Raw) -> None:
        try:
            entry.future.set_result(self._model.finish(entry.item, raw))
        except Exception as error:
            entry.future.set_exception(self._as_upload_error(error))

    def _as_upload_error(self, error: Exception) -> TagstreamError:
        if isinstance(error, TagstreamError):
            return error
        wrapped = TransientError("model_failed", f"{self._stage}: {type(error).__name__}: {error}", stage=self._stage)
        wrapped.__cause__ = error
        return wrapped
