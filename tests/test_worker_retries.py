"""Uploads that fail are tried again, but not for ever; those that kill the process, neither."""

import threading
from dataclasses import replace

import pytest

from consumer.kafka import headers
from consumer.kafka.records import Job
from consumer.settings import KafkaSettings
from schemas import VideoUploaded
from tests.faults.stand_ins import WINDOWS_AHEAD
from tests.stand_ins import (
    GONE,
    KAFKA,
    NUM_WINDOWS,
    SLOW,
    Died,
    Fails,
    House,
    at,
    put_into_bucket,
    undisturbed,
    uploaded,
)

VALUE = uploaded("a")


@pytest.fixture
def house() -> House:
    return House()


# --- what fails for now ---


def test_an_upload_that_fails_for_now_ends_as_a_retry(house: House) -> None:
    house.on_window = Fails(4, SLOW)
    record = house.job(VALUE)
    assert house.work(record) == ["retrying"]
    retry, entry = house.outbox.sends[-1].records
    assert retry is house.outbox.retries[0]
    assert entry.topic == KAFKA.progress_topic
    assert house.stands()["outcome"] == "retrying"
    assert house.outbox.finished == [record.claim]
    assert house.outbox.letters == []


@pytest.mark.parametrize("moved", [False, True], ids=["same owner", "next owner"])
@pytest.mark.parametrize("window", [None, 0, 4, NUM_WINDOWS - 1])
def test_a_retry_goes_on_at_the_window_that_failed(window: int | None, moved: bool, house: House) -> None:
    errors = [SLOW]

    def open_late(upload: VideoUploaded) -> None:
        if window is None and errors:
            raise errors.pop()

    house.on_open = open_late
    house.on_window = Fails(window, SLOW)
    assert house.work(house.job(VALUE)) == ["retrying"]
    if moved:
        house.move_in()
    heard = len(house.heard)
    assert house.work(house.retry()) == ["published"]
    assert house.outbox.lasting == undisturbed(VALUE)
    assert house.heard[heard:] == [("a", index) for index in range(window or 0, NUM_WINDOWS)]


def test_an_upload_that_fails_each_time_is_a_dead_letter_after_so_many_attempts() -> None:
    house = House(KafkaSettings(max_attempts=4))
    house.on_window = Fails(4, SLOW, times=99)
    outcomes = house.work(house.job(VALUE))
    while outcomes == ["retrying"]:
        outcomes = house.work(house.retry())
    assert outcomes == ["dead_lettered"]
    assert len(house.outbox.retries) == 3
    (letter,) = house.outbox.letters
    assert (letter.event.data.error_class, letter.event.data.attempt) == ("transient", 4)
    assert (letter.event.data.reason, letter.event.data.stage) == ("fetch_timeout", "fetch")
    assert (letter.event.data.original.topic, letter.event.data.original.offset) == (KAFKA.uploads_topic, 7)
    assert house.stands()["outcome"] == "dead_lettered"
    assert len(house.outbox.finished) == 4


def test_a_retry_that_fails_for_good_is_a_dead_letter(house: House) -> None:
    house.on_window = Fails(4, SLOW)
    house.work(house.job(VALUE))
    house.on_window = Fails(5, GONE)
    assert house.work(house.retry()) == ["dead_lettered"]
    (letter,) = house.outbox.letters
    assert (letter.event.data.error_class, letter.event.data.attempt) == ("permanent", 2)
    assert letter.headers[headers.ORIG_VALUE] == VALUE
    assert letter.headers[headers.ORIG_OFFSET] == b"7"


def test_a_retry_of_a_video_that_was_uploaded_anew_meanwhile_is_superseded(house: House) -> None:
    house.on_window = Fails(4, SLOW)
    house.work(house.job(uploaded("a", content_version="v1")))
    house.work(house.job(uploaded("a", content_version="v2"), 8))
    house.move_in()
    sent, opened = len(house.outbox.sends), len(house.opened)
    assert house.work(house.retry()) == ["superseded"]
    (end,) = house.outbox.sends[sent:]
    assert (end.how, [record.value for record in end.records]) == ("finish", [None])
    assert [key.split("/")[0] for key in house.outbox.progress] == ["finished"]
    assert len(house.opened) == opened


def test_a_retry_that_comes_twice_gives_one_set_of_revisions(house: House) -> None:
    house.on_window = Fails(4, SLOW)
    house.work(house.job(VALUE))
    (record,) = house.outbox.retries
    assert house.work(house.retry(record)) == ["published"]
    assert house.work(house.retry(record)) == ["duplicate"]
    assert house.outbox.lasting == undisturbed(VALUE)


