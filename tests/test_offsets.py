import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer.kafka.offsets import MAX_GAP, Claim, OffsetTracker, Partition, Position, token_of

HERE, THERE = Partition("uploads", 0), Partition("uploads", 1)
RETRIES = Partition("retries", 0)
MOST_CHARACTERS = 4096
"""What a broker keeps beside an offset (`offset.metadata.max.bytes`)."""


def tracking(*offsets: int) -> tuple[OffsetTracker, list[Claim]]:
    """A tracker with these records of one partition in work."""
    tracker = OffsetTracker()
    tracker.assign(HERE)
    return tracker, take(tracker, offsets)


def take(tracker: OffsetTracker, offsets: Iterable[int]) -> list[Claim]:
    return [claim for offset in offsets if (claim := tracker.add(HERE, offset))]


def test_nothing_is_committable_before_the_first_record_is_finished() -> None:
    tracker, _ = tracking(5)
    assert tracker.committable() == {}


def test_a_record_finished_early_is_noted_beside_the_offset_until_those_before_it_are_finished() -> None:
    tracker, (first, second, third) = tracking(5, 6, 7)
    tracker.done(second)
    assert tracker.committable() == {HERE: Position(5, (6,))}
    assert tracker.gap(HERE) == 3
    tracker.done(first)
    assert tracker.committable() == {HERE: Position(7)}
    tracker.done(third)
    assert tracker.committable() == {HERE: Position(8)}
    assert tracker.gap(HERE) == 0


def test_a_hole_in_the_offsets_is_stepped_over() -> None:
    tracker, (first, _, _) = tracking(3, 10, 11)
    tracker.done(first)
    assert tracker.committable() == {HERE: Position(10)}


def test_what_is_committed_is_not_committable_again() -> None:
    tracker, (claim,) = tracking(0)
    tracker.done(claim)
    tracker.committed({HERE: Position(1), THERE: Position(99)})
    assert tracker.committable() == {}


def test_a_position_is_told_as_if_what_is_about_to_be_stored_were_finished() -> None:
    tracker, (first, second, third) = tracking(0, 1, 2)
    assert tracker.stand([first, third], [first, third]) == ({first, third}, {HERE: Position(1, (2,))})
    assert tracker.stand([second], []) == ({second}, {HERE: Position(0)})
    assert tracker.num_unfinished == 3


def test_claims_that_are_over_stand_nowhere_and_finish_nothing() -> None:
    tracker, (stale,) = tracking(0)
    tracker.assign(RETRIES)
    other = tracker.add(RETRIES, 0)
    assert other
    tracker.assign(HERE)
    (again,) = take(tracker, [0])
    assert tracker.stand([stale], [stale]) == (set(), {})
    assert tracker.stand([stale, other, again], [stale, other]) == (
        {other, again},
        {HERE: Position(0), RETRIES: Position(1)},
    )


def test_a_new_owner_is_given_only_what_the_owner_before_had_not_finished() -> None:
    tracker, _ = tracking()
    tracker.restore(HERE, Position(5, (6, 8)))
    assert [claim.offset for claim in take(tracker, range(5, 10))] == [5, 7, 9]
    assert tracker.oldest(HERE) == Claim(HERE, 5, 1)
    assert tracker.committable() == {}


def test_what_the_owner_before_has_finished_is_stepped_over_even_before_it_comes_again() -> None:
    tracker, _ = tracking()
    tracker.restore(HERE, Position(5, (6, 7, 9)))
    tracker.done(*take(tracker, [5]))
    assert tracker.committable() == {HERE: Position(8, (9,))}


def test_a_result_is_late_once_its_partition_was_taken_away_and_given_back() -> None:
    tracker, (claim,) = tracking(0)
    tracker.revoke(HERE)
    assert not tracker.done(claim)
    epoch = tracker.assign(HERE)
    (again,) = take(tracker, [0])
    assert not tracker.done(claim)
    assert tracker.epoch(HERE) == epoch
    assert tracker.epoch(HERE) != claim.epoch
    assert tracker.committable() == {}
    assert tracker.done(again)


def test_finishing_twice_and_offsets_that_go_back_are_mistakes() -> None:
    tracker, (claim,) = tracking(4)
    tracker.done(claim)
    with pytest.raises(ValueError, match="finished before"):
        tracker.done(claim)
    assert not tracker.follows(HERE, 4)
    with pytest.raises(ValueError, match="comes after"):
        tracker.add(HERE, 4)


