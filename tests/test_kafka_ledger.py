import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from consumer.kafka.ledger import SCHEMA, Arrival, Entry, Ledger, Verdict

MAX_DEATHS = 3
FIRST = Arrival("upload-1", "video", 7, "uploads/0/7/0")


class Topic:
    """One partition of the progress topic: what its owners write, one after the other."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.ledger = Ledger()

    def write(self, key: str, entry: Entry) -> None:
        for name, value in self.ledger.records(key, entry):
            self.records.pop(name, None)
            if value is not None:
                self.records[name] = value
        self.ledger.keep(key, entry)

    def begin(self, arrival: Arrival = FIRST, **reached: Any) -> Entry:
        """Work on the arrival has begun, and come so far."""
        entry = replace(self.ledger.begin(arrival, "p1"), **reached)
        self.write(arrival.key, entry)
        return entry

    def end(self, outcome: str, arrival: Arrival = FIRST, **reached: Any) -> None:
        """The arrival's work has come to this end."""
        self.begin(arrival, outcome=outcome, **reached)

    def change_owner(self, remembered: int = 20_000) -> None:
        self.ledger = Ledger(self.records, remembered)

    def leave(self) -> None:
        """The owner gives the partition up in peace."""
        key, value = self.ledger.farewell()
        self.records[key] = value
        self.change_owner()

    def verdict(self, arrival: Arrival = FIRST) -> Verdict:
        """The same for the owner that wrote the progress, and for one that reads it."""
        here = self.ledger.verdict(arrival, MAX_DEATHS)
        assert Ledger(self.records).verdict(arrival, MAX_DEATHS) is here
        return here


def unreadable(why: str) -> float:
    return REGISTRY.get_sample_value("tagstream_progress_unreadable_total", {"why": why}) or 0.0


def retried(arrival: Arrival = FIRST, attempt: int = 2) -> Arrival:
    """The upload, as it comes from the retry topic."""
    return replace(arrival, place=f"retry/0/{attempt}/0", attempt=attempt, retried=True)


def redriven(arrival: Arrival = FIRST) -> Arrival:
    """The upload, as it comes from the retry topic when a person has sent its dead letter back."""
    return replace(arrival, place="retry/0/99/0", attempt=1, retried=True)


# --- what to do with an upload that arrives ---


def test_an_upload_nobody_knows_is_worked_on() -> None:
    assert Topic().verdict() is Verdict.WORK


def test_an_upload_whose_work_was_cut_off_is_worked_on_and_goes_on_where_it_stands() -> None:
    topic = Topic()
    topic.begin(version="v", revision=3, latest="e3", checkpoint={"window": 4})
    topic.change_owner()
    assert topic.verdict() is Verdict.WORK
    again = topic.ledger.begin(FIRST, "p1")
    assert (again.version, again.revision, again.latest, again.checkpoint) == ("v", 3, "e3", {"window": 4})
    assert again.tenure == topic.ledger.tenure


def test_a_finished_upload_that_comes_again_is_the_workers_to_compare_by_its_content() -> None:
    topic = Topic()
    topic.end("published", version="v", latest="e9")
    assert topic.verdict() is Verdict.WORK
    assert topic.ledger.entry(FIRST.key) is None
    finished = topic.ledger.finished(FIRST.key)
    assert finished
    assert (finished.pipeline, finished.version, finished.latest) == ("p1", "v", "e9")


@pytest.mark.parametrize("outcome", ["retrying", "dead_lettered"])
def test_a_record_that_comes_again_is_not_worked_on_for_an_upload_it_has_brought_to_its_end(outcome: str) -> None:
    topic = Topic()
    topic.end(outcome)
    assert topic.verdict() is Verdict.SETTLED


def test_of_a_record_with_several_uploads_only_the_unfinished_one_is_worked_on_again() -> None:
    topic = Topic()
    uploads = [Arrival(f"upload-{n}", f"video-{n}", 7, f"uploads/0/7/{n}") for n in range(4)]
    topic.end("retrying", uploads[0])
    topic.end("dead_lettered", uploads[1])
    topic.begin(uploads[2])
    topic.change_owner()
    assert [topic.verdict(upload) for upload in uploads] == [
        Verdict.SETTLED,
        Verdict.SETTLED,
        Verdict.WORK,
        Verdict.WORK,
    ]


