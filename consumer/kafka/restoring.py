"""Has what was assigned restored while the poll thread goes on polling."""

import threading
from collections.abc import Callable, Iterator, Mapping
from queue import Empty, SimpleQueue

from consumer import metrics
from consumer.errors import Abandoned
from consumer.kafka.restore import Restored, restore
from consumer.settings import KafkaSettings

Epochs = Mapping[int, int]
"""By the number of a partition: the epoch of its assignment."""


class Restorer:
    """Restores on a thread for each assignment, since the last owner's transactions have to end first."""

    def __init__(self, settings: KafkaSettings, is_over: Callable[[Epochs], bool]) -> None:
        """`is_over` tells, from any thread, that none of these epochs lasts."""
        self._settings = settings
        self._is_over = is_over
        self._found: SimpleQueue[tuple[Epochs, dict[int, Restored] | BaseException]] = SimpleQueue()

    def start(self, epochs: Epochs) -> None:
        threading.Thread(target=self._restore, args=(epochs,), name="restore", daemon=True).start()

    def restored(self) -> Iterator[tuple[int, int, Restored]]:
        """Number and epoch of each partition restored since the last call. Raises what kept one from it."""
        while True:
            try:
                epochs, found = self._found.get_nowait()
            except Empty:
                return
            if isinstance(found, BaseException):
                raise found
            yield from ((number, epoch, found[number]) for number, epoch in epochs.items())

    def _restore(self, epochs: Epochs) -> None:
        found: dict[int, Restored] | BaseException
        try:
            with metrics.restore_seconds.time():
                found = restore(self._settings, list(epochs), lambda: self._is_over(epochs))
        except Abandoned:
            return
        except BaseException as error:
            found = error
        self._found.put((epochs, found))