def test_the_oldest_is_the_first_that_is_unfinished() -> None:
    tracker, _ = tracking()
    assert tracker.oldest(HERE) is None
    assert tracker.first_unfinished(HERE) is None
    first, second = take(tracker, [1, 2])
    tracker.done(first)
    assert tracker.oldest(HERE) == second
    assert tracker.first_unfinished(HERE) == 2


@examples(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_in_any_order_of_completion_the_commit_ends_after_the_last_record(
    steps: list[int], order: random.Random
) -> None:
    offsets = [sum(steps[: n + 1]) for n in range(len(steps))]
    tracker, claims = tracking(*offsets)
    order.shuffle(claims)
    for claim in claims:
        position = tracker.committable().get(HERE, Position(0))
        assert position.offset <= claim.offset
        assert claim.offset not in position.finished
        tracker.done(claim)
    assert tracker.committable() == {HERE: Position(offsets[-1] + 1)}


@examples(deadline=None)
@given(st.integers(0, 2**62), st.sets(st.integers(1, 3000)), st.text("abc-0123", max_size=20))
def test_a_position_comes_back_from_its_metadata_whatever_the_name_of_the_commit(
    offset: int, steps: set[int], token: str
) -> None:
    position = Position(offset, tuple(offset + step for step in sorted(steps)))
    text = position.metadata(token)
    assert Position.read(text) == position
    assert token_of(text) == token
    assert text.isascii()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_the_metadata_of_as_many_offsets_as_are_ever_taken_fits(share: float) -> None:
    chance = random.Random(20_000)
    offset = 2**62
    finished = tuple(offset + step for step in range(1, MAX_GAP) if chance.random() < share)
    text = Position(offset, finished).metadata("0123456789ab-1000000")
    assert len(text) <= MOST_CHARACTERS
    assert Position.read(text) == Position(offset, finished)


def test_what_lies_too_far_past_the_first_unfinished_record_is_not_noted() -> None:
    near, far = MAX_GAP, MAX_GAP + 1
    text = Position(100, (101, 100 + near, 100 + far, 10**12)).metadata()
    assert Position.read(text) == Position(100, (101, 100 + near))


@pytest.mark.parametrize(
    "strange",
    [
        "",
        "1",
        "done",
        "1:t:x:",
        "1:t:5:AAAA",
        "1:t:5:é",
        "1:t:5::",
        "2:t:5:",
        '{"offsets": [1, 2]}',
        "\0" * 4096,
    ],
)
def test_what_others_wrote_beside_the_offset_is_no_position(strange: str) -> None:
    assert Position.read(strange) is None


@examples(deadline=None)
@given(st.text() | st.text("1:=Aa+/", max_size=20))
def test_no_metadata_breaks_the_reading(text: str) -> None:
    Position.read(text)
    token_of(text)


@pytest.mark.parametrize("strange", ["", "t", "2:t:5:", "1:t:5", "1:t:5::"])
def test_what_others_wrote_names_no_commit(strange: str) -> None:
    assert token_of(strange) == ""


@dataclass
class Log:
    """A partition, what is stored for it for good, and what its owner of the moment has."""

    records: list[int] = field(default_factory=list)
    end: int = 100
    stored: set[int] = field(default_factory=set)
    committed: tuple[int, str] = (100, "")
    read_from: int = 100
    at_work: list[Claim] = field(default_factory=list)
    unstored: set[int] = field(default_factory=set)
    """Finished, and not committed yet: at least once."""


class Owners(RuleBasedStateMachine):
    """Owners of two partitions, one after the other, against the plainest model: the set of what is finished.

    What is committed goes through its text, as the broker keeps it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.logs = {HERE: Log(), THERE: Log()}
        self.over: list[Claim] = []
        for partition in self.logs:
            self.tracker.assign(partition)

    @rule(partition=st.sampled_from([HERE, THERE]), holes=st.lists(st.sampled_from([0, 0, 0, 1, 9]), max_size=6))
    def write(self, partition: Partition, holes: list[int]) -> None:
        log = self.logs[partition]
        for hole in holes:
            log.records.append(log.end + hole)
            log.end += hole + 1

    @rule(partition=st.sampled_from([HERE, THERE]), data=st.data())
    def compact(self, partition: Partition, data: st.DataObject) -> None:
        log = self.logs[partition]
        if log.records:
            log.records.remove(data.draw(st.sampled_from(log.records)))

    @rule(partition=st.sampled_from([HERE, THERE]), most=st.integers(1, 6))
    def receive(self, partition: Partition, most: int) -> None:
        log = self.logs[partition]
        for offset in [offset for offset in log.records if offset >= log.read_from][:most]:
            claim = self.tracker.add(partition, offset)
            assert (claim is None) == (offset in log.stored)
            if claim:
                log.at_work.append(claim)
            log.read_from = offset + 1

    @precondition(lambda self: any(log.at_work for log in self.logs.values()))
    @rule(data=st.data())
    def finish_with_a_commit(self, data: st.DataObject) -> None:
        """Exactly once: records, progress and positions are one transaction."""
        chosen = self.draw_claims(data)
        others = self.draw_claims(data)
        lasting, positions = self.tracker.stand([*others, *chosen, *self.over], [*chosen, *self.over])
        assert lasting == {*others, *chosen}
        assert set(positions) == {claim.partition for claim in lasting}
        self.store(positions, chosen)
        for claim in chosen:
            assert self.tracker.done(claim)
            self.logs[claim.partition].at_work.remove(claim)
        self.tracker.committed(positions)

    @precondition(lambda self: any(log.at_work for log in self.logs.values()))
    @rule(data=st.data())
    def finish_without_a_commit(self, data: st.DataObject) -> None:
        """At least once: the commit comes later, or never."""
        for claim in self.draw_claims(data):
            assert self.tracker.done(claim)
            self.logs[claim.partition].at_work.remove(claim)
            self.logs[claim.partition].unstored.add(claim.offset)

    @rule()
    def commit_what_is_finished(self) -> None:
        positions = self.tracker.committable()
        self.store(positions, [])
        self.tracker.committed(positions)
        assert self.tracker.committable() == {}
        assert not any(log.unstored for log in self.logs.values())

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def finish_too_late(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.over))
        assert self.tracker.stand([claim], [claim]) == (set(), {})
        assert not self.tracker.done(claim)

    @rule(partition=st.sampled_from([HERE, THERE]))
    def lose_a_partition_and_get_it_back(self, partition: Partition) -> None:
        self.over += self.logs[partition].at_work
        self.tracker.revoke(partition)
        assert partition not in self.tracker.partitions
        self.take_over(partition)

    @rule()
    def die(self) -> None:
        self.tracker, self.over = OffsetTracker(), []
        for partition in self.logs:
            self.take_over(partition)

    @invariant()
    def a_new_owner_would_work_on_exactly_what_is_not_finished(self) -> None:
        for log in self.logs.values():
            offset, text = log.committed
            position = Position.read(text) or Position(offset)
            assert position.offset == offset
            work = {record for record in log.records if record >= offset and record not in position.finished}
            assert work == set(log.records) - log.stored

    @invariant()
    def the_gap_spans_the_unfinished(self) -> None:
        for partition, log in self.logs.items():
            expected = log.read_from - log.at_work[0].offset if log.at_work else 0
            assert self.tracker.gap(partition) == expected
        assert self.tracker.num_unfinished == sum(len(log.at_work) for log in self.logs.values())

    def draw_claims(self, data: st.DataObject) -> Sequence[Claim]:
        claims = [claim for log in self.logs.values() for claim in log.at_work]
        return data.draw(st.lists(st.sampled_from(claims), min_size=1, unique=True))

    def store(self, positions: dict[Partition, Position], finishing: Sequence[Claim]) -> None:
        for partition, position in positions.items():
            log = self.logs[partition]
            log.committed = position.offset, position.metadata("token")
            log.stored |= log.unstored | {claim.offset for claim in finishing if claim.partition == partition}
            log.unstored = set()

    def take_over(self, partition: Partition) -> None:
        log = self.logs[partition]
        offset, text = log.committed
        self.tracker.assign(partition)
        if position := Position.read(text):
            self.tracker.restore(partition, position)
        log.read_from, log.at_work, log.unstored = offset, [], set()


TestOwners = Owners.TestCase
TestOwners.settings = examples(max_examples=150, stateful_step_count=40, deadline=None)
