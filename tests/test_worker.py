"""What becomes of one input record: with stand-ins for the media, the models and the way out, so that each of them
can fail on demand."""

import json
import threading

import pytest

from consumer.errors import Abandoned, TagstreamError
from consumer.kafka.delivery import STAGE
from consumer.transcript import Passage
from schemas import VideoUploaded
from tests.stand_ins import (
    GONE,
    KAFKA,
    NUM_WINDOWS,
    REFUSAL,
    SLOW,
    UPLOADED_MS,
    Fails,
    House,
    at,
    closed_from,
    put_into_bucket,
    uploaded,
)

GOOD = uploaded("a")
BAD = uploaded("bad", "/gone.mp4")
UNREADABLE = b"{this is not json \xff"
GIVES = NUM_WINDOWS + 2  # calls of the outbox: the attempt, each window, the end
ENDS = {  # a record, what becomes of its uploads, and how many calls of the outbox that takes
    "good": (GOOD, ["published"], GIVES),
    "bad": (BAD, ["dead_lettered"], 2),
    "unreadable": (UNREADABLE, ["dead_lettered"], 1),
    "mixed": (put_into_bucket("gone", "talk"), ["dead_lettered", "published"], 2 + GIVES),
    "mixed the other way": (put_into_bucket("talk", "gone"), ["dead_lettered", "published"], GIVES + 2),
    "tombstone": (None, [], 1),
}
CALLS = [
    pytest.param(value, number, id=f"{name}-{number}")
    for name, (value, _, num_calls) in ENDS.items()
    for number in range(num_calls)
]


@pytest.fixture
def house() -> House:
    return House()


# --- the ends ---


@pytest.mark.parametrize(("value", "outcomes", "num_calls"), ENDS.values(), ids=ENDS)
def test_a_record_ends_once_and_with_the_last_that_is_sent(
    value: bytes | None, outcomes: list[str], num_calls: int, house: House
) -> None:
    record = house.job(value)
    assert house.work(record) == outcomes
    assert len(house.outbox.sends) == num_calls
    assert house.outbox.finished == [record.claim]
    assert house.outbox.hows[-1] == "finish"


def test_a_good_upload_is_published(house: House) -> None:
    assert house.work(house.job(GOOD)) == ["published"]
    *partials, final = house.outbox.tags
    assert [event.data.status.revision for event in house.outbox.tags] == list(range(1, len(partials) + 2))
    assert {event.data.status.stage for event in partials} == {"partial"}
    assert final.data.status.stage == "final"
    assert house.outbox.cases
    assert {case.data.tags_event_id for case in house.outbox.cases} < {event.id for event in house.outbox.tags}
    for topic in (KAFKA.tags_topic, KAFKA.cases_topic):
        assert {(record.key, record.partition) for record in house.outbox.of(topic)} == {(b"a", None)}
    assert (house.outbox.letters, house.outbox.retries) == ([], [])


def test_of_two_uploads_the_one_that_fails_is_a_dead_letter_and_the_other_is_published(house: House) -> None:
    mixed = house.job(put_into_bucket("gone", "talk"))
    assert house.work(mixed) == ["dead_lettered", "published"]
    ((event, headers, _),) = house.outbox.letters
    assert event.data.video_id == "media/gone.mp4"
    assert headers["x-dlq-orig-value"] == mixed.value
    assert headers["x-retry-upload"] == b"0"
    assert {tags.data.video.id for tags in house.outbox.tags} == {"media/talk.mp4"}


def test_a_record_of_which_nothing_can_be_read_leaves_no_progress(house: House) -> None:
    assert house.work(house.job(UNREADABLE)) == ["dead_lettered"]
    (letter,) = house.outbox.letters
    assert (letter.event.data.reason, letter.headers["x-dlq-orig-value"]) == ("not_json", UNREADABLE)
    assert "x-retry-upload" not in letter.headers
    assert house.outbox.progress == {}


# --- the progress ---


def test_the_attempt_is_stored_before_the_media_are_opened(house: House) -> None:
    stored: list[dict[str, bytes]] = []
    house.on_open = lambda upload: stored.append(house.outbox.progress)
    house.work(house.job(GOOD))
    assert house.outbox.hows[0] == "store"
    ((value,),) = (progress.values() for progress in stored)
    assert json.loads(value) == {
        "schema": 1,
        "video": "a",
        "order": 7,
        "at_ms": UPLOADED_MS,
        "place": f"{KAFKA.uploads_topic}/3/7/0",
        "pipeline": "1-test",
        "outcome": "working",
        "attempt": 1,
        "deaths": 0,
        "tenure": house.ledger.tenure,
        "revision": 0,
    }


