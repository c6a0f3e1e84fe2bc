"""Work on an upload that stops anywhere goes on with the partition's next owner, and an upload that comes again: what
readers see is what an undisturbed run gives, nothing missing and nothing twice."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from consumer.errors import Abandoned
from consumer.kafka.records import Job
from consumer.settings import KafkaSettings
from tests.stand_ins import NUM_WINDOWS, SLOW, Died, Fails, House, at, newer, put_into_bucket, undisturbed, uploaded

VALUE = uploaded("a")
CALLS = range(NUM_WINDOWS + 2)  # of the outbox, for one upload


@pytest.fixture
def house() -> House:
    return House()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


# --- stopped anywhere ---


@pytest.mark.parametrize("number", CALLS)
def test_what_a_dead_owner_has_stored_is_gone_on_with(number: int, house: House) -> None:
    house.outbox.on_send = at(number, Died())
    house.dies(house.job(VALUE))
    before = len(house.heard)
    assert house.work(house.job(VALUE)) == ["published"]
    assert house.outbox.lasting == undisturbed(VALUE)
    assert house.heard[before:] == [("a", index) for index in range(max(0, number - 1), NUM_WINDOWS)]
    assert len(house.outbox.finished) == 1


@pytest.mark.parametrize("number", range(1, NUM_WINDOWS + 1))
def test_what_was_given_back_is_gone_on_with(number: int, house: House) -> None:
    leaving = house.job(VALUE)
    house.outbox.on_send = lambda called: leaving.leaving.set() if called == number else None
    assert house.work(leaving) == ["abandoned"]
    house.leave()
    house.move_in()
    assert house.work(house.job(VALUE)) == ["published"]
    assert house.outbox.lasting == undisturbed(VALUE)


@given(
    st.integers(1, 6),
    st.sampled_from(["a", "good", "v1", "late"]),
    st.lists(st.tuples(st.sampled_from(["dies", "leaves", "fails"]), st.integers(0, 7)), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_however_often_it_stops_readers_see_an_undisturbed_run(
    num_windows: int, video: str, stops: list[tuple[str, int]]
) -> None:
    value = uploaded(video)
    house = House(KafkaSettings(max_attempts=10, max_deaths=10), num_windows)
    job = house.job(value)
    for how, number in stops:
        outcomes = stopped(house, job, how, number)
        if outcomes == ["published"]:
            break
        job = house.retry() if outcomes == ["retrying"] else house.again(job)
    assert house.work(house.again(job)) in (["published"], ["duplicate"])
    assert house.outbox.lasting == undisturbed(value, num_windows=num_windows)


def stopped(house: House, job: Job, how: str, number: int) -> list[str]:
    """What becomes of the job when the owner dies or has to leave at its next call of that number, or the upload fails
    for now in that window. Another one has moved in then."""

    house.on_window = Fails(number if how == "fails" else None, SLOW)
    stop = Died() if how == "dies" else Abandoned("the outbox is closed")
    house.outbox.on_send = at(house.outbox.num_calls + number, stop) if how != "fails" else lambda called: None
    try:
        outcomes = house.work(job)
    except Died:
        outcomes = ["died"]
    house.on_window, house.outbox.on_send = (lambda video, index: None), (lambda called: None)
    if outcomes == ["abandoned"]:
        house.leave()
    house.move_in()
    return outcomes


def test_an_owner_who_goes_on_says_so(house: House) -> None:
    before = counted("tagstream_resumed_total")
    house.outbox.on_send = at(4, Died())
    house.dies(house.job(VALUE))
    house.work(house.job(VALUE))
    assert counted("tagstream_resumed_total") == before + 1


def test_times_count_from_when_the_upload_was_taken_up_first(house: House) -> None:
    house.outbox.on_send = at(4, Died())
    house.dies(house.job(VALUE))
    house.work(house.job(VALUE))
    assert len({event.data.timing.queued_s for event in house.outbox.tags}) == 1
    assert len({event.data.timing.first_tag_s for event in house.outbox.tags}) == 1


# --- a record with several uploads ---

THREE = put_into_bucket("a", "b", "c")


@pytest.mark.parametrize("number", range(3 * len(CALLS)))
def test_a_record_that_comes_again_goes_on_with_the_upload_in_hand(number: int, house: House) -> None:
    house.outbox.on_send = at(number, Died())
    house.dies(house.job(THREE))
    before = len(house.heard)
    outcomes = house.work(house.job(THREE))
    num_done = number // len(CALLS)
    assert outcomes == ["duplicate"] * num_done + ["published"] * (3 - num_done)
    assert house.outbox.lasting == undisturbed(THREE)
    videos = [f"media/{name}.mp4" for name in "abc"]
    assert {video for video, _ in house.heard[before:]} <= set(videos[num_done:])


@pytest.mark.parametrize(
    ("bad", "first", "again"),
    [
        ("gone", ["dead_lettered", "published"], ["published", "settled"]),
        ("slow", ["published", "retrying"], ["published", "settled"]),
    ],
)
def test_uploads_of_a_record_that_failed_do_not_fail_again(
    bad: str, first: list[str], again: list[str], house: House
) -> None:
    def open_slow(upload: Any) -> None:
        if "slow" in upload.uri:
            raise SLOW

    house.on_open = open_slow
    value = put_into_bucket(bad, "b")
    calm = House()
    calm.on_open = open_slow
    assert calm.work(calm.job(value)) == first
    house.outbox.on_send = at(4, Died())
    house.dies(house.job(value))
    opened = len(house.opened)
    assert house.work(house.job(value)) == again
    assert house.opened[opened:] == ["media/b.mp4"]
    assert len(house.outbox.letters) + len(house.outbox.retries) == 1
    assert house.outbox.lasting == calm.outbox.lasting


# --- progress that cannot be used ---


def stopped_at_four(house: House) -> None:
    house.outbox.on_send = at(4, Died())
    house.dies(house.job(VALUE))
    house.outbox.on_send = lambda number: None


def broken(value: bytes) -> bytes:
    return value[:-5]


def with_a_foreign_checkpoint(value: bytes) -> bytes:
    known = json.loads(value)
    return json.dumps({**known, "checkpoint": {**known["checkpoint"], "words": 1}}).encode()


@pytest.mark.parametrize(
    ("change", "why"), [(newer, "newer"), (with_a_foreign_checkpoint, "checkpoint")], ids=["newer", "checkpoint"]
)
def test_without_its_checkpoint_an_upload_starts_over_and_repeats_nothing(change: Any, why: str, house: House) -> None:
    stopped_at_four(house)
    before = counted("tagstream_progress_unreadable_total", why=why)
    house.move_in(change)
    heard = len(house.heard)
    assert house.work(house.job(VALUE)) == ["published"]
    assert house.outbox.lasting == undisturbed(VALUE)
    assert house.heard[heard:] == [("a", index) for index in range(NUM_WINDOWS)]
    assert counted("tagstream_progress_unreadable_total", why=why) == before + 1


@pytest.mark.parametrize("stop", range(1, NUM_WINDOWS + 2))
@pytest.mark.parametrize("change", [newer, with_a_foreign_checkpoint], ids=["newer", "checkpoint"])
def test_what_starts_over_and_stops_again_repeats_nothing(change: Any, stop: int, house: House) -> None:
    stopped_at_four(house)
    house.move_in(change)
    house.outbox.on_send = at(house.outbox.num_calls + stop, Died())
    house.dies(house.job(VALUE))
    assert house.work(house.job(VALUE)) == ["published"]
    assert house.outbox.lasting == undisturbed(VALUE)


def test_broken_progress_is_counted_and_the_upload_starts_over(house: House) -> None:
    stopped_at_four(house)
    before = counted("tagstream_progress_unreadable_total", why="broken")
    house.move_in(broken)
    published = len(house.outbox.tags)
    assert house.work(house.job(VALUE)) == ["published"]
    assert counted("tagstream_progress_unreadable_total", why="broken") == before + 1
    assert [event.data.status.revision for event in house.outbox.tags[published:]][:2] == [1, 2]


def test_what_a_newer_version_finished_is_not_published_again(house: House) -> None:
    house.work(house.job(VALUE))
    house.move_in(newer)
    assert house.work(house.job(VALUE, 8)) == ["duplicate"]
    assert house.outbox.lasting == undisturbed(VALUE)
