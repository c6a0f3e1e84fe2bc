"""Which drill must catch which planted bug, in what way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tests.faults import drills
from tests.faults.oracle import Wrong
from tests.faults.plants import Plant
from tests.faults.report import Report
from tests.faults.stage import Scene


@dataclass(frozen=True)
class Trap:
    """A drill that a bug cannot pass, and what it is found out by."""

    drill: Callable[[Scene], Report]
    wrong: Wrong


TRAPS: Mapping[Plant, Trap] = {
    "offsets not sent": Trap(drills.recoveries, "lag"),
    "epoch check skipped": Trap(drills.zombies, "repeated revision"),
    # Several times, since not every transaction has events in it.
    "published outside": Trap(lambda scene: drills.commit_points(scene, ["after produce"] * 4), "repeated revision"),
    "progress not restored": Trap(drills.recoveries, "repeated revision"),
}


def caught(plant: Plant, scene: Scene) -> Report:
    """The report of the drill that every member went through with the bug."""
    folder = scene.folder / plant.replace(" ", "-")
    folder.mkdir()
    return TRAPS[plant].drill(replace(scene, folder=folder, planted=plant, short=True, patience_s=_PATIENCE_S))


_PATIENCE_S = 20.0
