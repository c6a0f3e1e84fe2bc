"""The policy is pure and tested with a fake clock; the batcher with a model that fails on demand."""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from consumer.batching import Batcher, Limits, Waiting, choose
from consumer.errors import Abandoned, PermanentError, TransientError

LIMITS = Limits(max_items=4, max_cost=100, max_wait_s=0.01)


def waiting(
    video: str = "v", cost: int = 10, *, first: bool = False, arrived_s: float = 0.0, bucket: int = 0
) -> Waiting:
    return Waiting(arrived_s, video, first, cost, bucket)


def test_an_empty_queue_gives_no_batch() -> None:
    assert choose([], LIMITS, 5.0) is None


def test_a_lone_item_waits_for_company_and_then_goes() -> None:
    queue = [waiting(arrived_s=1.0)]
    assert choose(queue, LIMITS, 1.009) is None
    choice = choose(queue, LIMITS, 1.011)
    assert choice is not None
    assert (choice.positions, choice.trigger) == ((0,), "waited")


def test_half_a_batch_goes_at_once_because_the_device_is_free() -> None:
    choice = choose([waiting("a"), waiting("b")], LIMITS, 0.0)
    assert choice is not None
    assert choice.trigger == "idle"


def test_a_full_batch_leaves_the_rest_for_the_next() -> None:
    choice = choose([waiting(str(number)) for number in range(6)], LIMITS, 0.0)
    assert choice is not None
    assert (choice.positions, choice.trigger) == ((0, 1, 2, 3), "full")


def test_the_budget_counts_what_padding_costs() -> None:
    choice = choose([waiting("a", 40), waiting("b", 10), waiting("c", 10)], LIMITS, 0.0)
    assert choice is not None
    assert len(choice.positions) * 40 <= LIMITS.max_cost
    assert choice.trigger == "budget"


def test_an_item_over_the_budget_goes_alone_rather_than_never() -> None:
    choice = choose([waiting("a", 500), waiting("b", 10)], LIMITS, 0.0)
    assert choice is not None
    assert (choice.positions, choice.trigger) == ((0,), "budget")


def test_first_windows_go_before_later_ones() -> None:
    queue = [waiting("long", 25) for _ in range(8)] + [waiting("new", 25, first=True)]
    choice = choose(queue, LIMITS, 0.0)
    assert choice is not None
    assert 8 in choice.positions


def test_videos_take_turns_so_that_a_long_one_does_not_hold_up_the_others() -> None:
    queue = [waiting("long") for _ in range(20)] + [waiting("b"), waiting("c")]
    choice = choose(queue, LIMITS, 0.0)
    assert choice is not None
    assert {20, 21} <= set(choice.positions)


def test_items_of_like_length_go_together() -> None:
    queue = [waiting("a", 20), waiting("b", 99), waiting("c", 21), waiting("d", 19)]
    choice = choose(queue, Limits(3, 70), 0.0)
    assert choice is not None
    assert choice.positions == (3, 0, 2)  # shortest first


def test_buckets_are_never_mixed() -> None:
    queue = [waiting("a", bucket=1500), waiting("b", bucket=3000), waiting("c", bucket=1500)]
    choice = choose(queue, LIMITS, 1.0)
    assert choice is not None
    assert choice.positions == (0, 2)


@given(
    st.lists(
        st.builds(
            waiting,
            st.sampled_from("abcd"),
            st.integers(1, 150),
            first=st.booleans(),
            arrived_s=st.floats(0, 1),
            bucket=st.sampled_from([0, 1]),
        ),
        max_size=30,
    )
)
def test_every_item_leaves_in_some_batch_within_the_limits(queue: list[Waiting]) -> None:
    batches = 0
    while choice := choose(queue, LIMITS, 10.0):
        chosen = [queue[at] for at in choice.positions]
        assert 1 <= len(chosen) <= LIMITS.max_items
        assert len({item.bucket for item in chosen}) == 1
        assert len(chosen) == 1 or len(chosen) * max(item.cost for item in chosen) <= LIMITS.max_cost
        queue = [item for at, item in enumerate(queue) if at not in choice.positions]
        batches += 1
        assert batches <= 30
    assert queue == []


