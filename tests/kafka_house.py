"""Intake, outbox and workers wired together as the application does it, around any work on a record."""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from consumer.errors import Abandoned, PermanentError
from consumer.kafka.delivery import AtLeastOnce
from consumer.kafka.intake import Intake
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Job, Record
from consumer.kafka.transactions import ExactlyOnce
from consumer.settings import KafkaSettings


def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> bool:
    """Waits for the condition; False if it does not come true in time."""
    until_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        threading.Event().wait(0.02)
    return True


def result(settings: KafkaSettings, job: Job) -> Record:
    """What the tests publish for a record: the record itself."""
    return Record(settings.tags_topic, job.key, job.value, [("type", b"echo")], "test")


class House:
    """Runs `work` for each record, then stores its result or dead letter; of cancelled work it stores nothing.

    Leaving the `with` block drains, and raises what a thread has raised.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        capacity: int = 4,
        work: Callable[[Job], object] = lambda job: None,
        drain_s: float = 10.0,
    ) -> None:
        # As each process has.
        settings = settings.model_copy(update={"transactional_id": f"house-{uuid.uuid4().hex[:8]}"})
        self.settings = settings
        self.begun: list[Job] = []
        self.errors: list[BaseException] = []
        self.drained = False
        self.stored = False
        self.work = work
        self._drain_s = drain_s
        self._workers = ThreadPoolExecutor(capacity)
        self.intake = Intake(settings, capacity, self._begin)
        delivery = ExactlyOnce if settings.delivery == "exactly_once" else AtLeastOnce
        self.outbox = Outbox(settings, self.intake.offsets, self.intake.member, delivery, self.intake.finished)
        runs = (lambda: self.intake.run(self.outbox), self.outbox.run)
        self._threads = [threading.Thread(target=self._guard, args=(run,)) for run in runs]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drained = self.intake.drain(self._drain_s)
        self.stored = self.outbox.close(5.0)
        self._workers.shutdown()
        for thread in self._threads:
            thread.join(20.0)
            assert not thread.is_alive()
        if self.errors and error is None:
            raise self.errors[0]

    def _begin(self, job: Job) -> None:
        self.begun.append(job)
        self._workers.submit(self._guard, lambda: self._do(job))

    def _do(self, job: Job) -> None:
        try:
            self.work(job)
            if job.cancelled.is_set():
                self.intake.given_back(job.claim)
            else:
                self.outbox.finish(job.claim, [result(self.settings, job)])
        except PermanentError as error:
            dead = Record(self.settings.dead_letter_topic, job.key, error.reason.encode(), [], "test")
            self.outbox.finish(job.claim, [dead])

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Abandoned:
            return
        except BaseException as error:
            self.errors.append(error)
