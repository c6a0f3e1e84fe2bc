"""Named points of a commit, at which a process can be made to die."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from confluent_kafka import Producer

Point = Literal["before begin", "after offsets", "after produce", "after commit was sent", "after commit"]
POINTS: tuple[Point, ...] = get_args(Point)

_ANSWER_S = 10.0
_SENT_AFTER_S = 0.0015  # a broker on this machine has read the request by then, and answers within 3 to 5 ms


class MortalProducer(Producer):  # type: ignore[misc]
    """A transactional producer that kills its process with SIGKILL at a point of its n-th transaction."""

    point: Point
    transaction: int
    before_death: Callable[[], None]

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._num_begun = 0

    def begin_transaction(self) -> None:
        self._num_begun += 1
        self._reach("before begin")
        super().begin_transaction()

    def send_offsets_to_transaction(self, *arguments: Any, **named: Any) -> None:
        super().send_offsets_to_transaction(*arguments, **named)
        self._reach("after offsets")

    def commit_transaction(self, *arguments: Any) -> None:
        self.flush(_ANSWER_S)
        self._reach("after produce")
        if self._is_near("after commit was sent"):
            threading.Thread(target=super().commit_transaction, daemon=True).start()
            threading.Event().wait(_SENT_AFTER_S)
            self._reach("after commit was sent")
        super().commit_transaction(*arguments)
        self._reach("after commit")

    def _is_near(self, point: Point) -> bool:
        return self.point == point and self._num_begun == self.transaction

    def _reach(self, point: Point) -> None:
        if self._is_near(point):
            self.before_death()
            os.kill(os.getpid(), signal.SIGKILL)


def mortal(point: Point, transaction: int, died: Path) -> type[MortalProducer]:
    """The class to use as `Producer`. It makes the file `died` just before the end, so that it can be counted."""
    return type("Mortal", (MortalProducer,), {"point": point, "transaction": transaction, "before_death": died.touch})