def test_a_retry_that_comes_twice_does_not_fail_twice(house: House) -> None:
    house.on_window = Fails(4, SLOW, times=2)
    house.work(house.job(VALUE))
    (record,) = house.outbox.retries
    assert house.work(house.retry(record)) == ["retrying"]
    assert house.work(house.retry(record)) == ["duplicate"]
    assert len(house.outbox.retries) == 2


def test_an_upload_that_comes_again_while_it_waits_for_its_retry_is_a_duplicate(house: House) -> None:
    house.on_window = Fails(4, SLOW)
    house.work(house.job(VALUE))
    assert house.work(house.job(VALUE, 8)) == ["duplicate"]
    assert house.work(house.retry()) == ["published"]
    assert house.outbox.lasting == undisturbed(VALUE)


@pytest.mark.parametrize("error", [SLOW, GONE], ids=["for now", "for good"])
def test_a_record_that_comes_again_after_it_failed_is_settled(error: Exception, house: House) -> None:
    house.on_window = Fails(4, error)
    house.work(house.job(VALUE))
    house.move_in()
    sent = len(house.outbox.sends)
    assert house.work(house.job(VALUE)) == ["settled"]
    assert [(how, records) for how, _, records in house.outbox.sends[sent:]] == [("finish", ())]


def test_a_retry_is_for_the_one_upload_of_the_record_that_failed(house: House) -> None:
    def open_slow(upload: VideoUploaded) -> None:
        if "slow" in upload.uri:
            raise SLOW

    house.on_open = open_slow
    assert house.work(house.job(put_into_bucket("a", "slow", "gone"))) == ["dead_lettered", "published", "retrying"]
    assert house.outbox.letters[0].headers[headers.UPLOAD] == b"2"
    opened = len(house.opened)
    house.on_open = lambda upload: None
    assert house.work(house.retry()) == ["published"]
    assert house.opened[opened:] == ["media/slow.mp4"]


def test_a_retry_for_an_upload_that_the_record_does_not_have_is_a_dead_letter(house: House) -> None:
    stray = house.job(VALUE, 100, topic=KAFKA.retry_topic, came_with=[(headers.UPLOAD, b"1")])
    assert house.work(stray) == ["dead_lettered"]
    assert house.outbox.letters[0].event.data.reason == "unknown_upload"


def test_a_dead_letter_that_is_redriven_goes_on_where_it_stood(house: House) -> None:
    house.on_window = Fails(4, GONE)
    house.work(house.job(VALUE))
    letter = house.outbox.letters[0]
    history = [(name, value) for name, value in letter.headers.items() if name != headers.ORIG_VALUE]
    redriven = house.job(VALUE, 100, topic=KAFKA.retry_topic, came_with=history)
    assert house.work(redriven) == ["published"]
    assert house.work(replace(redriven, claim=replace(redriven.claim, offset=101))) == ["duplicate"]
    assert house.outbox.lasting == undisturbed(VALUE)


# --- what kills the process ---


@pytest.mark.parametrize("max_deaths", [1, 3])
def test_an_upload_that_kills_so_many_processes_is_a_dead_letter(max_deaths: int) -> None:
    house = House(KafkaSettings(max_deaths=max_deaths))
    house.on_window = Fails(0, Died(), times=max_deaths)
    for _ in range(max_deaths):
        house.dies(house.job(VALUE))
    opened = len(house.opened)
    assert house.work(house.job(VALUE)) == ["dead_lettered"]
    assert len(house.opened) == opened
    (letter,) = house.outbox.letters
    assert (letter.event.data.reason, letter.event.data.stage) == ("process_died", "work")
    assert str(max_deaths) in letter.event.data.message
    assert letter.event.data.error_class == "permanent"


def test_an_upload_that_kills_fewer_is_published(house: House) -> None:
    house.on_window = Fails(0, Died(), times=2)
    for deaths in (0, 1):
        house.dies(house.job(VALUE))
        assert house.stands()["deaths"] == deaths
    assert house.work(house.job(VALUE)) == ["published"]
    assert house.outbox.lasting == undisturbed(VALUE)


def dies_after(num_windows: int, house: House) -> None:
    house.outbox.on_send = at(house.outbox.num_calls + 1 + num_windows, Died())
    house.dies(house.job(VALUE))
    house.outbox.on_send = lambda number: None


def test_progress_makes_up_for_the_deaths_before_it() -> None:
    house = House(num_windows=20)
    for _ in range(5):
        dies_after(WINDOWS_AHEAD + 1, house)
        assert house.stands()["deaths"] == 0
    assert house.work(house.job(VALUE)) == ["published"]


def test_progress_that_windows_at_work_together_explain_makes_up_for_nothing() -> None:
    house = House(num_windows=20)
    for deaths in range(3):
        dies_after(WINDOWS_AHEAD, house)
        assert house.stands()["deaths"] == deaths
    assert house.work(house.job(VALUE)) == ["dead_lettered"]


