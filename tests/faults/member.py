"""A consumer process of the drill: the product's own application around tools without models.

    python -m tests.faults.member

Settings come from the environment, as for `tagstream run`; what is particular to the drill from `ROLE`.
"""

import faulthandler
import json
import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from consumer.errors import SettingsError, TagstreamError
from consumer.kafka import transactions
from consumer.kafka.outbox import Outbox
from consumer.kafka.records import Job, Record
from consumer.settings import load_settings
from tests.faults.plants import Plant, plant
from tests.faults.points import Point, mortal
from tests.faults.stand_ins import stand_in_tools

ROLE = "TAGSTREAM_TEST_ROLE"


@dataclass(frozen=True)
class Role:
    """`folder` is shared with the other members; without one nothing takes time, and nothing is noted. `planted` is a
    bug to plant in the product. At `point` of transaction number `transaction` the process kills itself, after it has
    made the file `died` in the folder."""

    folder: str | None
    planted: Plant | None = None
    point: Point | None = None
    transaction: int = 0
    died: str = ""
    untagged: bool = False
    """Each upload is answered with one record, and nothing is worked on: what is left is the way in and out."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> int:
    faulthandler.register(signal.SIGUSR1)  # shows where a process stands that does not go on
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        return 0 if _run(Role(**json.loads(os.environ[ROLE]))) else 1
    except TagstreamError as error:  # as the command line does
        logging.getLogger(__name__).error("tagstream: %s", error)
        return 2 if isinstance(error, SettingsError) else 1


def _run(role: Role) -> bool:
    """Whether all was drained."""
    from consumer.app import App, stop_signals

    settings = load_settings(os.environ).settings
    folder = None if role.folder is None else Path(role.folder)
    if role.point is not None and folder is not None:
        transactions.Producer = mortal(role.point, role.transaction, folder / role.died)  # type: ignore[attr-defined]
    if role.planted is not None:
        plant(role.planted, settings.kafka)
    with stop_signals() as stopped:
        app = App(settings, stand_in_tools(folder))
        if role.untagged:
            app._worker = Echo(app._outbox, settings.kafka.tags_topic)  # type: ignore[assignment]
        stopped.call(app.stop)
        return app.run()


class Echo:
    """In place of the product's worker: publishes what came in."""

    def __init__(self, outbox: Outbox, topic: str) -> None:
        self._outbox = outbox
        self._topic = topic

    def work(self, job: Job) -> bool:
        self._outbox.finish(job.claim, [Record(self._topic, job.key, job.value, [], "test")])
        return True


if __name__ == "__main__":
    sys.exit(main())
