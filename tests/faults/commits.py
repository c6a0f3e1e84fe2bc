"""Slow and failing commits: what the product's transactions make of each error, on librdkafka's mock cluster."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError

from consumer.display import out
from consumer.errors import Abandoned, TagstreamError
from consumer.kafka.delivery import Batch, NothingStored, Refused
from consumer.kafka.offsets import Partition, Position
from consumer.kafka.records import Record
from consumer.kafka.transactions import ExactlyOnce
from consumer.settings import KafkaSettings
from tests.faults.mock_cluster import Api, MockCluster, librdkafka, mock_cluster
from tests.faults.oracle import Violation
from tests.faults.redo import Redo
from tests.faults.report import Report

_LONGEST_S = 40.0
_TRIES = 5
_AT_ONCE = 5


@dataclass(frozen=True)
class Trouble:
    """What the brokers do, and what must become of a batch, one outcome for each try of it. `again`: nothing is stored,
    and the batch is tried again."""

    name: str
    begin: Callable[[MockCluster], None]
    outcomes: Sequence[str]


def _errors(api: Api, *codes: int) -> Callable[[MockCluster], None]:
    return lambda cluster: cluster.fail(api, codes)


def _away_for(seconds: float) -> Callable[[MockCluster], None]:
    def begin(cluster: MockCluster) -> None:
        cluster.go_down()
        threading.Timer(seconds, cluster.come_up).start()

    return begin


TROUBLES = (
    Trouble("none", lambda cluster: None, ["stored"]),
    Trouble("not a member", _errors(Api.TXN_OFFSET_COMMIT, KafkaError.ILLEGAL_GENERATION), ["again", "stored"]),
    Trouble("unknown member", _errors(Api.TXN_OFFSET_COMMIT, KafkaError.UNKNOWN_MEMBER_ID), ["again", "stored"]),
    Trouble("group loads", _errors(Api.TXN_OFFSET_COMMIT, *[KafkaError.COORDINATOR_LOAD_IN_PROGRESS] * 3), ["stored"]),
    Trouble("commits collide", _errors(Api.END_TXN, *[KafkaError.CONCURRENT_TRANSACTIONS] * 2), ["stored"]),
    Trouble("coordinator moves", _errors(Api.END_TXN, KafkaError.NOT_COORDINATOR), ["stored"]),
    Trouble("coordinator away", _errors(Api.ADD_OFFSETS_TO_TXN, KafkaError.COORDINATOR_NOT_AVAILABLE), ["stored"]),
    Trouble("leader moves", _errors(Api.PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION), ["stored"]),
    Trouble("commit fails", _errors(Api.END_TXN, KafkaError.UNKNOWN), ["again", "stored"]),
    Trouble("too large", _errors(Api.PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE), ["refused", "again", "stored"]),
    Trouble("slow", lambda cluster: cluster.tarry(700), ["stored"]),
    Trouble("slower", lambda cluster: cluster.tarry(1200), ["stored"]),
    Trouble("away", _away_for(3.0), ["again", "stored"]),
    Trouble("fenced", _errors(Api.END_TXN, KafkaError.PRODUCER_FENCED), ["ended"]),
)


def failing_commits(seed: int) -> Report:
    """Every batch must be answered in time, and as it should. Each trouble has a process of its own, which is ended
    where the client hangs."""
    started_s = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = dict(zip((t.name for t in TROUBLES), pool.map(_try_apart, TROUBLES), strict=True))
    violations = [
        Violation("bad exit", f"{trouble.name}: {answers[trouble.name]}, and not {' '.join(trouble.outcomes)}")
        for trouble in TROUBLES
        if answers[trouble.name] != " ".join(trouble.outcomes)
    ]
    took_s = time.monotonic() - started_s
    hits = Counter(answers.keys())
    return Report("failing commits", seed, took_s, hits, len(TROUBLES), 0, Redo(0, 0, ()), [], violations)


def _try_apart(trouble: Trouble) -> str:
    command = [sys.executable, "-m", __name__, trouble.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer in {_LONGEST_S:.0f} s"
    return done.stdout.strip() or done.stderr.strip()[-300:]


def _try(trouble: Trouble, library: Path) -> list[str]:
    with mock_cluster(library) as cluster, _transactions(cluster) as (delivery, batch):
        delivery.store(batch)  # makes the producer known, in peace
        trouble.begin(cluster)
        outcomes = [_store(delivery, batch)]
        while outcomes[-1] in ("again", "refused") and len(outcomes) < _TRIES:
            outcomes.append(_store(delivery, batch))
        cluster.tarry(0)
        return outcomes


def _store(delivery: ExactlyOnce, batch: Batch) -> str:
    try:
        delivery.store(batch)
    except NothingStored:
        return "again"
    except Refused:
        return "refused"
    except Abandoned:
        return "too late"
    except TagstreamError:
        return "ended"
    return "stored"


@contextmanager
def _transactions(cluster: MockCluster) -> Iterator[tuple[ExactlyOnce, Batch]]:
    settings = KafkaSettings(bootstrap_servers=cluster.bootstrap, client={"reconnect.backoff.max.ms": "500"})
    for topic in (settings.uploads_topic, settings.tags_topic):
        cluster.create_topic(topic)
    late_at_s = time.monotonic() + 2 * _LONGEST_S
    record = Record(settings.tags_topic, b"video", b"{}", [], "test")
    group = {"bootstrap.servers": cluster.bootstrap, "group.id": settings.group_id}
    with closing(Consumer(group)) as member:
        delivery = ExactlyOnce(settings, lambda: time.monotonic() > late_at_s)
        positions = {Partition(settings.uploads_topic, 0): Position(1)}
        try:
            yield delivery, Batch([record], positions, member.consumer_group_metadata())
        finally:
            delivery.close()


def main() -> None:
    library = librdkafka()
    assert library is not None
    (trouble,) = (trouble for trouble in TROUBLES if trouble.name == sys.argv[1])
    out(" ".join(_try(trouble, library)))


if __name__ == "__main__":
    main()
