import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer.kafka.offsets import Claim, OffsetTracker

PARTITIONS = st.integers(0, 2)


def test_nothing_is_committable_before_the_first_record_is_finished() -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    tracker.add(0, 5)
    assert tracker.committable() == {}


def test_a_record_finished_early_waits_for_those_before_it() -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    first, second, third = (tracker.add(0, offset) for offset in (5, 6, 7))
    tracker.done(second)
    assert tracker.committable() == {}
    assert tracker.gap(0) == 3
    tracker.done(first)
    assert tracker.committable() == {0: 7}
    tracker.done(third)
    assert tracker.committable() == {0: 8}
    assert tracker.gap(0) == 0


def test_a_hole_in_the_offsets_is_stepped_over() -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    claims = [tracker.add(0, offset) for offset in (3, 10, 11)]
    tracker.done(claims[0])
    assert tracker.committable() == {0: 10}


def test_what_is_committed_is_not_committable_again() -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    tracker.done(tracker.add(0, 0))
    tracker.committed({0: 1, 7: 99})
    assert tracker.committable() == {}


def test_a_result_is_late_once_its_partition_was_taken_away_and_given_back() -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    claim = tracker.add(0, 0)
    tracker.revoke(0)
    assert not tracker.done(claim)
    tracker.assign(0)
    again = tracker.add(0, 0)
    assert not tracker.done(claim)
    assert tracker.committable() == {}
    assert tracker.done(again)


def test_finishing_twice_and_offsets_that_go_back_are_mistakes() -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    claim = tracker.add(0, 4)
    tracker.done(claim)
    with pytest.raises(ValueError, match="finished before"):
        tracker.done(claim)
    assert not tracker.follows(0, 4)
    with pytest.raises(ValueError, match="comes after"):
        tracker.add(0, 4)


def test_the_oldest_is_the_first_that_is_unfinished() -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    assert tracker.oldest(0) is None
    assert tracker.first_unfinished(0) is None
    first, second = tracker.add(0, 1), tracker.add(0, 2)
    tracker.done(first)
    assert tracker.oldest(0) == second
    assert tracker.first_unfinished(0) == 2


@given(st.lists(st.integers(1, 5), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_in_any_order_of_completion_the_commit_ends_after_the_last_record(
    steps: list[int], order: random.Random
) -> None:
    tracker = OffsetTracker()
    tracker.assign(0)
    offsets = [sum(steps[: n + 1]) for n in range(len(steps))]
    claims = [tracker.add(0, offset) for offset in offsets]
    order.shuffle(claims)
    for claim in claims:
        assert tracker.committable().get(0, 0) <= claim.offset
        tracker.done(claim)
    assert tracker.committable() == {0: offsets[-1] + 1}


class AnyHistory(RuleBasedStateMachine):
    """The tracker against the plainest model: the sets of what was received, and what was finished."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.received: dict[int, list[Claim]] = {}
        self.unfinished: dict[int, set[Claim]] = {}
        self.stored: dict[int, int] = {}
        self.over: list[Claim] = []

    @rule(partition=PARTITIONS)
    def assign(self, partition: int) -> None:
        if partition in self.received:
            self.revoke(partition)
        self.tracker.assign(partition)
        self.received[partition] = []
        self.unfinished[partition] = set()
        self.stored.pop(partition, None)

    @precondition(lambda self: self.received)
    @rule(partition=PARTITIONS)
    def revoke(self, partition: int) -> None:
        if partition in self.received:
            self.tracker.revoke(partition)
            self.over += self.unfinished.pop(partition)
            del self.received[partition]

    @precondition(lambda self: self.received)
    @rule(partition=PARTITIONS, hole=st.sampled_from([0, 0, 0, 1, 7]))
    def receive(self, partition: int, hole: int) -> None:
        if partition in self.received:
            known = self.received[partition]
            offset = (known[-1].offset + 1 if known else 100) + hole
            claim = self.tracker.add(partition, offset)
            known.append(claim)
            self.unfinished[partition].add(claim)

    @precondition(lambda self: any(self.unfinished.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        claims = sorted((c for some in self.unfinished.values() for c in some), key=lambda c: (c.epoch, c.offset))
        claim = data.draw(st.sampled_from(claims))
        assert self.tracker.done(claim)
        self.unfinished[claim.partition].remove(claim)

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def finish_too_late(self, data: st.DataObject) -> None:
        assert not self.tracker.done(data.draw(st.sampled_from(self.over)))

    @rule()
    def commit(self) -> None:
        offsets = self.tracker.committable()
        self.tracker.committed(offsets)
        self.stored |= offsets
        assert self.tracker.committable() == {}

    @invariant()
    def exactly_what_is_finished_without_a_gap_is_behind_the_committable_offset(self) -> None:
        offsets = self.tracker.committable()
        for partition, claims in self.received.items():
            waiting = False
            for claim in claims:
                waiting |= claim in self.unfinished[partition]
                position = offsets.get(partition, self.stored.get(partition, claims[0].offset))
                assert (claim.offset < position) == (not waiting)

    @invariant()
    def the_gap_spans_the_unfinished(self) -> None:
        for partition, waiting in self.unfinished.items():
            last = self.received[partition][-1].offset if self.received[partition] else 0
            expected = last + 1 - min(c.offset for c in waiting) if waiting else 0
            assert self.tracker.gap(partition) == expected


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
