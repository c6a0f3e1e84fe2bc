"""Dead letters in a row end the process; so does a bug. With an application around stand-ins."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from consumer import app
from consumer.app import App
from consumer.errors import TagstreamError
from consumer.kafka.offsets import Claim, OffsetTracker
from consumer.kafka.records import Job
from consumer.settings import KafkaSettings, Settings
from consumer.worker import DeadLetterLimit
from schemas import VideoUploaded
from tests.stand_ins import REFUSAL, House, StandInOutbox, at, put_into_bucket, uploaded

GOOD = uploaded("a")
BAD = uploaded("bad", "/gone.mp4")
UNREADABLE = b"{this is not json"


def limited(most: int) -> House:
    return House(KafkaSettings(max_dead_letters_in_a_row=most))


def test_dead_letters_in_a_row_are_an_error_once_the_last_of_them_is_stored() -> None:
    house = limited(3)
    for offset in range(2):
        assert house.work(house.job(UNREADABLE, offset)) == ["dead_lettered"]
    with pytest.raises(TagstreamError, match=r"3 uploads in a row .*tagstream dlq list"):
        house.worker.work(house.job(BAD, 2))
    assert len(house.outbox.letters) == len(house.outbox.finished) == 3


def test_a_good_upload_among_them_starts_the_count_anew() -> None:
    house = limited(2)
    for offset, value in enumerate([BAD, GOOD, UNREADABLE, uploaded("b"), BAD]):
        house.work(house.job(value, offset))
    with pytest.raises(TagstreamError, match="2 uploads in a row"):
        house.worker.work(house.job(UNREADABLE, 9))


def test_uploads_that_were_there_before_and_tombstones_are_no_good_ones() -> None:
    house = limited(3)
    for offset, value in enumerate([GOOD, BAD, GOOD, None, UNREADABLE]):
        house.work(house.job(value, offset))
    with pytest.raises(TagstreamError, match="3 uploads in a row"):
        house.worker.work(house.job(UNREADABLE, 9))


def test_each_upload_of_a_record_counts() -> None:
    house = limited(2)
    with pytest.raises(TagstreamError, match="2 uploads in a row"):
        house.worker.work(house.job(put_into_bucket("gone", "gone-too")))
    assert len(house.outbox.finished) == 1


def test_refused_results_count() -> None:
    house = limited(1)
    house.outbox.on_send = at(0, REFUSAL)
    with pytest.raises(TagstreamError, match="1 uploads in a row"):
        house.worker.work(house.job(GOOD))


def test_without_a_limit_there_is_no_end_of_dead_letters() -> None:
    limit = DeadLetterLimit(0)
    for _ in range(1000):
        limit.count("dead_lettered")


# --- the application around it ---


class StandInIntake:
    """Begins these jobs, then waits for the drain."""

    def __init__(self, jobs: list[Job]) -> None:
        self.offsets = OffsetTracker()
        self.on_back: Callable[[Claim], None] = lambda claim: None
        self._jobs = jobs
        self._drained = threading.Event()

    def open(self, settings: KafkaSettings, capacity: int, begin: Callable[[Job], None]) -> "StandInIntake":
        self._begin = begin
        return self

    def run(self, outbox: object) -> None:
        for job in self._jobs:
            self._begin(job)
        self._drained.wait(20)

    def drain(self, deadline_s: float) -> bool:
        self._drained.set()
        return True

    def member(self) -> object:
        return None

    def finished(self, claim: Claim) -> None: ...

    def given_back(self, claim: Claim) -> None:
        self.on_back(claim)


class RunningOutbox(StandInOutbox):
    """With a thread that has nothing to do."""

    def run(self) -> None: ...

    def close(self, deadline_s: float) -> bool:
        return True


def application(house: House, monkeypatch: pytest.MonkeyPatch, intake: StandInIntake) -> App:
    outbox = RunningOutbox()
    monkeypatch.setattr(app, "Intake", intake.open)
    monkeypatch.setattr(app, "Outbox", lambda *given: outbox)
    house.outbox = outbox
    return App(Settings(kafka=house.settings), house.tools())


def run(running: App) -> None:
    """Until it ends of itself; raises what it raises."""
    ended: Future[None] = Future()

    def body() -> None:
        try:
            running.run()
            ended.set_result(None)
        except BaseException as error:  # for the test to see
            ended.set_exception(error)

    threading.Thread(target=body, daemon=True).start()
    ended.result(30)


def test_dead_letters_in_a_row_end_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    house = limited(2)
    intake = StandInIntake([house.job(UNREADABLE, 1), house.job(BAD, 2)])
    running = application(house, monkeypatch, intake)
    with pytest.raises(TagstreamError, match="2 uploads in a row"):
        run(running)
    assert len(house.outbox.letters) == 2


def test_a_bug_ends_the_application_and_finishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()

    def stumble(upload: VideoUploaded) -> None:
        raise ZeroDivisionError

    house.on_open = stumble
    running = application(house, monkeypatch, StandInIntake([house.job(GOOD)]))
    with pytest.raises(ZeroDivisionError):
        run(running)
    assert house.outbox.finished == []


def test_what_is_given_back_is_told_to_the_intake(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    leaving = house.job(GOOD)
    leaving.leaving.set()
    intake = StandInIntake([leaving])
    running = application(house, monkeypatch, intake)
    back: list[Claim] = []

    def given_back(claim: Claim) -> None:
        back.append(claim)
        running.stop()

    intake.on_back = given_back
    run(running)
    assert back == [leaving.claim]
    assert house.outbox.finished == []
