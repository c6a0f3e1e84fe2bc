"""One at a time, by name."""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from consumer.errors import Abandoned

_LOOK_S = 0.2


class Turns:
    """Keeps apart what must not be at work together."""

    def __init__(self) -> None:
        self._at_work: set[Hashable] = set()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, name: Hashable, is_cancelled: Callable[[], bool]) -> Iterator[None]:
        """Waits until nobody else has the name. Raises Abandoned when cancelled before that."""
        with self._changed:
            while name in self._at_work:
                if is_cancelled():
                    raise Abandoned(f"taken away while waiting for {name}")
                self._changed.wait(_LOOK_S)
            self._at_work.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._at_work.remove(name)
                self._changed.notify_all()
