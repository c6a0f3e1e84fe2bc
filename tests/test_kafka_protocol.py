import ctypes
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from consumer.errors import Abandoned, SettingsError
from consumer.kafka.embedded import EmbeddedBroker
from consumer.kafka.protocol import group_protocol
from consumer.settings import KafkaSettings
from tests.kafka_house import eventually
from tests.kafka_patience import Patience
from tests.real_kafka import Broker, Topics, kafka_settings

CONSUMER_GROUP_HEARTBEAT = 68


def never() -> bool:
    return False


def asking(bootstrap: str, **client: str) -> KafkaSettings:
    return kafka_settings(bootstrap, group_protocol="auto", client=client)


def groups(bootstrap: str) -> list[str]:
    with AdminClient({"bootstrap.servers": bootstrap}) as admin:
        found = admin.list_consumer_groups().result(10)
    assert not found.errors
    return [group.group_id for group in found.valid]


@pytest.fixture
def broker_of_before() -> Iterator[str]:
    """The address of a broker that has never heard of the new protocol: librdkafka's mock cluster, made to look so."""
    wheel = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    if not (libraries := list(wheel.glob("librdkafka-*.so*"))):
        pytest.skip("librdkafka is not where the Linux wheel has it")
    rd = ctypes.CDLL(str(libraries[0]))
    for name in ("rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(rd, name).restype = ctypes.c_void_p
    rd.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    client = ctypes.c_void_p(rd.rd_kafka_new(0, None, None, 0))
    cluster = ctypes.c_void_p(rd.rd_kafka_mock_cluster_new(client, 1))
    assert rd.rd_kafka_mock_set_apiversion(cluster, ctypes.c_int16(CONSUMER_GROUP_HEARTBEAT), -1, -1) == 0
    yield rd.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    rd.rd_kafka_mock_cluster_destroy(cluster)
    rd.rd_kafka_destroy(client)


@pytest.mark.parametrize("said", ["classic", "consumer"])
def test_a_protocol_that_is_set_is_taken_without_asking(said: str) -> None:
    assert group_protocol(kafka_settings("127.0.0.1:1", group_protocol=said), never) == said


def test_settings_that_only_the_classic_protocol_takes_choose_it() -> None:
    assert group_protocol(asking("127.0.0.1:1", **{"session.timeout.ms": "6000"}), never) == "classic"


def test_a_broker_that_speaks_the_new_protocol_is_asked_without_a_trace(real_kafka: str) -> None:
    settings = asking(real_kafka)
    assert group_protocol(settings, never) == "consumer"
    assert settings.group_id not in groups(real_kafka)


def test_an_assignor_of_ones_own_does_not_hinder_the_question(real_kafka: str) -> None:
    assert group_protocol(asking(real_kafka, **{"group.remote.assignor": "uniform"}), never) == "consumer"


def test_members_that_are_there_keep_their_partitions_when_another_asks(topics: Topics) -> None:
    settings = topics.settings.model_copy(update={"group_protocol": "auto", "client": {}})
    assigned, taken = threading.Event(), threading.Event()
    member = confluent_kafka.Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": settings.group_id,
            "group.protocol": "consumer",
            "enable.auto.commit": False,
        }
    )
    member.subscribe([settings.uploads_topic], on_assign=lambda *_: assigned.set(), on_revoke=lambda *_: taken.set())
    with ThreadPoolExecutor(1) as pool:
        assert eventually(lambda: member.poll(0.1) is None and assigned.is_set())
        assert pool.submit(group_protocol, settings, never).result(20) == "consumer"
        member.poll(1.5)  # three heartbeats
    assert not taken.is_set()
    assert len(member.assignment()) == 4
    member.close()


def test_a_broker_that_has_it_switched_off_gets_the_classic_protocol(
    classic_broker: Broker, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = asking(classic_broker.bootstrap)
    assert group_protocol(settings, never) == "classic"
    assert caplog.messages == []
    assert capfd.readouterr().err == ""
    assert settings.group_id not in groups(classic_broker.bootstrap)


def test_a_broker_that_does_not_know_it_gets_the_classic_protocol(broker_of_before: str) -> None:
    assert group_protocol(asking(broker_of_before), never) == "classic"


def test_the_embedded_broker_speaks_the_new_protocol() -> None:
    settings = asking("")
    with EmbeddedBroker([settings.uploads_topic]) as broker:
        here = settings.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
        assert group_protocol(here, never) == "consumer"


def test_a_broker_that_does_not_answer_is_waited_for(classic_broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience()
    classic_broker.freeze()
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(group_protocol, asking(classic_broker.bootstrap), patience)
            assert patience.was_asked(5)
            assert not answer.done()
            classic_broker.thaw()
            assert answer.result(30) == "classic"
    finally:
        classic_broker.thaw()


def test_the_wait_for_a_broker_can_be_ended(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(group_protocol, asking("127.0.0.1:1"), patience)
        assert patience.was_asked(5)
        patience.end()
        with pytest.raises(Abandoned):
            answer.result(10)
    assert caplog.messages == ["waiting for Kafka at 127.0.0.1:1: Connection refused; will go on by itself"]


def test_wrong_client_settings_are_wrong_usage() -> None:
    with pytest.raises(SettingsError, match=r"no\.such\.key"):
        group_protocol(asking("127.0.0.1:1", **{"no.such.key": "1"}), never)
