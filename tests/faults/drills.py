"""The faults: each drill plants its own, and all of them end with the same questions (see `oracle`)."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from consumer.settings import KafkaSettings
from tests.faults.arena import Member, eventually
from tests.faults.oracle import Violation, expect, is_complete
from tests.faults.points import POINTS, Point
from tests.faults.report import Report
from tests.faults.stage import Drill, Plan, Scene, plain_plan, run
from tests.faults.stand_ins import stand_in_tools
from tests.faults.workload import PLAIN, Mix, Workload, event, make_workload, stand_in

Protocol = Literal["classic", "consumer"]

_RECOVER_S = 45.0
_LULL_S = 10.0  # longer than a session: by then somebody is at work again, or all is done
_KILLS_AT = 5
_DEATHS = KafkaSettings().max_deaths
_MIX = Mix(window_ms=60)


def kills(scene: Scene, protocol: Protocol = "consumer") -> Report:
    """kill -9 of one of three at random times, and at once another process with the same transactional id."""
    num_kills, num_uploads = (10, 100) if scene.short else (100, 520)

    def disturb(drill: Drill) -> None:
        drill.publish(num_uploads // 10)
        members = drill.start("a", "b", "c")
        for _ in range(num_kills):
            drill.publish(num_uploads // num_kills)
            drill.wait_for_work(drill.dice.randint(1, 12), _LULL_S)
            number = drill.dice.randrange(len(members))
            drill.kill(members[number])
            members[number] = drill.arena.restart(members[number])

    workload = make_workload(scene.seed, num_uploads, _MIX)
    settings = scene.settings(protocol=protocol)
    return run(plain_plan(f"kills, {protocol}", settings, workload, {"kill -9": num_kills}, disturb), scene)


def recoveries(scene: Scene) -> Report:
    """kill -9 of one of two, and no other before all that it had in hand has gone on: how long that takes."""
    num_kills = 2 if scene.short else 12

    def disturb(drill: Drill) -> None:
        members = drill.start("a", "b")
        for number in range(num_kills):
            drill.publish(15)
            drill.wait_for_work(20, _RECOVER_S)
            drill.kill(members[number % 2])
            members[number % 2] = drill.arena.restart(members[number % 2])
            drill.wait_for_completion(drill.num_published, _RECOVER_S)

    mix = replace(PLAIN, window_ms=100)
    workload = make_workload(scene.seed, 15 * num_kills, mix)
    return run(plain_plan("recoveries", scene.settings(), workload, {"kill -9": num_kills}, disturb), scene)


def commit_points(scene: Scene, points: Sequence[Point] = POINTS) -> Report:
    """kill -9 at each named point of a commit."""
    times = 1 if scene.short else 4

    def disturb(drill: Drill) -> None:
        drill.publish(10)
        drill.start("b")
        for number, point in enumerate([*points] * times):
            drill.publish(5)
            died = f"died-{number}"
            role = replace(drill.arena.role, point=point, transaction=drill.dice.randint(1, 4), died=died)
            mortal = drill.arena.start("a", role=role)
            if mortal.wait(_RECOVER_S) is None:  # it never came to that point
                mortal.kill()
            drill.arena.members.remove(mortal)
            drill.hits[point] += (drill.arena.folder / died).exists()

    workload = make_workload(scene.seed, 10 + 8 * len(points) * times, _MIX)
    settings = scene.settings(protocol="classic", session_s=3.0)
    plan = plain_plan("commit points", settings, workload, dict.fromkeys(points, times), disturb)
    return run(plan, scene)


def terminations(scene: Scene) -> Report:
    """SIGTERM at random times: the process must leave with exit code 0, and another one takes its place."""
    num_stops, num_uploads = (6, 60) if scene.short else (50, 300)

    def disturb(drill: Drill) -> None:
        drill.publish(num_uploads // 5)
        members = drill.start("a", "b", "c")
        for _ in range(num_stops):
            drill.publish(num_uploads // num_stops)
            drill.wait_for_work(drill.dice.randint(1, 12), _LULL_S)
            number = drill.dice.randrange(len(members))
            _terminate(drill, members[number])
            members[number] = drill.arena.restart(members[number])

    workload = make_workload(scene.seed, num_uploads, _MIX)
    settings = scene.settings(protocol="classic")
    return run(plain_plan("SIGTERM", settings, workload, {"SIGTERM": num_stops}, disturb), scene)


def zombies(scene: Scene, protocol: Protocol = "classic") -> Report:
    """A process stands still for twice the session timeout, and then goes on as if nothing had happened."""
    times, session_s = (2, 2.0) if scene.short and protocol == "classic" else (3, 6.0)

    def disturb(drill: Drill) -> None:
        drill.publish(30)
        members = drill.start("a", "b")
        for number in range(times):
            drill.publish(20)
            drill.wait_for_work(8, _RECOVER_S)
            drill.hits["SIGSTOP"] += _freeze(drill, members[number % 2], 2 * session_s)
            drill.wait_for_work(8, _RECOVER_S)

    workload = make_workload(scene.seed, 30 + 20 * times, _MIX)
    # Results wait for their commit for longer than usual, so that some are in hand whenever it happens.
    settings = scene.settings(protocol=protocol, session_s=session_s, commit_interval_s=0.5)
    return run(plain_plan(f"zombies, {protocol}", settings, workload, {"SIGSTOP": times}, disturb), scene)


def churn(scene: Scene, protocol: Protocol = "consumer") -> Report:
    """Members come and go every two seconds."""
    num_changes, num_uploads = (5, 60) if scene.short else (40, 300)

    def disturb(drill: Drill) -> None:
        drill.publish(num_uploads // 2)
        drill.start("member-0")
        for number in range(1, num_changes + 1):
            drill.publish(num_uploads // num_changes // 2)
            drill.pause(2.0)
            members = drill.arena.members
            if len(members) < 4 and (len(members) == 1 or drill.dice.random() < 0.5):
                drill.start(f"member-{number}")
                drill.hits["member added"] += 1
            else:
                leaving = drill.dice.choice(members)
                _terminate(drill, leaving)
                members.remove(leaving)
                drill.hits["member removed"] += 1

    workload = make_workload(scene.seed, num_uploads, _MIX)
    planned = {"member added": 1, "member removed": 1}
    settings = scene.settings(protocol=protocol)
    return run(plain_plan(f"churn, {protocol}", settings, workload, planned, disturb), scene)


def twins(scene: Scene) -> Report:
    """Two processes with one transactional id: the older one is shut out, says so, and ends."""

    def disturb(drill: Drill) -> None:
        drill.publish()
        (older,) = drill.start("twin")
        drill.wait_for_work(5, _RECOVER_S)
        drill.start("twin")
        code = older.wait(_RECOVER_S)
        drill.hits["fenced"] += code == 1 and "another process uses the transactional id" in older.said
        if code is not None:
            drill.arena.members.remove(older)
        if not code:
            drill.wrong(Violation("bad exit", f"{older.log.name}: {code}, and not 1"))

    workload = make_workload(scene.seed, 30, _MIX)
    return run(plain_plan("twins", scene.settings(), workload, {"fenced": 1}, disturb), scene)


def poison(scene: Scene) -> Report:
    """An upload that kills each process that works on it. The others must not suffer for it."""
    good = make_workload(scene.seed, 30, replace(PLAIN, window_ms=100, max_windows=20))
    bad = stand_in("poison", 12, window_ms=100, kills_at=_KILLS_AT)
    workload = Workload((*good.uploads, bad), (*good.events[:10], event(bad), *good.events[10:]))

    def disturb(drill: Drill) -> None:
        drill.publish()
        members = drill.start("a", "b")

        def is_over() -> bool:
            for number, member in enumerate(members):
                if member.exit_code is not None:
                    drill.hits["died"] += 1
                    members[number] = drill.arena.restart(member)
            return is_complete(drill.expected, drill.during.seen)

        eventually(is_over, scene.patience_s)
        # Deaths count from the last progress, and each of the first tries may have got a window further.
        if drill.hits["died"] > _DEATHS + _KILLS_AT:
            drill.wrong(Violation("too much redone", f"{drill.hits['died']} processes died, and not {_DEATHS}"))

    settings = scene.settings(protocol="classic", session_s=3.0, max_deaths=_DEATHS)
    expected = [
        replace(one, reason="process_died", doomed=True) if one.video == bad.video_id else one
        for one in expect(workload, stand_in_tools(None))
    ]
    return run(Plan("poison", settings, workload, expected, {"died": _DEATHS}, disturb), scene)


def at_least_once(scene: Scene) -> Report:
    """Without transactions, under kill -9: nothing is lost, and what comes again has the same ids."""
    num_kills = 4 if scene.short else 20

    def disturb(drill: Drill) -> None:
        drill.publish()
        members = drill.start("a", "b")
        for _ in range(num_kills):
            drill.wait_for_work(drill.dice.randint(1, 12), _LULL_S)
            number = drill.dice.randrange(len(members))
            drill.kill(members[number])
            members[number] = drill.arena.restart(members[number])

    workload = make_workload(scene.seed, 12 * num_kills, _MIX)
    settings = scene.settings(delivery="at_least_once")
    return run(plain_plan("at least once", settings, workload, {"kill -9": num_kills}, disturb), scene)


def _freeze(drill: Drill, member: Member, for_s: float) -> bool:
    """False if it did not live to go on."""
    member.send(signal.SIGSTOP)
    drill.pause(for_s)
    member.send(signal.SIGCONT)
    return member.exit_code is None


def _terminate(drill: Drill, member: Member) -> None:
    eventually(lambda: bool(member.said), _RECOVER_S)  # before that, Python itself is still starting
    member.send(signal.SIGTERM)
    code = member.wait()
    drill.hits["SIGTERM"] += code == 0
    if code != 0:
        drill.wrong(Violation("bad exit", f"{member.log.name}: {code} after SIGTERM"))
