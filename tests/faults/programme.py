"""All the drills by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.faults import brokers, drills
from tests.faults.at_hand import own_broker
from tests.faults.commits import failing_commits
from tests.faults.models import real_models
from tests.faults.report import Report
from tests.faults.stage import Scene
from tests.real_kafka import Broker

DRILLS: Mapping[str, Callable[[Scene], Report]] = {
    "recoveries": drills.recoveries,
    "kills": drills.kills,
    "kills-classic": lambda scene: drills.kills(scene, "classic"),
    "commit-points": drills.commit_points,
    "sigterm": drills.terminations,
    "zombies": drills.zombies,
    "zombies-consumer": lambda scene: drills.zombies(scene, "consumer"),
    "churn": drills.churn,
    "churn-classic": lambda scene: drills.churn(scene, "classic"),
    "twins": drills.twins,
    "poison": drills.poison,
    "at-least-once": drills.at_least_once,
    "failing-commits": lambda scene: failing_commits(scene.seed),
    "real-models": real_models,
}
BROKER_DRILLS: Mapping[str, Callable[[Scene, Broker], Report]] = {
    "broker-stopped": brokers.broker_stopped,
    "broker-killed": brokers.broker_killed,
}


def run_one(name: str, scene: Scene) -> Report:
    """A drill that stops the broker gets one of its own."""
    if name in DRILLS:
        return DRILLS[name](scene)
    with own_broker(scene.folder / f"{name}-broker") as broker:
        return BROKER_DRILLS[name](replace(scene, bootstrap=broker.bootstrap), broker)
