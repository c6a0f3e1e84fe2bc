"""Topics, and consumer processes around them that can be killed, frozen and stopped. All are reaped at the end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from consumer.settings import KafkaSettings, Settings, environment_name
from tests.faults.member import ROLE, Role

_EXIT_S = 60.0
_ANSWER_S = 15.0


@dataclass(frozen=True)
class Kill:
    """When a process was killed or frozen, or the broker was. `pid` None: the broker's."""

    pid: int | None
    at_s: float


class Member:
    """A consumer process."""

    def __init__(self, name: str, environment: dict[str, str], log: Path, command: str = "tests.faults.member") -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command.split()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that killed it."""
        return self._process.poll()

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> Kill:
        at_s = time.monotonic()
        self._process.kill()
        self._process.wait(_EXIT_S)
        return Kill(self.pid, at_s)

    def wait(self, within_s: float = _EXIT_S) -> int | None:
        """The exit code, None if it does not end."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None


class Arena:
    """`settings` as all members have them; each has its own transactional id."""

    def __init__(self, settings: Settings, folder: Path, role: Role) -> None:
        self.settings = settings
        self.folder = folder
        self.role = role
        self.members: list[Member] = []
        self._num_started = 0

    def start(self, name: str, role: Role | None = None, command: str = "tests.faults.member") -> Member:
        """A member with a name, which makes its transactional id."""
        transactional_id = f"{self.settings.kafka.group_id}-{name}"
        own = self.settings.kafka.model_copy(update={"transactional_id": transactional_id})
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TAGSTREAM_")},
            **environment_of(self.settings.model_copy(update={"kafka": own})),
            ROLE: (role or self.role).to_json(),
        }
        self._num_started += 1
        member = Member(name, environment, self.folder / f"{self._num_started:03}-{name}.log", command)
        self.members.append(member)
        return member

    def restart(self, member: Member) -> Member:
        """Another process in its place, with the same transactional id."""
        self.members.remove(member)
        return self.start(member.name)

    @property
    def is_deserted(self) -> bool:
        """Whether nobody is left who could go on."""
        return all(member.exit_code is not None for member in self.members)

    def dump_stacks(self) -> None:
        """Into the logs of all that run."""
        for member in self.members:
            if member.exit_code is None:
                member.send(signal.SIGUSR1)

    def stop(self) -> dict[str, int | None]:
        """SIGTERM to all that run; those that did not end with 0, and how they did."""
        for member in self.members:
            if member.exit_code is None:
                member.send(signal.SIGCONT)
                member.send(signal.SIGTERM)
        codes = {member.log.name: member.wait() for member in self.members}
        return {name: code for name, code in codes.items() if code != 0}

    def end(self) -> None:
        for member in self.members:
            if member.exit_code is None:
                member.kill()


@contextmanager
def arena(settings: Settings, folder: Path, role: Role | None = None) -> Iterator[Arena]:
    with ExitStack() as stack:
        found = Arena(settings, folder, role or Role(str(folder)))
        stack.callback(found.end)
        yield found


def environment_of(settings: Settings) -> dict[str, str]:
    """Variables that make a process use these settings."""
    return {
        environment_name(name): str(value)
        for name, value in _leaves(settings.model_dump(exclude_defaults=True))
        if value is not None
    }


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def eventually(condition: Callable[[], bool], within_s: float, every_s: float = 0.1) -> bool:
    """Waits for the condition; False if it does not come true in time."""
    until_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        threading.Event().wait(every_s)
    return True


def lag(settings: KafkaSettings) -> int:
    """Input records, retries included, that no commit of the group says are done. Counted by reading them, since the
    markers of transactions take offsets too."""
    num_unread = 0
    config = {
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": settings.group_id,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    with closing(Consumer(config)) as consumer:
        partitions = [
            TopicPartition(topic, partition)
            for topic in (settings.uploads_topic, settings.retry_topic)
            for partition in consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic].partitions
        ]
        for partition in consumer.committed(partitions, timeout=_ANSWER_S):
            partition.offset = max(partition.offset, 0) if partition.offset >= 0 else OFFSET_BEGINNING
            consumer.incremental_assign([partition])
        num_ended, until_s = 0, time.monotonic() + _ANSWER_S
        while num_ended < len(partitions) and time.monotonic() < until_s:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                num_unread += 1
            elif message is not None and message.error().code() == KafkaError._PARTITION_EOF:
                num_ended += 1
    return num_unread + len(partitions) - num_ended