def test_a_retry_is_worked_on_and_its_redelivery_is_not() -> None:
    topic = Topic()
    topic.end("retrying")
    assert topic.verdict(retried()) is Verdict.WORK
    topic.end("retrying", retried())
    assert topic.verdict(retried()) is Verdict.SETTLED
    assert topic.verdict(retried(attempt=3)) is Verdict.WORK


def test_only_the_next_attempt_is_the_awaited_retry() -> None:
    topic = Topic()
    topic.end("retrying", retried(attempt=3))
    assert topic.verdict(retried(attempt=2)) is Verdict.DUPLICATE
    assert topic.verdict(retried(attempt=5)) is Verdict.DUPLICATE
    assert topic.verdict(replace(retried(attempt=4), retried=False)) is Verdict.DUPLICATE


def test_an_upload_that_waits_for_its_retry_is_not_tagged_a_second_time_beside_it() -> None:
    topic = Topic()
    topic.end("retrying")
    assert topic.verdict(replace(FIRST, order=8, place="uploads/0/8/0")) is Verdict.DUPLICATE


def test_an_upload_that_was_dead_lettered_is_worked_on_when_it_is_sent_or_redriven_again() -> None:
    topic = Topic()
    topic.end("dead_lettered")
    assert topic.verdict(redriven()) is Verdict.WORK
    assert topic.verdict(replace(FIRST, order=8, place="uploads/0/8/0")) is Verdict.WORK


@pytest.mark.parametrize("outcome", ["working", "retrying", "dead_lettered", "published"])
def test_an_upload_is_superseded_by_a_newer_one_of_its_video_however_far_that_has_come(outcome: str) -> None:
    topic = Topic()
    topic.end("retrying")
    newer = Arrival("upload-2", "video", 9, "uploads/0/9/0")
    topic.end(outcome, newer)
    assert topic.verdict(retried()) is Verdict.SUPERSEDED
    assert topic.verdict() is Verdict.SUPERSEDED
    assert topic.verdict(replace(retried(), video="another")) is Verdict.WORK


def test_an_upload_of_a_topic_made_anew_is_newer_by_its_time_though_its_offset_is_smaller() -> None:
    topic = Topic()
    topic.end("published", replace(FIRST, order=900, at_ms=1000), latest="e1")
    anew = Arrival("upload-2", "video", 3, "uploads/0/3/0", at_ms=2000)
    assert topic.verdict(anew) is Verdict.WORK
    topic.begin(anew, latest="e2")
    for ledger in (topic.ledger, Ledger(topic.records)):
        assert ledger.last_event("video") == "e2"


def test_an_upload_with_an_earlier_time_is_newer_by_its_offset() -> None:
    """Times are the uploader's, and may stand still."""
    topic = Topic()
    topic.end("published", replace(FIRST, order=9, at_ms=1000))
    assert topic.verdict(replace(FIRST, key="upload-2", order=8, at_ms=1000)) is Verdict.SUPERSEDED
    assert topic.verdict(replace(FIRST, key="upload-2", order=10, at_ms=500)) is Verdict.WORK


def test_an_older_upload_supersedes_nothing() -> None:
    topic = Topic()
    topic.end("retrying", Arrival("upload-0", "video", 3, "uploads/0/3/0"))
    assert topic.verdict() is Verdict.WORK


def test_a_newer_copy_of_an_upload_does_not_supersede_the_upload_itself() -> None:
    topic = Topic()
    topic.end("published", replace(FIRST, order=9, place="uploads/0/9/0"))
    assert topic.verdict() is Verdict.WORK


def test_a_retry_keeps_the_upload_as_new_as_its_newest_copy() -> None:
    topic = Topic()
    topic.end("dead_lettered", replace(FIRST, order=9, place="uploads/0/9/0"))
    entry = topic.begin(redriven())
    assert entry.order == 9
    assert topic.verdict(Arrival("upload-2", "video", 8, "uploads/0/8/0")) is Verdict.SUPERSEDED


# --- who died over it ---


def test_an_upload_that_has_killed_three_processes_is_poison() -> None:
    topic = Topic()
    for deaths in range(MAX_DEATHS):
        assert topic.ledger.deaths(FIRST.key) == deaths
        assert topic.ledger.verdict(FIRST, MAX_DEATHS) is Verdict.WORK
        assert topic.begin().deaths == deaths
        topic.change_owner()
    assert topic.ledger.deaths(FIRST.key) == MAX_DEATHS
    assert topic.ledger.verdict(FIRST, MAX_DEATHS) is Verdict.POISON