@dataclass(frozen=True)
class Number:
    value: int
    cost: int = 1
    bucket: int = 0


class Halver:
    """Halves numbers; a batch with a zero in it fails, as a batch with a broken item does."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()

    def prepare(self, item: int) -> Number:
        return Number(item)

    def run(self, batch: Sequence[Number]) -> list[float]:
        self.gate.wait(10)
        self.batches.append([number.value for number in batch])
        if any(number.value == 0 for number in batch):
            raise ZeroDivisionError("zero")
        return [number.value / 2 for number in batch]

    def finish(self, item: int, raw: float) -> float:
        if item == 13:
            raise PermanentError("unlucky", "13 is refused", stage="test")
        return raw


def test_one_failing_item_fails_alone() -> None:
    model = Halver()
    batcher = Batcher("halve", model, Limits(8, 100), nullcontext())
    futures = {item: batcher.submit(item, video=str(item)) for item in (2, 0, 4, 13)}
    model.gate.set()
    assert futures[2].result(10) == 1.0
    assert futures[4].result(10) == 2.0
    with pytest.raises(TransientError, match="halve: ZeroDivisionError: zero"):
        futures[0].result(10)
    with pytest.raises(PermanentError, match="13 is refused"):
        futures[13].result(10)
    batcher.close()


def test_what_gathers_while_the_device_is_busy_goes_as_one_batch() -> None:
    model = Halver()
    batcher = Batcher("halve", model, Limits(8, 100), nullcontext())
    futures = [batcher.submit(item, video=str(item)) for item in range(1, 4)]
    model.gate.set()
    assert [future.result(10) for future in futures] == [0.5, 1.0, 1.5]
    batcher.close()
    assert len(model.batches) <= 2


def test_a_cancelled_item_is_not_run() -> None:
    model = Halver()
    batcher = Batcher("halve", model, Limits(1, 100), nullcontext())
    busy = batcher.submit(2, video="a")
    dropped = batcher.submit(8, video="b")
    assert dropped.cancel()
    model.gate.set()
    assert busy.result(10) == 1.0
    batcher.close()
    assert [8] not in model.batches


def test_every_batch_remembers_why_it_left() -> None:
    model = Halver()
    model.gate.set()
    before = _batches("full")
    batcher = Batcher("halve", model, Limits(1, 100), nullcontext())
    assert batcher.submit(2, video="a").result(10) == 1.0
    batcher.close()
    assert _batches("full") == before + 1


def test_closing_gives_back_what_is_queued_and_takes_no_more() -> None:
    model = Halver()
    batcher = Batcher("halve", model, Limits(1, 100), nullcontext())
    running = batcher.submit(2, video="a")
    while not running.running():
        threading.Event().wait(0.01)
    queued = batcher.submit(4, video="b")
    threading.Timer(0.1, model.gate.set).start()
    batcher.close()
    assert running.result(10) == 1.0
    with pytest.raises(Abandoned):
        queued.result(10)
    with pytest.raises(Abandoned):
        batcher.submit(6, video="c")


def test_a_device_that_fails_for_every_video_is_not_the_videos_fault() -> None:
    model = Halver()
    model.gate.set()
    batcher = Batcher("halve", model, Limits(1, 100), nullcontext())
    errors = [batcher.submit(0, video=video).exception(10) for video in "abc"]
    assert [type(error) for error in errors] == [TransientError, TransientError, RuntimeError]
    batcher.close()


def test_a_success_in_between_clears_the_devices_name() -> None:
    model = Halver()
    model.gate.set()
    batcher = Batcher("halve", model, Limits(1, 100), nullcontext())
    errors = [batcher.submit(item, video=str(number)).exception(10) for number, item in enumerate([0, 0, 2, 0, 0])]
    assert [type(error) for error in errors if error] == [TransientError] * 4
    batcher.close()


def _batches(trigger: str) -> float:
    labels = {"stage": "halve", "trigger": trigger}
    return REGISTRY.get_sample_value("tagstream_batch_items_count", labels) or 0.0
