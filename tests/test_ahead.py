"""Work ahead keeps order, passes errors on where they happened, and leaves no thread behind."""

import threading
from collections.abc import Iterator

import pytest

from consumer.ahead import ahead


def test_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)), 3)) == list(range(100))


def test_the_producer_runs_ahead_but_only_so_far() -> None:
    made: list[int] = []
    reached = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                reached.set()
            yield number

    taken = ahead(items(), 2)
    assert next(taken) == 0
    assert reached.wait(10)  # one taken, two waiting, one in hand
    taken.close()
    assert len(made) < 10


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken here")

    taken = ahead(items(), 5)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="broken here"):
        next(taken)


def test_closing_early_closes_the_source_and_ends_the_thread() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    source = items()  # somebody else may hold it as well
    taken = ahead(source, 2)
    assert next(taken) == 1
    taken.close()
    assert closed.is_set()
    assert threading.active_count() == before