def test_progress_forgives_the_deaths_before_it() -> None:
    topic = Topic()
    for _ in range(MAX_DEATHS - 1):
        topic.begin()
        topic.change_owner()
    topic.begin(deaths=0, revision=1)  # as the worker writes it after each window
    topic.change_owner()
    assert topic.ledger.deaths(FIRST.key) == 1


def test_an_owner_that_leaves_in_peace_has_not_died_over_what_it_leaves() -> None:
    topic = Topic()
    topic.begin()
    topic.change_owner()
    topic.begin()
    topic.leave()
    assert topic.ledger.deaths(FIRST.key) == 1


def test_an_owner_that_leaves_in_peace_says_so_for_those_before_whose_work_it_has_not_taken_up() -> None:
    topic = Topic()
    for _ in range(MAX_DEATHS):
        topic.begin()
        topic.leave()
        topic.leave()  # an owner that never got to it
    assert topic.ledger.deaths(FIRST.key) == 0


def test_a_farewell_is_no_longer_than_what_is_unfinished() -> None:
    topic = Topic()
    for number in range(5):
        topic.end("published", replace(FIRST, key=f"{number}"))
        topic.leave()
    assert topic.records["left"].decode().count(" ") == 0


def test_a_farewell_speaks_for_the_one_who_wrote_it_only() -> None:
    topic = Topic()
    topic.leave()
    topic.begin()
    topic.change_owner()
    assert topic.ledger.deaths(FIRST.key) == 1


def test_taking_up_an_upload_twice_in_one_tenure_is_no_death() -> None:
    topic = Topic()
    topic.begin()
    assert topic.begin().deaths == 0
    assert topic.ledger.verdict(FIRST, 1) is Verdict.WORK


@pytest.mark.parametrize("outcome", ["retrying", "dead_lettered", "published"])
def test_nobody_dies_over_an_upload_that_is_not_at_work(outcome: str) -> None:
    topic = Topic()
    topic.end(outcome)
    topic.change_owner()
    assert topic.ledger.deaths(FIRST.key) == 0


# --- what is remembered ---


def test_so_many_finished_uploads_are_remembered_and_the_oldest_is_forgotten_with_all_its_traces() -> None:
    topic = Topic()
    topic.change_owner(remembered=2)
    for number in range(3):
        topic.end(
            "published", Arrival(f"u{number}", f"v{number}", number, f"uploads/0/{number}/0"), latest=f"e{number}"
        )
    assert [topic.ledger.finished(f"u{number}") is not None for number in range(3)] == [False, True, True]
    assert [topic.ledger.last_event(f"v{number}") for number in range(3)] == [None, "e1", "e2"]
    assert Ledger(topic.records, remembered=2).finished("u0") is None
    older = Arrival("older", "v0", -1, "uploads/0/0/1")
    assert topic.ledger.verdict(older, MAX_DEATHS) is Verdict.WORK


def test_an_upload_that_is_finished_again_is_remembered_as_the_last() -> None:
    topic = Topic()
    topic.change_owner(remembered=2)
    for key in ("a", "b", "a", "c"):
        topic.end("published", Arrival(key, key, 1, key))
    assert [topic.ledger.finished(key) is not None for key in "abc"] == [True, False, True]
    again = Ledger(topic.records, remembered=2)
    assert [again.finished(key) is not None for key in "abc"] == [True, False, True]


def test_forgetting_an_old_version_of_a_video_leaves_the_newer_one_known() -> None:
    topic = Topic()
    topic.change_owner(remembered=1)
    topic.end("published", Arrival("old", "video", 1, "1"), latest="e1")
    topic.begin(Arrival("new", "video", 2, "2"), latest="e2")
    topic.end("published", Arrival("another", "another", 3, "3"), latest="e3")
    assert topic.ledger.finished("old") is None
    assert topic.ledger.last_event("video") == "e2"
    assert topic.ledger.verdict(Arrival("old", "video", 1, "1"), MAX_DEATHS) is Verdict.SUPERSEDED


