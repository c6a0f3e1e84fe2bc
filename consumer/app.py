"""The consumer as a process: builds its parts, runs them, drains them. Only here Kafka meets the tagging."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from consumer.health import HealthServer
from consumer.kafka.delivery import AtLeastOnce
from consumer.kafka.intake import Intake
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Job
from consumer.kafka.transactions import ExactlyOnce
from consumer.settings import Settings
from consumer.tagging import Tools
from consumer.worker import Worker

log = logging.getLogger(__name__)

_LAST_STORE_S = 10.0
_LOOK_S = 0.5


class App:
    """A running consumer. `stop` asks it to drain; `failure` is what ended it, if anything did."""

    def __init__(self, settings: Settings, tools: Tools) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self.failure: BaseException | None = None
        self.intake = Intake(settings.kafka, settings.max_videos_in_flight, self._begin)
        delivery = ExactlyOnce if settings.kafka.delivery == "exactly_once" else AtLeastOnce
        self._outbox = Outbox(settings.kafka, self.intake.offsets, self.intake.member, delivery, self.intake.finished)
        self._worker = Worker(tools, self._outbox, settings.kafka)

    def run(self) -> bool:
        """Consumes until `stop`, then drains: takes no more, ends or gives back what is in flight, stores it and
        leaves the group; false if not all could be stored. Raises what made it impossible to go on; only what is stored
        is committed then."""
        outbox = self._start("outbox", self._outbox.run)
        intake = self._start("intake", lambda: self.intake.run(self._outbox))
        while not self._stopping.wait(_LOOK_S):  # a signal may reach another thread, and wakes this one only then
            pass
        log.info("draining: up to %.0f s for the windows in hand", self._settings.drain_s)
        # Results are stored while the intake drains, since only a member of the group may store them.
        drained = self.intake.drain(0.0 if self.failure else self._settings.drain_s)
        stored = self._outbox.close(_LAST_STORE_S)
        for thread in (intake, outbox):
            thread.join(_LAST_STORE_S)
        if self.failure is not None:
            raise self.failure
        log.info("drained" if drained and stored else "stopped before all was stored; it will be tagged again")
        return drained and stored

    def stop(self) -> None:
        self._stopping.set()

    def is_ready(self) -> bool:
        return self.intake.assigned_once and not self._stopping.is_set()

    def _begin(self, job: Job) -> None:
        self._start(f"upload-{job.claim.partition.number}-{job.claim.offset}", lambda: self._work(job))

    def _work(self, job: Job) -> None:
        if not self._worker.work(job):
            self.intake.given_back(job.claim)

    def _start(self, name: str, body: Callable[[], None]) -> threading.Thread:
        """A thread whose failure ends the process: nothing that we do not understand may be committed."""

        def guarded() -> None:
            try:
                body()
            except BaseException as error:
                self.failure = self.failure or error
                self.stop()

        # Daemons: a source that hangs must not keep a drained process alive.
        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread


def run_process(settings: Settings) -> int:
    """`tagstream run`: the exit code. SIGTERM or SIGINT drains; a second one exits at once."""
    from consumer.tools import open_tools  # the models' libraries, seconds of work, which an App can do without

    ready: list[App] = []
    health = HealthServer(
        settings.http,
        alive=lambda: all(app.intake.alive() for app in ready),
        ready=lambda: any(app.is_ready() for app in ready),
    )
    log.info("metrics and health on port %d", health.port)
    with stop_signals() as stopped, open_tools(settings) as tools:
        app = App(settings, tools)
        ready.append(app)
        stopped.call(app.stop)
        log.info("consuming %s as group %s", settings.kafka.uploads_topic, settings.kafka.group_id)
        clean = app.run()
    health.close()
    return 0 if clean else 1


class StopSignals:
    """What SIGTERM and SIGINT do: the first one calls what was given to `call`, even if it came before that."""

    def __init__(self) -> None:
        self._received = False
        self._stop: Callable[[], None] | None = None

    def call(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        if self._received:
            stop()

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            log.warning("second signal: leaving at once; what is in flight will be tagged again")
            os._exit(128 + number)
        self._received = True
        if self._stop is None:  # still loading: nothing is in flight
            sys.exit(0)
        self._stop()


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    signals = StopSignals()
    before = {number: signal.signal(number, signals.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
