import threading
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from consumer.errors import Abandoned
from consumer.turns import Turns


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Waiting:
    """Shows that somebody waits, and cancels it; at last what should not have to wait, so that the test fails."""

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.cancelled = threading.Event()
        self._until_s = time.monotonic() + 20

    def __call__(self) -> bool:
        self.seen.set()
        return self.cancelled.is_set() or time.monotonic() > self._until_s


def taking(pool: ThreadPoolExecutor, turns: Turns, name: Hashable, waiting: Waiting, log: list[str]) -> "Future[None]":
    def body() -> None:
        with turns.turn(name, waiting):
            log.append("second")

    return pool.submit(body)


def test_a_name_is_had_by_one_at_a_time(pool: ThreadPoolExecutor) -> None:
    turns, waiting, log = Turns(), Waiting(), list[str]()
    with turns.turn("video", Waiting()):
        second = taking(pool, turns, "video", waiting, log)
        assert waiting.seen.wait(10)
        log.append("first")
    second.result(10)
    assert log == ["first", "second"]


def test_other_names_do_not_wait() -> None:
    turns, log = Turns(), list[str]()
    with turns.turn(("video", 1), Waiting()), turns.turn(("video", 2), Waiting()):
        log.append("both")
    assert log == ["both"]


def test_one_that_is_cancelled_while_it_waits_never_has_the_name(pool: ThreadPoolExecutor) -> None:
    turns, waiting, log = Turns(), Waiting(), list[str]()
    with turns.turn("video", Waiting()):
        second = taking(pool, turns, "video", waiting, log)
        assert waiting.seen.wait(10)
        waiting.cancelled.set()
        with pytest.raises(Abandoned, match="waiting for video"):
            second.result(10)
    with turns.turn("video", Waiting()):
        assert log == []


def test_a_free_name_is_had_even_by_one_that_is_cancelled_by_then() -> None:
    with Turns().turn("video", lambda: True):
        pass


def test_a_turn_that_fails_leaves_the_name_to_the_next() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="broken"), turns.turn("video", Waiting()):
        raise ValueError("broken")
    with turns.turn("video", Waiting()):
        pass


def test_of_many_never_two_are_at_work_on_one_name(pool: ThreadPoolExecutor) -> None:
    turns, waiting, at_work, most = Turns(), Waiting(), dict[int, int](), list[int]()

    def body(number: int) -> None:
        name = number % 3
        with turns.turn(name, waiting):
            at_work[name] = at_work.get(name, 0) + 1
            most.append(at_work[name])
            threading.Event().wait(0.001)  # lets others try
            at_work[name] -= 1

    list(pool.map(body, range(60), timeout=30))
    assert most == [1] * 60