def test_the_last_event_of_a_video_is_that_of_its_newest_upload_finished_or_not() -> None:
    topic = Topic()
    topic.end("published", Arrival("new", "video", 9, "9"), latest="e9")
    topic.end("published", Arrival("old", "video", 7, "7"), latest="e7")
    topic.begin(Arrival("silent", "video", 10, "10"))
    for ledger in (topic.ledger, Ledger(topic.records)):
        assert ledger.last_event("video") == "e9"
        assert ledger.last_event("another") is None
    topic.begin(Arrival("newest", "video", 11, "11"), latest="e11")
    for ledger in (topic.ledger, Ledger(topic.records)):
        assert ledger.last_event("video") == "e11"


def test_so_many_dead_letters_are_remembered_and_work_that_is_not_finished_is_never_forgotten() -> None:
    topic = Topic()
    topic.change_owner(remembered=2)
    topic.begin(Arrival("at work", "w", 1, "1"))
    topic.end("retrying", Arrival("waits", "r", 1, "2"))
    for number in range(3):
        topic.end("dead_lettered", Arrival(f"d{number}", f"v{number}", number, f"place {number}"))
    topic.begin(Arrival("d1", "v1", 1, "place 1", retried=True))  # no longer a dead letter
    topic.end("dead_lettered", Arrival("d3", "v3", 3, "place 3"))
    for ledger in (topic.ledger, Ledger(topic.records, remembered=2)):
        known = [key for key in ("at work", "waits", "d0", "d1", "d2", "d3") if ledger.entry(key)]
        assert known == ["at work", "waits", "d1", "d2", "d3"]


def test_what_is_forgotten_leaves_a_tombstone_where_there_was_something() -> None:
    topic = Topic()
    topic.begin()
    assert topic.ledger.forget(FIRST.key) == [(FIRST.key, None)]
    assert topic.ledger.entry(FIRST.key) is None
    assert topic.ledger.forget(FIRST.key) == []


def test_what_is_at_work_of_a_record_is_found_by_its_place() -> None:
    topic = Topic()
    topic.begin(Arrival("a", "v1", 7, "uploads/0/7/0"))
    topic.begin(Arrival("b", "v2", 7, "uploads/0/7/1"))
    topic.end("retrying", Arrival("c", "v3", 7, "uploads/0/7/2"))
    topic.begin(Arrival("d", "v4", 70, "uploads/0/70/0"))
    assert list(topic.ledger.at_work("uploads/0/7/")) == ["a", "b"]


def test_work_on_a_finished_upload_that_begins_anew_leaves_the_memory_of_it_until_it_ends() -> None:
    topic = Topic()
    topic.end("published", version="v", latest="e1")
    topic.begin(version="w")
    for ledger in (topic.ledger, Ledger(topic.records)):
        assert ledger.entry(FIRST.key).version == "w"  # type: ignore[union-attr]
        assert ledger.finished(FIRST.key).version == "v"  # type: ignore[union-attr]


# --- what is written, and what is read ---

TEXTS = st.text(max_size=8)
ENTRIES = st.builds(
    Entry,
    video=st.sampled_from(["v1", "v2"]),
    order=st.integers(0, 5),
    place=TEXTS,
    pipeline=TEXTS,
    outcome=st.sampled_from(["working", "retrying", "dead_lettered", "published"]),
    attempt=st.integers(1, 9),
    deaths=st.integers(0, 9),
    tenure=TEXTS,
    version=st.none() | TEXTS,
    revision=st.integers(0, 99),
    latest=st.none() | TEXTS.filter(bool),
    checkpoint=st.none() | st.dictionaries(TEXTS, st.integers() | st.lists(TEXTS)),
)


@examples(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "left"]), ENTRIES), max_size=12))
def test_an_owner_that_reads_the_progress_knows_what_the_one_knew_that_wrote_it(
    entries: list[tuple[str, Entry]],
) -> None:
    topic = Topic()
    for key, entry in entries:
        topic.write(f"upload-{key}", entry)
    reader = Ledger(topic.records)
    for key in ("upload-a", "upload-b", "upload-c", "upload-left"):
        assert reader.entry(key) == topic.ledger.entry(key)
        assert reader.finished(key) == topic.ledger.finished(key)


def test_what_is_finished_leaves_a_tombstone_and_a_marker() -> None:
    topic = Topic()
    entry = replace(topic.begin(), outcome="published")
    assert topic.ledger.records(FIRST.key, entry) == [(FIRST.key, None), ("finished/upload-1", entry.to_json())]
    assert json.loads(entry.to_json())["schema"] == SCHEMA