def test_each_window_goes_out_with_a_checkpoint_that_says_so(house: House) -> None:
    house.work(house.job(GOOD))
    _, *windows, _ = house.outbox.sends
    assert {sent.how for sent in windows} == {"put"}
    reached: list[tuple[int, int, str]] = []
    for sent in windows:
        progress = json.loads(sent.records[-1].value or b"")
        reached.append((progress["checkpoint"]["next_window"], progress["revision"], progress["latest"]))
        events = [record for record in sent.records if record.topic == KAFKA.tags_topic]
        assert all(json.loads(event.value or b"")["id"] == progress["latest"] for event in events)
    revisions = [(event.data.status.revision, event.id) for event in house.outbox.tags[:-1]]
    assert [window for window, _, _ in reached] == list(range(1, NUM_WINDOWS + 1))
    assert list(dict.fromkeys((number, latest) for _, number, latest in reached)) == revisions
    assert len(revisions) < NUM_WINDOWS  # and some windows said nothing new


def test_the_final_event_takes_the_place_of_the_progress(house: House) -> None:
    house.work(house.job(GOOD))
    *_, tombstone, memory = house.outbox.sends[-1].records
    assert (tombstone.topic, tombstone.value) == (KAFKA.progress_topic, None)
    assert memory.key == b"finished/" + (tombstone.key or b"")
    assert len(house.outbox.progress) == 1
    remembered = json.loads(memory.value or b"")
    final = house.outbox.tags[-1]
    assert (remembered["outcome"], remembered["latest"]) == ("published", final.id)
    assert (remembered["version"], remembered["revision"]) == ("v1", final.data.status.revision)
    assert "checkpoint" not in remembered


def test_a_dead_letter_goes_out_with_where_the_work_stood(house: House) -> None:
    house.on_window = Fails(4, GONE)
    assert house.work(house.job(GOOD)) == ["dead_lettered"]
    letter, progress = house.outbox.sends[-1].records
    assert (letter.topic, progress.topic) == (KAFKA.dead_letter_topic, KAFKA.progress_topic)
    assert house.stands()["outcome"] == "dead_lettered"
    assert house.stands()["checkpoint"]["next_window"] == 4


# --- refusals: what Kafka will not take ---


@pytest.mark.parametrize(("value", "number"), CALLS)
def test_a_result_that_kafka_refuses_makes_one_dead_letter_of_the_record(
    value: bytes | None, number: int, house: House
) -> None:
    house.outbox.on_send = at(number, REFUSAL)
    record = house.job(value)
    assert house.work(record) == ["dead_lettered"]
    assert house.outbox.num_calls == number + 2  # those before, the refused one, and the dead letter
    (letter,) = [letter for letter in house.outbox.letters if letter.of_record]
    assert (letter.event.data.reason, letter.event.data.stage) == ("result_refused", STAGE)
    assert letter.event == house.outbox.letters[-1].event
    assert house.outbox.finished == [record.claim]


def test_a_result_that_was_refused_has_killed_nobody(house: House) -> None:
    house.outbox.on_send = at(4, REFUSAL)
    house.work(house.job(GOOD))
    house.move_in()
    stored = len(house.outbox.sends)
    assert house.work(house.job(GOOD, 8)) == ["published"]
    (begun,) = house.outbox.sends[stored].records
    assert json.loads(begun.value or b"")["deaths"] == 0


@pytest.mark.parametrize("value", [GOOD, BAD, UNREADABLE], ids=["good", "bad", "unreadable"])
def test_a_refused_dead_letter_is_an_error_that_ends_the_process(value: bytes, house: House) -> None:
    def refuse(number: int) -> None:
        raise REFUSAL

    house.outbox.on_send = refuse
    with pytest.raises(TagstreamError, match="Kafka refuses a dead letter"):
        house.worker.work(house.job(value))
    assert house.outbox.finished == []


def test_an_outbox_that_closes_before_a_refused_record_is_buried_gives_it_back(house: House) -> None:
    def refuse(number: int) -> None:
        raise Abandoned("the outbox is closed") if number else REFUSAL

    house.outbox.on_send = refuse
    assert house.work(house.job(GOOD)) == ["abandoned"]
    assert house.outbox.sends == []


