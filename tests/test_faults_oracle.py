"""The drill's own judgement: hand-made histories, each with one thing wrong."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.faults.arena import Kill
from tests.faults.journal import Worked
from tests.faults.oracle import Expected, Wrong, expect, is_complete, judge
from tests.faults.reader import Seen
from tests.faults.redo import judge_redo
from tests.faults.report import recoveries_s
from tests.faults.stand_ins import BROKEN, FAILED, HOPELESS, stand_in_tools
from tests.faults.workload import Mix, Workload, event, make_workload, stand_in

GOOD = Expected("good", "v1", 1, ("g1", "g2", "g3"), ("c1",))
NEWER = Expected("good", "v2", 2, ("n1",), ())
BAD = Expected("bad", "v1", 1, ("b1",), (), reason=BROKEN, records=2)
EXPECTED = [GOOD, NEWER, BAD]


def tags(
    id: str, revision: int, supersedes: str | None, offset: int, version: str = "v1", stage: str = "partial"
) -> Seen:
    return Seen("tags", id, "good", version, ("tags", 0, offset), offset, revision, stage, supersedes)


def letter(offset: int, of: int = 7, reason: str = BROKEN, video: str = "bad") -> Seen:
    return Seen("letter", f"letter-{of}", video, "v1", ("letters", 0, offset), offset, reason=reason, of=(0, of))


FINE = [
    tags("g1", 1, None, 0),
    tags("g2", 2, "g1", 1),
    tags("g3", 3, "g2", 3, stage="final"),
    Seen("case", "c1", "good", "v1", ("cases", 0, 0), 0),
    tags("n1", 1, "g3", 5, "v2", "final"),
    Seen("tags", "b1", "bad", "v1", ("tags", 0, 6), 6, 1, "partial"),
    letter(0),
]


def without(*ids: str) -> list[Seen]:
    return [seen for seen in FINE if seen.id not in ids]


def swapped(first: str, second: str) -> list[Seen]:
    """As if the two had been written the other way round."""
    places = {seen.id: seen.place for seen in FINE}
    other = {first: second, second: first}
    return [replace(seen, place=places[other.get(seen.id, seen.id)]) for seen in FINE]


def found(after: Sequence[Seen], during: Sequence[Seen] | None = None, *, repeats: bool = False) -> set[Wrong]:
    violations = judge(EXPECTED, after if during is None else during, after, repeats=repeats)
    return {violation.wrong for violation in violations}


def test_what_is_as_it_should_be_is_no_violation() -> None:
    assert found(FINE) == set()
    assert is_complete(EXPECTED, FINE)


@pytest.mark.parametrize(
    ("history", "wrong"),
    [
        (without("n1"), "lost upload"),
        (without("g2"), "missing revision"),
        (without("c1"), "missing revision"),
        ([*FINE, tags("g2", 2, "g1", 9)], "repeated revision"),
        ([*FINE, tags("g3", 3, "g2", 9, stage="final")], "repeated revision"),
        ([*FINE, Seen("case", "c1", "good", "v1", ("cases", 0, 1), 0)], "repeated revision"),
        ([*FINE, tags("g4", 4, "g3", 9)], "unknown event"),
        ([*FINE, Seen("tags", "s1", "stranger", "v1", ("tags", 0, 9), 9, 1)], "unknown event"),
        (swapped("g1", "g2"), "wrong order"),
        (swapped("g3", "n1"), "wrong order"),
        ([replace(seen, supersedes=None) if seen.id == "n1" else seen for seen in FINE], "wrong order"),
        (without("letter-7"), "wrong letter"),
        ([*without("letter-7"), letter(0, reason="not_media")], "wrong letter"),
        ([*FINE, letter(1)], "wrong letter"),
        ([*FINE, letter(1, of=8), letter(2, of=9)], "wrong letter"),
        ([*FINE, letter(1, video="good")], "wrong letter"),
    ],
)
def test_each_kind_of_violation_is_found(history: list[Seen], wrong: Wrong) -> None:
    assert wrong in found(history)


def test_each_record_of_a_broken_upload_may_have_a_letter() -> None:
    assert found([*FINE, letter(1, of=8)]) == set()


def test_readers_must_see_the_same() -> None:
    assert found(FINE, during=FINE[:-1]) == {"readers differ"}
    assert found(FINE, during=[*FINE, tags("g2", 2, "g1", 9)]) == {"readers differ"}


def test_delivery_at_least_once_may_repeat_and_not_lose() -> None:
    assert found([*FINE, tags("g2", 2, "g1", 9), letter(1)], repeats=True) == set()
    assert found(without("g2"), repeats=True) == {"missing revision"}


def test_of_a_doomed_upload_any_first_part_may_come_out() -> None:
    doomed = [GOOD, NEWER, replace(BAD, doomed=True)]
    assert judge(doomed, without("b1"), without("b1")) == []
    assert judge(doomed, FINE, FINE) == []


@pytest.mark.parametrize("id", ["g3", "n1", "letter-7"])
def test_all_must_have_come_to_their_ends(id: str) -> None:
    assert not is_complete(EXPECTED, without(id))


def worked(window: int, at_s: float, pid: int = 1, session: int = 0) -> Worked:
    return Worked("good", "v1", window, pid, session, at_s)


def progress(next_window: int, at_s: float) -> Seen:
    return Seen("progress", "key", "good", "v1", ("progress", 0, int(at_s)), at_s, next_window=next_window)


FIRST = [worked(window, float(window + 1)) for window in range(-1, 4)]


def test_windows_that_were_in_flight_may_be_worked_on_again() -> None:
    second = [worked(-1, 10.0, pid=2), worked(2, 11.0, pid=2), worked(3, 12.0, pid=2)]
    redo = judge_redo([*FIRST, *second], [progress(1, 2.5), progress(2, 3.5)])
    assert (redo.worked, redo.again, redo.violations) == (6, 2, ())


def test_windows_that_were_done_and_committed_must_not() -> None:
    second = [worked(-1, 10.0, pid=2), worked(1, 11.0, pid=2)]
    (violation,) = judge_redo([*FIRST, *second], [progress(2, 3.5)]).violations
    assert violation.wrong == "too much redone"


def test_progress_that_came_after_the_opening_does_not_count() -> None:
    second = [worked(-1, 10.0, pid=2), worked(0, 11.0, pid=2)]
    assert judge_redo([*FIRST, *second], [progress(2, 10.5)]).violations == ()


def test_a_recovery_lasts_from_the_kill_to_the_next_revision_of_what_the_process_had_in_hand() -> None:
    seen = [replace(tags("g1", 1, None, 0), at_s=1.0), replace(tags("g2", 2, "g1", 1), at_s=9.0)]
    assert recoveries_s([Kill(1, 4.0)], FIRST, seen) == [5.0]
    assert recoveries_s([Kill(2, 4.0)], FIRST, seen) == []
    ended = replace(tags("g3", 3, "g2", 2, stage="final"), at_s=3.5)
    assert recoveries_s([Kill(1, 4.0)], FIRST, [*seen, ended]) == []


def test_what_is_expected_is_what_the_product_makes_undisturbed() -> None:
    uploads = [
        stand_in("plain", 12),
        stand_in("plain", 3, version=2),
        stand_in("broken", 12, broken_at=5),
        stand_in("for-a-while", 12, fails_at=5, times=2),
        stand_in("hopeless", 12, fails_at=5, times=HOPELESS),
    ]
    workload = Workload(tuple(uploads), tuple(event(upload) for upload in uploads))
    plain, newer, broken, failing, hopeless = expect(workload, stand_in_tools(None))
    assert (plain.order, newer.order) == (1, 2)
    assert len(plain.revisions) > 5
    assert plain.cases
    assert [one.reason for one in (plain, broken, failing, hopeless)] == [None, BROKEN, None, FAILED]
    assert 0 < len(broken.revisions) == len(hopeless.revisions) < len(failing.revisions)
    ids = [id for one in (plain, newer, broken, failing) for id in (*one.revisions, *one.cases)]
    assert len(set(ids)) == len(ids)


def test_a_workload_has_every_kind_and_is_the_same_for_the_same_seed() -> None:
    workload = make_workload(1, 300)
    assert workload == make_workload(1, 300)
    assert workload != make_workload(2, 300)
    for kind in ("broken_at", "fails_at", f"times={HOPELESS}", "version=2"):
        assert any(kind in upload.uri for upload in workload.uploads)
    assert len(workload.events) > len(workload.uploads) == 300
    windows = {int(upload.uri.split("/")[2].split("?")[0]) for upload in workload.uploads}
    assert windows == set(range(1, Mix().max_windows + 1))