def test_a_checkpoint_too_large_for_a_record_is_left_out() -> None:
    small, large = ({"text": "x" * size} for size in (1000, 2_000_000))
    entry = Topic().begin(revision=3, checkpoint=small)
    assert json.loads(entry.to_json())["checkpoint"] == small
    value = replace(entry, checkpoint=large).to_json()
    assert len(value) < 1000
    assert Ledger({"upload-1": value}).entry("upload-1") == replace(entry, checkpoint=None)


def written(**changes: Any) -> bytes:
    known: Mapping[str, Any] = json.loads(Entry("video", 7, "place", "p1", version="v", revision=2).to_json())
    return json.dumps({name: value for name, value in {**known, **changes}.items() if value != "gone"}).encode()


def test_of_a_newer_schema_what_keeps_its_meaning_is_read_and_it_is_counted() -> None:
    before = unreadable("newer")
    value = written(schema=SCHEMA + 1, outcome="paused", checkpoint=[1], place={"new": 1}, latest="e2", more="x")
    ledger = Ledger({"upload-1": value})
    entry = ledger.entry("upload-1")
    assert entry
    assert (entry.video, entry.order, entry.pipeline, entry.version) == ("video", 7, "p1", "v")
    assert (entry.revision, entry.latest, entry.checkpoint, entry.deaths) == (2, "e2", None, 0)
    assert ledger.verdict(FIRST, MAX_DEATHS) is Verdict.WORK
    assert unreadable("newer") == before + 1


def test_of_a_newer_schema_what_is_finished_is_known_as_finished() -> None:
    value = written(schema=SCHEMA + 1, outcome="well", latest="e2")
    ledger = Ledger({"finished/upload-1": value})
    finished = ledger.finished("upload-1")
    assert finished
    assert (finished.pipeline, finished.version, finished.revision) == ("p1", "v", 2)
    assert ledger.last_event("video") == "e2"
    assert ledger.entry("upload-1") is None


def test_of_an_older_schema_what_keeps_its_meaning_is_read_and_it_is_counted() -> None:
    before = unreadable("older")
    assert Ledger({"upload-1": written(schema=SCHEMA - 1, checkpoint={"x": 1})}).entry("upload-1")
    assert unreadable("older") == before + 1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"null",
        b"17",
        b"[]",
        b"{}",
        b'"schema"',
        b"[" * 200_000,
        written(schema="new"),
        written(schema=None),
        written(schema="gone"),
        written(schema=SCHEMA + 1, order="gone"),
        written(schema=SCHEMA + 1, revision="2"),
        written(video="gone"),
        written(video=None),
        written(order="7"),
        written(place=7),
        written(pipeline=["p"]),
        written(outcome="lost"),
        written(outcome=["working"]),
        written(attempt=1.5),
        written(deaths="3"),
        written(tenure=None),
        written(version=1),
        written(revision="2"),
        written(latest={}),
        written(checkpoint="far"),
        written(unheard_of=1),
    ],
)
@pytest.mark.parametrize("key", ["upload-1", "finished/upload-1"])
def test_broken_progress_is_counted_and_the_upload_starts_over(key: str, value: bytes) -> None:
    before = unreadable("broken")
    ledger = Ledger({key: value, "upload-2": written()})
    assert ledger.entry("upload-1") is None
    assert ledger.finished("upload-1") is None
    assert ledger.verdict(replace(FIRST, video="its own"), MAX_DEATHS) is Verdict.WORK
    assert ledger.entry("upload-2")
    assert unreadable("broken") == before + 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["schema", *Entry.__slots__])


@examples(deadline=None)
@given(st.binary() | st.dictionaries(NAMES, JSON).map(lambda known: json.dumps(known).encode()), st.booleans())
def test_no_progress_breaks_an_owner(value: bytes, finished: bool) -> None:
    key = "finished/upload-1" if finished else "upload-1"
    ledger = Ledger({key: value, "left": value})
    ledger.verdict(FIRST, MAX_DEATHS)
    ledger.records(FIRST.key, ledger.begin(FIRST, "p1"))


@examples(deadline=None)
@given(NAMES, JSON)
def test_whatever_stands_in_one_field_an_owner_goes_on(name: str, value: Any) -> None:
    ledger = Ledger({"upload-1": json.dumps(json.loads(written()) | {name: value}).encode()})
    ledger.verdict(FIRST, MAX_DEATHS)
    ledger.keep(FIRST.key, ledger.begin(FIRST, "p1"))
