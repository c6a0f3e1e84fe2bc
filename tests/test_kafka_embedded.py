import threading

import pytest

from consumer.kafka.admin import publish, topic_names, watch
from consumer.kafka.embedded import EmbeddedBroker
from consumer.kafka.uploads import parse
from consumer.settings import KafkaSettings
from tests.kafka_house import House, eventually
from tests.real_kafka import Topics, all_of, some
from tests.test_kafka_admin import upload


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_whole_way_works_on_the_embedded_broker(protocol: str) -> None:
    plain = KafkaSettings.model_validate({"group_protocol": protocol, "delivery": "at_least_once"})
    with EmbeddedBroker(topic_names(plain)) as broker:
        settings = plain.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
        topics = Topics(settings)
        topics.publish(some(20))
        with House(settings) as house:
            found = topics.read(settings.tags_topic, all_of(some(20)))
            assert len(found) == 20
            assert topics.commits_reach(20)
        assert house.drained


def test_publishing_and_watching_work_on_the_embedded_broker() -> None:
    plain = KafkaSettings.model_validate({})
    with EmbeddedBroker([plain.uploads_topic]) as broker:
        settings = plain.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
        assert publish(settings, [upload("v1"), upload("v2")]) == 2
        values = watch(settings, settings.uploads_topic, from_beginning=True)
        found = {parse(value, [], 10_000)[0].video_id for value in (next(v for v in values if v) for _ in range(2))}
        values.close()
        assert found == {"v1", "v2"}


def test_nothing_stays_behind_when_the_embedded_broker_is_closed() -> None:
    before = threading.active_count()
    with EmbeddedBroker(["t"]) as broker:
        assert broker.bootstrap_servers.startswith("127.0.0.1:")
    assert eventually(lambda: threading.active_count() == before)
