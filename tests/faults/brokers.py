"""Drills in which the broker itself goes: they need one of their own."""

from collections.abc import Callable

from tests.faults.report import Report
from tests.faults.stage import Drill, Scene, plain_plan, run
from tests.faults.workload import Mix, make_workload
from tests.real_kafka import Broker

_DOWN_S = 2.0
_RECOVER_S = 90.0


def broker_stopped(scene: Scene, broker: Broker) -> Report:
    """The broker is shut down in order, and started again."""
    return _away(scene, broker, "broker stopped", broker.stop)


def broker_killed(scene: Scene, broker: Broker) -> Report:
    """kill -9 of the broker, and a new one on its data."""
    return _away(scene, broker, "broker killed", broker.kill)


def _away(scene: Scene, broker: Broker, name: str, end: Callable[[], None]) -> Report:
    times = 1 if scene.short else 3

    def disturb(drill: Drill) -> None:
        drill.publish(20)
        drill.start("a", "b")
        for _ in range(times):
            drill.publish(20)
            drill.wait_for_work(8, _RECOVER_S)
            end()
            drill.pause(_DOWN_S)
            broker.start()
            drill.hits[name] += drill.wait_for_work(8, _RECOVER_S)

    workload = make_workload(scene.seed, 20 + 20 * times, Mix(window_ms=150))
    return run(plain_plan(name, scene.settings(), workload, {name: times}, disturb), scene)
