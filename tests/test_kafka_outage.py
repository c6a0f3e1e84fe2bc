import logging
import threading

import pytest

from tests.kafka_house import House, eventually
from tests.real_kafka import Broker, all_of, fresh_topics, kafka_settings, some


def waiting_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "waiting for Kafka" in record.getMessage()]


def test_a_broker_that_is_away_at_the_start_and_again_later_is_waited_for_and_said_once(
    own_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = kafka_settings(own_broker.bootstrap)
    with House(settings) as house:
        assert eventually(lambda: bool(waiting_lines(caplog)))
        own_broker.start()
        topics = fresh_topics(own_broker.bootstrap, settings)
        topics.publish(some(8))
        assert topics.commits_reach(8)
        assert waiting_lines(caplog) == [
            f"waiting for Kafka at {own_broker.bootstrap}: Connection refused; will go on by itself"
        ]
        assert "answers again" in caplog.text

        back = threading.Event()
        house.work = lambda job: back.wait(60)
        topics.publish(some(20))
        assert eventually(lambda: len(house.begun) == 8 + 4)
        own_broker.kill()
        assert eventually(lambda: len(waiting_lines(caplog)) == 2)
        assert house.intake.alive()
        back.set()
        own_broker.start()
        assert len({m.value() for m in topics.read(settings.tags_topic, all_of(some(20)), within_s=40)}) == 20
        assert topics.commits_reach(28, within_s=40)
    assert house.drained
    assert len(waiting_lines(caplog)) == 2
    assert "librdkafka" not in {record.name for record in caplog.records}


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_broker_that_hangs_does_not_hold_up_the_drain(own_broker: Broker, delivery: str) -> None:
    own_broker.start()
    topics = fresh_topics(own_broker.bootstrap, client={"socket.timeout.ms": "1000"}, delivery=delivery)
    topics.publish([b"committed"])
    with House(topics.settings, drain_s=0.5) as house:
        assert topics.commits_reach(1)
        house.work = lambda job: job.cancelled.wait(30)
        topics.publish(some(4))
        assert eventually(lambda: len(house.begun) == 5)
        own_broker.freeze()
    own_broker.thaw()
    assert house.drained
    assert topics.commits_reach(1)
