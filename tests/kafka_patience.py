"""An `is_over` for what waits for Kafka: it shows that the waiting goes on, and ends it."""

import threading


class Patience:
    """False until `end`."""

    def __init__(self) -> None:
        self._times_asked = 0
        self._asked = threading.Condition()
        self._ended = threading.Event()

    def __call__(self) -> bool:
        with self._asked:
            self._times_asked += 1
            self._asked.notify_all()
        return self._ended.is_set()

    def was_asked(self, times: int) -> bool:
        """Waits until it was asked so many times more."""
        with self._asked:
            until = self._times_asked + times
            return self._asked.wait_for(lambda: self._times_asked >= until, 20)

    def end(self) -> None:
        self._ended.set()
