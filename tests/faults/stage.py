"""How a drill goes: uploads in, faults, all of it finished, and then what a reader has seen is judged."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from consumer.kafka.admin import create_topics, publish
from consumer.settings import HttpSettings, Settings
from schemas import UploadedEvent
from tests.faults import journal
from tests.faults.arena import Arena, Kill, Member, arena, eventually, lag
from tests.faults.member import Role
from tests.faults.oracle import Expected, Violation, expect, is_complete, judge
from tests.faults.plants import Plant
from tests.faults.reader import Reader, Seen, read_all
from tests.faults.redo import judge_redo
from tests.faults.report import Report, recoveries_s
from tests.faults.stand_ins import stand_in_tools
from tests.faults.workload import Workload
from tests.real_kafka import kafka_settings

NUM_PARTITIONS = 6
_PATIENCE_S = 150.0
_LAG_S = 20.0
# Random kills hit innocent uploads, and retries need not take their time.
_KAFKA = {"max_deaths": 1_000_000, "retry_first_s": 0.2, "retry_longest_s": 1.0, "max_dead_letters_in_a_row": 0}
_HTTP = HttpSettings(host="127.0.0.1", port=0)


@dataclass
class Drill:
    """A drill under way."""

    arena: Arena
    during: Reader
    workload: Workload
    expected: list[Expected]
    dice: random.Random
    hits: Counter[str] = field(default_factory=Counter)
    kills: list[Kill] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    num_published: int = 0

    def publish(self, num_events: int | None = None) -> None:
        """The next events, or all that are left."""
        events: tuple[UploadedEvent, ...] = self.workload.events[self.num_published :][:num_events]
        self.num_published += publish(self.arena.settings.kafka, events) if events else 0

    def start(self, *names: str) -> list[Member]:
        return [self.arena.start(name) for name in names]

    def wait_for_work(self, num_more: int = 1, within_s: float = 40.0) -> bool:
        """Until so many more revisions have come out."""
        then = self._num_revisions()
        return eventually(lambda: self._num_revisions() >= then + num_more, within_s, every_s=0.05)

    def wait_for_completion(self, num_uploads: int, within_s: float) -> bool:
        """Until the first so many uploads have come to their ends."""
        return eventually(lambda: is_complete(self.expected[:num_uploads], self.during.seen), within_s)

    def pause(self, for_s: float) -> None:
        """Lets time go by: that is what some faults consist of."""
        threading.Event().wait(for_s)

    def kill(self, member: Member) -> None:
        self.kills.append(member.kill())
        self.hits["kill -9"] += 1

    def wrong(self, violation: Violation) -> None:
        self.violations.append(violation)

    def _num_revisions(self) -> int:
        return sum(one.kind == "tags" for one in self.during.seen)


@dataclass(frozen=True)
class Scene:
    """Where drills run. `planted` is a bug that all members have. `patience_s`: what has not come to its end so long
    after the last fault is lost."""

    bootstrap: str
    folder: Path
    seed: int
    short: bool
    planted: Plant | None = None
    patience_s: float = _PATIENCE_S

    def settings(self, *, protocol: str = "consumer", session_s: float = 6.0, **changes: object) -> Settings:
        """Those of a drill's members, with topics and a group of its own."""
        settings = kafka_settings(self.bootstrap, **{**_KAFKA, "group_protocol": protocol, **changes})
        if protocol == "classic":
            client = settings.client | {"session.timeout.ms": str(int(session_s * 1000))}
            settings = settings.model_copy(update={"client": client})
        return Settings(kafka=settings, max_videos_in_flight=6, drain_s=1.0, http=_HTTP)


@dataclass(frozen=True)
class Plan:
    """A drill: `disturb` publishes, starts members and does them harm; then all must come to its end. `planned` are
    the faults that must have been hit, and how often at least."""

    name: str
    settings: Settings
    workload: Workload
    expected: list[Expected]
    planned: Mapping[str, int]
    disturb: Callable[[Drill], None]


def plain_plan(
    name: str, settings: Settings, workload: Workload, planned: Mapping[str, int], disturb: Callable[[Drill], None]
) -> Plan:
    """What must come out is what the stand-ins make of the uploads."""
    return Plan(name, settings, workload, expect(workload, stand_in_tools(None)), planned, disturb)


def run(plan: Plan, scene: Scene) -> Report:
    started_s = time.monotonic()
    folder = scene.folder / plan.name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    kafka = plan.settings.kafka
    create_topics(kafka, NUM_PARTITIONS, 1)
    with ExitStack() as stack:
        house = stack.enter_context(arena(plan.settings, folder, Role(str(folder), planted=scene.planted)))
        during = stack.enter_context(Reader(kafka))
        drill = Drill(house, during, plan.workload, plan.expected, random.Random(scene.seed))
        plan.disturb(drill)
        drill.publish()
        if eventually(lambda: is_complete(plan.expected, during.seen) or house.is_deserted, scene.patience_s):
            _see_the_lag_go(drill, min(_LAG_S, scene.patience_s))
        else:
            house.dump_stacks()
        _see_all_leave(drill)
        after = _read_all(drill)
        eventually(lambda: len(during.seen) >= len(after), _LAG_S)
        seen = during.seen
    return _report(plan, scene, drill, seen, after, time.monotonic() - started_s)


def _report(
    plan: Plan, scene: Scene, drill: Drill, during: Sequence[Seen], after: Sequence[Seen], took_s: float
) -> Report:
    work = journal.read(drill.arena.folder / "journal")
    redo = judge_redo(work, during)
    repeats = plan.settings.kafka.delivery == "at_least_once"
    violations = [
        *drill.violations,
        *judge(plan.expected, during, after, repeats=repeats),
        *redo.violations,
        *(
            Violation("fault not hit", f"{fault}: {drill.hits[fault]} of {count}")
            for fault, count in plan.planned.items()
            if drill.hits[fault] < count
        ),
    ]
    return Report(
        drill=plan.name,
        seed=scene.seed,
        took_s=took_s,
        faults=drill.hits,
        uploads=len(plan.expected),
        revisions=sum(one.kind == "tags" for one in after),
        redo=redo,
        recoveries_s=recoveries_s(drill.kills, work, during),
        violations=violations,
    )


def _read_all(drill: Drill) -> list[Seen]:
    try:
        return read_all(drill.arena.settings.kafka)
    except TimeoutError as error:
        drill.wrong(Violation("hidden", str(error)))
        return drill.during.seen


def _see_the_lag_go(drill: Drill, within_s: float) -> None:
    """At the end nothing must be left to read, not even for a group that starts now."""
    kafka = drill.arena.settings.kafka
    if not eventually(lambda: lag(kafka) == 0, within_s, every_s=0.5):
        drill.wrong(Violation("lag", f"{lag(kafka)} input records are not committed"))


def _see_all_leave(drill: Drill) -> None:
    for log, code in drill.arena.stop().items():
        drill.wrong(Violation("bad exit", f"{log}: {code}"))
