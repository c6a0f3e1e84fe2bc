"""A real Apache Kafka for the tests: one broker for the session, topics and a group of its own for each test.

`TAGSTREAM_TEST_BOOTSTRAP` names a broker that runs already; else one is started from `KAFKA_HOME`, any Apache
Kafka download of 3.3 or newer, or from `../shared/kafka`. Where there is none the tests are skipped, and the
last lines of the run say so.
"""

import base64
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from consumer.kafka.admin import create_topics
from consumer.settings import KafkaSettings

_START_S = 60.0
_STOP_S = 30.0
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={directory}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=500
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
group.consumer.session.timeout.ms=6000
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.segment.bytes=16777216
num.network.threads=2
num.io.threads=4
"""

Enough = Callable[[list[Message]], bool]

_why_skipped: set[str] = set()


class Broker:
    """One Apache Kafka process that keeps its port and its data over a restart."""

    def __init__(self, home: Path, directory: Path, properties: str = "") -> None:
        self._home = home
        self._directory = directory
        self._properties = directory / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        port, controller_port = _free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        ours = _PROPERTIES.format(port=port, controller_port=controller_port, directory=directory)
        self._properties.write_text(ours + properties)

    def start(self) -> None:
        """Returns when the broker answers; the first time it is formatted. One that runs is left alone.

        Raises RuntimeError with the end of the broker's log when it ends instead.
        """
        if self._process is not None:
            return
        if not (self._directory / "data").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            self._tool("kafka-storage.sh", "format", "-t", cluster, "-c", str(self._properties)).wait(_START_S)
        self._process = self._tool("kafka-server-start.sh", str(self._properties))
        until_s = time.monotonic() + _START_S
        with closing(Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})) as client:
            while True:
                try:
                    client.list_topics(timeout=2)
                except KafkaException as error:
                    if self._process.poll() is not None or time.monotonic() > until_s:
                        raise RuntimeError(f"the broker did not start: {self._last_words()}") from error
                else:
                    return

    def stop(self) -> None:
        """Ends the process in order, as an operator does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_STOP_S)
            self._process = None

    def kill(self) -> None:
        """Ends the process as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)
            self._process = None

    def freeze(self) -> None:
        """The connections stay, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _last_words(self) -> str:
        return "\n".join((self._directory / "log").read_text(errors="replace").splitlines()[-30:])

    def _tool(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                [self._home / "bin" / name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"LOG_DIR": str(self._directory), "KAFKA_HEAP_OPTS": "-Xms64m -Xmx384m"},
            )