# --- given back ---


@pytest.mark.parametrize(("value", "number"), CALLS)
def test_an_outbox_that_closes_gives_the_record_back(value: bytes | None, number: int, house: House) -> None:
    house.outbox.on_send = closed_from(number)
    assert house.work(house.job(value)) == ["abandoned"]
    assert house.outbox.num_calls == number + 1
    assert house.outbox.finished == []


@pytest.mark.parametrize("error", [GONE, SLOW], ids=["for good", "for now"])
def test_a_job_that_is_cancelled_while_its_media_fail_is_given_back(error: Exception, house: House) -> None:
    cancelled = house.job(GOOD)
    house.on_open = lambda upload: cancelled.cancelled.set()
    house.on_window = Fails(0, error)
    assert house.work(cancelled) == ["abandoned"]
    assert (house.outbox.letters, house.outbox.retries, house.outbox.finished) == ([], [], [])


@pytest.mark.parametrize("number", range(NUM_WINDOWS))
def test_a_job_that_is_cancelled_while_a_window_is_read_publishes_no_more(number: int, house: House) -> None:
    cancelled = house.job(GOOD)

    def cancel(passage: Passage) -> None:
        if f"part {number} " in passage.text:
            cancelled.cancelled.set()

    house.on_read = cancel
    assert house.work(cancelled) == ["abandoned"]
    assert [sent.how for sent in house.outbox.sends] == ["store", *["put"] * number]


def test_a_job_that_is_cancelled_before_the_end_publishes_nothing_final(house: House) -> None:
    cancelled = house.job(GOOD)

    def cancel(number: int) -> None:
        if number == NUM_WINDOWS:  # that of the last window
            cancelled.cancelled.set()

    house.outbox.on_send = cancel
    assert house.work(cancelled) == ["abandoned"]
    assert house.outbox.tags[-1].data.status.stage == "partial"
    assert house.outbox.finished == []


@pytest.mark.parametrize("value", [GOOD, BAD, UNREADABLE], ids=["good", "bad", "unreadable"])
def test_a_job_that_is_cancelled_before_it_began_publishes_nothing(value: bytes, house: House) -> None:
    cancelled = house.job(value)
    cancelled.cancelled.set()
    assert house.work(cancelled) == ["abandoned"]
    assert (house.outbox.tags, house.outbox.letters, house.outbox.finished) == ([], [], [])


def test_a_job_that_waits_for_another_upload_of_its_video_is_given_back_when_it_is_cancelled(house: House) -> None:
    first, second = house.job(GOOD), house.job(uploaded("a", content_version="v2"), offset=8)
    second.cancelled.set()
    ends: list[bool] = []
    other = threading.Thread(target=lambda: ends.append(house.worker.work(second)), daemon=True)

    def meet(upload: VideoUploaded) -> None:
        house.on_open = lambda upload: None
        other.start()
        other.join(20)

    house.on_open = meet
    assert house.worker.work(first)
    assert ends == [False]
    assert house.opened == ["a"]


@pytest.mark.parametrize("number", range(1, NUM_WINDOWS + 1))
def test_a_job_that_has_to_leave_is_given_back_after_the_window_in_hand(number: int, house: House) -> None:
    leaving = house.job(GOOD)

    def leave(called: int) -> None:
        if called == number:
            leaving.leaving.set()

    house.outbox.on_send = leave
    assert house.work(leaving) == ["abandoned"]
    assert len(house.outbox.sends) == number + 1
    assert house.outbox.finished == []


def test_a_job_that_has_to_leave_at_its_last_event_ends(house: House) -> None:
    leaving = house.job(GOOD)

    def leave(called: int) -> None:
        if called == GIVES - 1:
            leaving.leaving.set()

    house.outbox.on_send = leave
    assert house.work(leaving) == ["published"]
    assert house.outbox.finished == [leaving.claim]


def test_a_record_that_has_to_leave_between_two_uploads_begins_no_other(house: House) -> None:
    leaving = house.job(put_into_bucket("a", "b"))

    def leave(called: int) -> None:
        if called == GIVES - 1:
            leaving.leaving.set()

    house.outbox.on_send = leave
    assert house.work(leaving) == ["abandoned"]
    assert house.opened == ["media/a.mp4"]
    assert house.work(house.again(leaving)) == ["duplicate", "published"]
