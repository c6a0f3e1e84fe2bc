"""The same upload again, and another content version of a video: one set of revisions each, and the newest wins."""

from dataclasses import replace

import pytest

from tests.stand_ins import GONE, NUM_WINDOWS, SLOW, UPLOADED_MS, Died, Fails, House, at, newer, undisturbed, uploaded

VALUE = uploaded("a")


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(("told", "opened"), [({}, 2), ({"content_version": "v1"}, 1)], ids=["undeclared", "declared"])
@pytest.mark.parametrize("moved", [False, True], ids=["same owner", "next owner"])
def test_the_same_upload_twice_gives_one_set_of_revisions(
    told: dict[str, str], opened: int, moved: bool, house: House
) -> None:
    value = uploaded("a", **told)
    assert house.work(house.job(value)) == ["published"]
    if moved:
        house.move_in()
    remembered = house.outbox.progress
    assert house.work(house.job(value, 8)) == ["duplicate"]
    assert house.outbox.lasting == undisturbed(value)
    assert house.outbox.progress == remembered
    assert len(house.opened) == opened
    assert len(house.outbox.finished) == 2


def test_a_finished_upload_whose_media_are_gone_by_now_is_a_duplicate_where_its_version_is_declared(
    house: House,
) -> None:
    assert house.work(house.job(uploaded("a", content_version="v1"))) == ["published"]
    assert house.work(house.job(uploaded("a", "/gone.mp4", content_version="v1"), 8)) == ["duplicate"]


def test_an_owner_who_dies_over_a_duplicate_leaves_it_one(house: House) -> None:
    house.work(house.job(VALUE))
    house.outbox.on_send = at(house.outbox.num_calls + 1, Died())
    house.dies(house.job(VALUE, 8))
    assert house.work(house.job(VALUE, 8)) == ["duplicate"]
    assert house.outbox.lasting == undisturbed(VALUE)


@pytest.mark.parametrize("moved", [False, True], ids=["same owner", "next owner"])
def test_the_same_upload_of_a_file_that_has_changed_supersedes(moved: bool, house: House) -> None:
    house.work(house.job(VALUE))
    last = house.outbox.tags[-1].id
    house.version = 2
    if moved:
        house.move_in()
    num_before = len(house.outbox.tags)
    assert house.work(house.job(VALUE, 8)) == ["published"]
    supersedes(house, num_before, last)
    assert {event.data.video.content_version for event in house.outbox.tags[num_before:]} == {"v2"}


def test_another_title_makes_no_other_upload_of_it(house: House) -> None:
    house.work(house.job(VALUE))
    assert house.work(house.job(uploaded("a", title="Another title"), 8)) == ["duplicate"]
    assert house.outbox.lasting == undisturbed(VALUE)


NEW_VERSION = uploaded("a", content_version="v2")


@pytest.mark.parametrize("stop", [None, 0, 1, 2, NUM_WINDOWS + 1])
def test_another_content_version_supersedes_wherever_its_work_was_stopped(stop: int | None, house: House) -> None:
    house.work(house.job(VALUE))
    last, num_before = house.outbox.tags[-1].id, len(house.outbox.tags)
    if stop is not None:
        house.outbox.on_send = at(house.outbox.num_calls + stop, Died())
        house.dies(house.job(NEW_VERSION, 8))
    assert house.work(house.job(NEW_VERSION, 8)) == ["published"]
    supersedes(house, num_before, last)


def test_an_upload_of_before_that_comes_again_is_superseded(house: House) -> None:
    house.work(house.job(VALUE, 7))
    house.work(house.job(NEW_VERSION, 8))
    house.move_in()
    sent, opened = len(house.outbox.sends), len(house.opened)
    assert house.work(house.job(VALUE, 7)) == ["superseded"]
    assert [(how, records) for how, _, records in house.outbox.sends[sent:]] == [("finish", ())]
    assert len(house.opened) == opened


def test_an_upload_that_comes_again_after_another_version_is_the_newest(house: House) -> None:
    old, new = uploaded("a", content_version="v1"), NEW_VERSION
    house.on_window = Fails(4, GONE)
    assert house.work(house.job(old, 7)) == ["dead_lettered"]
    house.on_window = Fails(4, SLOW)
    assert house.work(house.job(new, 8)) == ["retrying"]
    assert house.work(house.job(old, 9)) == ["published"]
    assert house.work(house.retry()) == ["superseded"]


def test_an_upload_in_a_topic_that_was_made_anew_is_not_superseded_by_its_offset(house: House) -> None:
    house.work(house.job(VALUE, 7))
    last, num_before = house.outbox.tags[-1].id, len(house.outbox.tags)
    house.move_in()
    later = replace(house.job(NEW_VERSION, 0), timestamp_ms=UPLOADED_MS + 1)
    assert house.work(later) == ["published"]
    supersedes(house, num_before, last)


def test_a_new_pipeline_tags_anew_and_supersedes(house: House) -> None:
    house.work(house.job(VALUE))
    last, num_before = house.outbox.tags[-1].id, len(house.outbox.tags)
    house.pipeline = "2-test"
    house.move_in()
    assert house.work(house.job(VALUE, 8)) == ["published"]
    supersedes(house, num_before, last)
    assert {event.data.provenance.pipeline for event in house.outbox.tags[num_before:]} == {"2-test"}


@pytest.mark.parametrize("change", ["pipeline", "version"])
def test_a_checkpoint_of_other_media_or_another_pipeline_is_not_gone_on_with(change: str, house: House) -> None:
    house.outbox.on_send = at(4, Died())
    house.dies(house.job(VALUE))
    num_before, heard = len(house.outbox.tags), len(house.heard)
    if change == "pipeline":
        house.pipeline = "2-test"
    else:
        house.version = 2
    house.move_in()
    assert house.work(house.job(VALUE)) == ["published"]
    assert house.heard[heard:] == [("a", index) for index in range(NUM_WINDOWS)]
    assert [event.data.status.revision for event in house.outbox.tags[num_before:]][:2] == [1, 2]
    assert len({event.id for event in house.outbox.tags}) == len(house.outbox.tags)


@pytest.mark.parametrize("error", [SLOW, GONE], ids=["waits for its retry", "is a dead letter"])
def test_another_content_version_supersedes_an_unfinished_version(error: Exception, house: House) -> None:
    house.on_window = Fails(4, error)
    house.work(house.job(uploaded("a", content_version="v1")))
    last, num_before = house.outbox.tags[-1].id, len(house.outbox.tags)
    assert house.work(house.job(NEW_VERSION, 8)) == ["published"]
    supersedes(house, num_before, last)


def supersedes(house: House, num_before: int, last: str) -> None:
    """The events from there on are revisions of their own, the first of which supersedes that event."""
    *partials, final = house.outbox.tags[num_before:]
    chain = [event.data.status.supersedes for event in (*partials, final)]
    assert chain == [last, *(event.id for event in partials)]
    assert [event.data.status.revision for event in (*partials, final)] == list(range(1, len(partials) + 2))
    assert final.data.status.stage == "final"
    assert len({event.id for event in house.outbox.tags}) == len(house.outbox.tags)


def test_what_a_newer_version_finished_is_superseded(house: House) -> None:
    house.work(house.job(VALUE))
    last, num_before = house.outbox.tags[-1].id, len(house.outbox.tags)
    house.move_in(newer)
    assert house.work(house.job(NEW_VERSION, 8)) == ["published"]
    supersedes(house, num_before, last)
