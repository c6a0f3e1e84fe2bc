"""A broker, outside of pytest."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real_kafka import Broker, home_or_skip


@contextmanager
def broker_at_hand(folder: Path) -> Iterator[str]:
    """The address of a broker that runs already, or of one for the time being. Where there is none, what pytest
    raises to skip a test."""
    if running := os.environ.get("TAGSTREAM_TEST_BOOTSTRAP"):
        yield running
        return
    with own_broker(folder) as broker:
        yield broker.bootstrap


@contextmanager
def own_broker(folder: Path) -> Iterator[Broker]:
    """One that may be stopped and killed."""
    folder.mkdir()
    broker = Broker(home_or_skip(), folder)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