class Topics:
    """The topics of one test, and what a test does with them."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings

    def publish(self, values: Sequence[bytes], topic: str | None = None) -> None:
        """Spreads the values over the partitions, one after the other."""
        topic = topic or self.settings.uploads_topic
        config = {"bootstrap.servers": self.settings.bootstrap_servers, "message.max.bytes": 10_000_000}
        with closing(Producer(config)) as producer:
            partitions = len(_known_partitions(producer, topic))
            for number, value in enumerate(values):
                producer.produce(topic, value, value[:100], number % partitions)
            assert producer.flush(20) == 0

    def read(self, topic: str, enough: Enough, within_s: float = 20.0) -> list[Message]:
        """The topic's committed records, as soon as they are enough, at the latest after `within_s`."""
        config = {
            "bootstrap.servers": self.settings.bootstrap_servers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
        found: list[Message] = []
        until_s = time.monotonic() + within_s
        with closing(Consumer(config)) as consumer:
            partitions = _known_partitions(consumer, topic)
            consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
            while not enough(found) and time.monotonic() < until_s:
                message = consumer.poll(0.1)
                if message is not None and not message.error():
                    found.append(message)
        return found

    def committed(self) -> dict[int, int]:
        """The group's committed offset of each partition that has one."""
        with closing(self._group_reader()) as reader:
            return self._committed(reader)

    def commits_reach(self, total: int, within_s: float = 60.0) -> bool:
        """Waits until the committed offsets of all partitions add up to `total`."""
        until_s = time.monotonic() + within_s
        with closing(self._group_reader()) as reader:
            while sum(self._committed(reader).values()) < total:
                if time.monotonic() > until_s:
                    return False
                threading.Event().wait(0.05)
        return True

    def _group_reader(self) -> Consumer:
        return Consumer({"bootstrap.servers": self.settings.bootstrap_servers, "group.id": self.settings.group_id})

    def _committed(self, reader: Consumer) -> dict[int, int]:
        topic = self.settings.uploads_topic
        asked = [TopicPartition(topic, partition) for partition in _known_partitions(reader, topic)]
        until_s = time.monotonic() + 20
        while True:
            try:
                found = reader.committed(asked, timeout=10)
            except KafkaException:  # a broker that was just away looks for its coordinator
                if time.monotonic() > until_s:
                    raise
            else:
                return {p.partition: p.offset for p in found if p.offset >= 0}


def kafka_settings(bootstrap: str, **changes: object) -> KafkaSettings:
    """Settings with topics and a group that nobody else uses."""
    unique = uuid.uuid4().hex[:8]
    names = {
        field: f"{field.removesuffix('_topic')}-{unique}"
        for field in KafkaSettings.model_fields
        if field.endswith("_topic")
    }
    client = {"reconnect.backoff.ms": "100", "reconnect.backoff.max.ms": "500"}
    if changes.get("group_protocol") != "consumer":
        client["heartbeat.interval.ms"] = "300"
    return KafkaSettings.model_validate(
        {"bootstrap_servers": bootstrap, "group_id": f"group-{unique}", "client": client, **names, **changes}
    )


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of the session's broker."""
    if running := os.environ.get("TAGSTREAM_TEST_BOOTSTRAP"):
        yield running
        return
    broker = Broker(home_or_skip(), tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker.bootstrap
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker, not started yet, that the tests of a module may start, kill and freeze."""
    broker = Broker(home_or_skip(), tmp_path_factory.mktemp("kafka"))
    try:
        yield broker
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def classic_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs, and knows the new rebalance protocol (KIP-848) but does not speak it."""
    broker = Broker(home_or_skip(), tmp_path_factory.mktemp("kafka"), "group.coordinator.rebalance.protocols=classic\n")
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def topics(real_kafka: str) -> Topics:
    """Fresh topics with four partitions, and a fresh group."""
    return fresh_topics(real_kafka)


def some(number: int) -> list[bytes]:
    """That many values."""
    return [b"%d" % n for n in range(number)]


def all_of(values: Sequence[bytes]) -> Enough:
    """Each value at least once."""
    return lambda found: {message.value() for message in found} >= set(values)


def fresh_topics(bootstrap: str, settings: KafkaSettings | None = None, **changes: object) -> Topics:
    settings = settings or kafka_settings(bootstrap, **changes)
    create_topics(settings, partitions=4, replication=1)
    return Topics(settings)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, None, None]:
    """After pytest's own summary, so that it stands in the last lines."""
    yield
    for why in sorted(_why_skipped):
        terminalreporter.write_line(f"NOT TESTED with a real Kafka: {why}", yellow=True)


def _known_partitions(client: Any, topic: str) -> list[int]:
    """A topic that was just made is known to the broker a moment later."""
    until_s = time.monotonic() + 10
    while not (partitions := list(client.list_topics(topic, timeout=10).topics[topic].partitions)):
        assert time.monotonic() < until_s
    return partitions


def home_or_skip() -> Path:
    """The folder of an Apache Kafka; skips the test where there is none that can run."""
    home = Path(os.environ.get("KAFKA_HOME") or Path(__file__).parents[2] / "shared" / "kafka")
    if not (home / "bin" / "kafka-server-start.sh").exists():
        _skip(f"no Apache Kafka at {home}; set KAFKA_HOME to one, or TAGSTREAM_TEST_BOOTSTRAP to its address")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        _skip("no java on the PATH and no JAVA_HOME; Apache Kafka needs 17 or newer")
    return home


def _skip(why: str) -> None:
    _why_skipped.add(why)
    pytest.skip(why)


def _free_ports(count: int) -> list[int]:
    """Below those that the system gives to outgoing connections: one of these must not take a broker's port while it
    starts or is down."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
