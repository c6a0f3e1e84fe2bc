"""Work ahead: an iterator runs on its own thread, a few items before the one that takes them."""

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


def ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Yields what `items` yields, in order, while a thread keeps up to `depth` items ready.

    An error of `items` is raised where it occurred, after the items before it. Closing the generator stops the
    thread at the next item; the thread then closes `items`.
    """
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, ready, stop), name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        while thread.is_alive():  # room for an item that the thread is about to put
            _drain(ready)
            thread.join(0.05)


def _fill(items: Iterator[T], ready: "queue.Queue[T | _End]", stop: threading.Event) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            ready.put(item)
            if stop.is_set():
                break
    except BaseException as raised:  # handed to the thread that takes the items
        error = raised
    finally:
        if isinstance(items, Generator):
            items.close()
        ready.put(_End(error))


def _drain(ready: "queue.Queue[T | _End]") -> None:
    while True:
        try:
            ready.get_nowait()
        except queue.Empty:
            return