def test_a_dead_letter_of_one_that_killed_may_be_redriven(house: House) -> None:
    house.on_window = Fails(0, Died(), times=3)
    for _ in range(3):
        house.dies(house.job(VALUE))
    house.work(house.job(VALUE))
    redriven = house.job(VALUE, 100, topic=KAFKA.retry_topic, came_with=[(headers.ORIG_OFFSET, b"7")])
    begun: list[int] = []
    house.on_open = lambda upload: begun.append(house.stands()["deaths"])
    assert house.work(redriven) == ["published"]
    assert begun == [0]


def give_back(house: House, job: Job) -> None:
    """Before the upload has made any progress."""
    house.on_open = lambda upload: job.cancelled.set()
    assert house.work(job) == ["abandoned"]
    house.on_open = lambda upload: None
    house.leave()
    house.move_in()


def test_giving_back_in_peace_is_no_death(house: House) -> None:
    for _ in range(5):
        give_back(house, house.job(VALUE))
        assert house.stands()["deaths"] == 0
    assert house.work(house.job(VALUE)) == ["published"]


def test_an_owner_who_leaves_without_touching_it_makes_no_death_of_the_one_before(house: House) -> None:
    for _ in range(5):
        give_back(house, house.job(VALUE))
        house.leave()
        house.move_in()
        assert house.stands()["deaths"] == 0
    assert house.work(house.job(VALUE)) == ["published"]


def test_a_death_is_not_made_up_for_by_leaving_in_peace_later(house: House) -> None:
    for deaths in (1, 2):
        house.on_window = Fails(0, Died())
        house.dies(house.job(VALUE))
        give_back(house, house.job(VALUE))
        assert house.stands()["deaths"] == deaths


class Asked(threading.Event):
    """Notes when somebody asks whether it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def is_set(self) -> bool:
        self.asked.set()
        return super().is_set()


def meeting(house: House, first: Job, second: Job) -> list[str]:
    """The videos that were opened before the first one came to its end, the second having begun after the first was
    opened. Both end well."""
    asked = Asked()
    second = replace(second, cancelled=asked)
    opened: list[str] = []
    ends: list[bool] = []
    thread = threading.Thread(target=lambda: ends.append(house.worker.work(second)), daemon=True)

    def meet(upload: VideoUploaded) -> None:
        house.on_open = lambda upload: None
        thread.start()
        assert asked.asked.wait(20)
        opened.extend(house.opened)

    before = len(house.opened)
    house.on_open = meet
    ends.append(house.worker.work(first))
    thread.join(20)
    assert ends == [True, True]
    return opened[before:]


def suspects(house: House, *values: bytes) -> None:
    """Owners die over these."""
    for offset, value in enumerate(values):
        house.outbox.on_send = at(house.outbox.num_calls + 1, Died())
        house.dies(house.job(value, offset))
    house.outbox.on_send = lambda number: None


def test_those_that_may_have_killed_are_at_work_one_at_a_time(house: House) -> None:
    suspects(house, VALUE, uploaded("b"))
    assert meeting(house, house.job(VALUE, 0), house.job(uploaded("b"), 1)) == ["a"]


def test_others_do_not_wait_for_one_that_may_have_killed(house: House) -> None:
    suspects(house, VALUE)
    assert meeting(house, house.job(VALUE, 0), house.job(uploaded("b"), 1)) == ["a", "b"]


def test_two_uploads_of_one_video_are_at_work_one_after_the_other(house: House) -> None:
    first, second = house.job(VALUE), replace(house.job(uploaded("a", content_version="v2"), 8), key=None)
    assert meeting(house, first, second) == ["a"]
    assert [event.data.status.stage for event in house.outbox.tags].index("final") == len(house.outbox.tags) // 2 - 1


# --- headers that strangers wrote ---


@pytest.mark.parametrize(
    "told",
    [
        (headers.UPLOAD, b"5"),
        (headers.ATTEMPT, b"6"),
        (headers.ATTEMPT, b"9" * 5000),
        (headers.ORIG_OFFSET, b"0"),
        (headers.NOT_BEFORE, b"9" * 5000),
    ],
    ids=lambda told: f"{told[0]}: {told[1].decode()[:5]}",
)
def test_what_an_uploader_writes_into_our_headers_means_nothing(told: tuple[str, bytes], house: House) -> None:
    house.on_window = Fails(4, SLOW)
    assert house.work(house.job(VALUE, came_with=[told])) == ["retrying"]
    plain = House()
    plain.on_window = Fails(4, SLOW)
    plain.work(plain.job(VALUE))
    varying = (headers.NOT_BEFORE, headers.FIRST_FAILURE)
    (ours,), (without,) = house.outbox.retries, plain.outbox.retries
    assert {n: v for n, v in ours.headers if n not in varying} == {n: v for n, v in without.headers if n not in varying}
