import logging

import pytest
from confluent_kafka import Consumer, KafkaError

from consumer.errors import SettingsError, TagstreamError
from consumer.kafka.client import Troubles, client_config, consumer_config, open_client, plain_reason
from consumer.kafka.delivery import AtLeastOnce
from consumer.kafka.transactions import ExactlyOnce
from consumer.settings import KafkaSettings


def settings(**client: str) -> KafkaSettings:
    return KafkaSettings.model_validate({"client": {name.replace("_", "."): value for name, value in client.items()}})


def test_client_settings_reach_librdkafka_and_win_over_ours() -> None:
    config = client_config(settings(security_protocol="SASL_SSL", client_id="mine"))
    assert config["security.protocol"] == "SASL_SSL"
    assert config["client.id"] == "mine"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("group_id", "use kafka.group_id"),
        ("bootstrap_servers", "use kafka.bootstrap_servers"),
        ("group_protocol", "use kafka.group_protocol"),
        ("transactional_id", "use kafka.transactional_id"),
        ("transaction_timeout_ms", "use kafka.transaction_timeout_s"),
        ("enable_auto_commit", "the delivery guarantee rests on it"),
        ("isolation_level", "the delivery guarantee rests on it"),
    ],
)
def test_client_settings_that_would_break_the_house_are_refused(name: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        client_config(settings(**{name: "x"}))


@pytest.mark.parametrize("wrong", [{"no_such_key": "1"}, {"security_protocol": "none"}, {"fetch_min_bytes": "many"}])
@pytest.mark.parametrize("delivery", [AtLeastOnce, ExactlyOnce])
def test_what_librdkafka_does_not_take_is_wrong_usage(
    wrong: dict[str, str], delivery: type[AtLeastOnce | ExactlyOnce]
) -> None:
    name = next(iter(wrong)).replace("_", ".")
    with pytest.raises(SettingsError, match=name):
        delivery(settings(**wrong), lambda: False)
    with pytest.raises(SettingsError, match=name):
        open_client(Consumer, consumer_config(settings(**wrong)))


def test_each_group_protocol_is_sent_only_what_it_takes() -> None:
    classic, new = consumer_config(settings(), "classic"), consumer_config(settings(), "consumer")
    assert classic["partition.assignment.strategy"] == "cooperative-sticky"
    assert "partition.assignment.strategy" not in new
    for config in (classic, new):
        open_client(Consumer, config).close()


def test_a_member_reads_only_what_is_committed_and_commits_only_what_it_is_told_to() -> None:
    config = consumer_config(settings())
    assert config["isolation.level"] == "read_committed"
    assert config["enable.auto.commit"] is config["enable.auto.offset.store"] is False


def test_a_static_member_says_its_name() -> None:
    static = KafkaSettings.model_validate({"group_instance_id": "tagger-3"})
    assert consumer_config(static)["group.instance.id"] == "tagger-3"
    assert "group.instance.id" not in consumer_config(settings())


def down(servers: str = "k:9092") -> list[KafkaError]:
    refused = (
        f"{servers}/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 2ms in state CONNECT)"
    )
    return [
        KafkaError(KafkaError._TRANSPORT, refused),
        KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"),
    ]


def test_an_outage_is_said_once_with_its_reason_and_once_more_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    troubles = Troubles("k:9092")
    for error in down() * 3:
        troubles.client_failed(error)
    troubles.broker_answers()
    troubles.broker_answers()
    troubles.client_failed(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert caplog.messages == [
        "waiting for Kafka at k:9092: Connection refused; will go on by itself",
        "Kafka at k:9092 answers again",
        "waiting for Kafka at k:9092: no answer; will go on by itself",
    ]


def test_one_lost_connection_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    Troubles("k:9092").client_failed(down()[0])
    assert caplog.messages == []


def test_a_refused_password_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles("k:9092")
    for _ in range(20):
        troubles.client_failed(
            KafkaError(
                KafkaError._AUTHENTICATION,
                "k:9092/1: SASL authentication error: Authentication failed "
                "(after 3ms in state AUTH_REQ, 4 identical error(s) suppressed)",
            )
        )
    assert caplog.messages == [
        "waiting for Kafka at k:9092: k:9092/1: SASL authentication error: Authentication failed; will go on by itself"
    ]


def test_a_fatal_error_is_raised() -> None:
    with pytest.raises(TagstreamError, match="broken for good: fenced"):
        Troubles("k:9092").client_failed(KafkaError(KafkaError._FENCED, "fenced", fatal=True))


def test_a_reason_is_said_without_address_and_state() -> None:
    assert plain_reason(down()[0]) == "Connection refused"
    assert (
        plain_reason(
            KafkaError(
                KafkaError._RESOLVE,
                "Failed to resolve 'k:9092': Name or service not known (after 9ms in state CONNECT)",
            )
        )
        == "Failed to resolve 'k:9092': Name or service not known"
    )
