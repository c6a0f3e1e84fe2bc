import logging
import random
import threading
from contextlib import closing

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import REGISTRY

from consumer import metrics
from consumer.errors import TagstreamError
from consumer.kafka.admin import create_topics
from consumer.kafka.records import Job
from consumer.kafka.uploads import parse
from tests.kafka_house import House, eventually
from tests.real_kafka import Topics, all_of, fresh_topics, kafka_settings, some

PROTOCOLS = pytest.mark.parametrize("protocol", ["classic", "consumer"])


@PROTOCOLS
def test_work_that_ends_in_any_order_is_published_and_committed_to_the_end(real_kafka: str, protocol: str) -> None:
    topics = fresh_topics(real_kafka, group_protocol=protocol)
    settings = topics.settings
    values = some(60)
    topics.publish(values)
    pause = random.Random(7)
    with House(settings, 8, lambda job: job.cancelled.wait(pause.uniform(0, 0.05))) as house:
        found = topics.read(settings.tags_topic, all_of(values))
        assert sorted(message.value() for message in found) == sorted(values)
        assert topics.commits_reach(60)
    assert house.drained
    assert len(house.begun) == 60


def test_an_unfinished_record_holds_the_commit_back_and_not_the_work(topics: Topics) -> None:
    topics.publish(some(40))
    release = threading.Event()

    def work(job: Job) -> None:
        if (job.claim.partition.number, job.claim.offset) == (1, 3):
            release.wait(30)

    with House(topics.settings, 4, work) as house:
        assert eventually(lambda: len(house.begun) == 40)
        assert topics.commits_reach(10 + 3 + 10 + 10)
        assert topics.committed() == {0: 10, 1: 3, 2: 10, 3: 10}
        release.set()
        assert topics.commits_reach(40)


def test_no_more_than_the_capacity_is_at_work_and_none_is_lost_meanwhile(topics: Topics) -> None:
    values = some(50)
    topics.publish(values)
    at_work, most, lock = 0, 0, threading.Lock()

    def work(job: Job) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        job.cancelled.wait(0.01)
        with lock:
            at_work -= 1

    with House(topics.settings, 3, work) as house:
        found = topics.read(topics.settings.tags_topic, all_of(values))
        assert len(found) == len(house.begun) == 50
    assert most == 3


def test_a_full_house_goes_on_polling(topics: Topics) -> None:
    topics.publish(some(2000))
    release = threading.Event()
    with House(topics.settings, 50, lambda job: release.wait(30)) as house:
        assert eventually(lambda: len(house.begun) == 50)
        before = metrics.poll_turn_timestamp._value.get()
        assert eventually(lambda: metrics.poll_turn_timestamp._value.get() > before + 0.5)
        assert eventually(lambda: metrics.partitions_paused._value.get() == 4)
        assert house.intake.alive()
        assert len(house.begun) == 50
        release.set()
        assert eventually(lambda: metrics.partitions_paused._value.get() == 0)


def test_draining_gives_back_what_is_unfinished_and_the_next_owner_does_it(topics: Topics) -> None:
    values = some(8)
    topics.publish(values)
    with House(topics.settings, 4, lambda job: job.cancelled.wait(30), drain_s=0.2) as house:
        assert eventually(lambda: len(house.begun) == 4)
    assert house.drained
    assert all(job.cancelled.is_set() for job in house.begun)
    assert sum(topics.committed().values()) == 0
    with House(topics.settings, 4):
        found = topics.read(topics.settings.tags_topic, all_of(values))
        assert len(found) == 8


def test_draining_waits_for_the_work_in_hand(topics: Topics) -> None:
    topics.publish(some(12))
    with House(topics.settings, 4, lambda job: job.cancelled.wait(0.5)) as house:
        assert eventually(lambda: len(house.begun) >= 4)
    assert house.drained
    assert not any(job.cancelled.is_set() for job in house.begun)
    assert sum(topics.committed().values()) == len(house.begun)


@PROTOCOLS
def test_nothing_is_lost_when_consumers_join_and_leave_in_the_middle_of_work(real_kafka: str, protocol: str) -> None:
    topics = fresh_topics(real_kafka, group_protocol=protocol)
    settings = topics.settings
    values = some(120)
    topics.publish(values)
    before = metrics.late_results_dropped._value.get()
    with House(settings, 4, lambda job: job.cancelled.wait(0.03)) as first:
        assert eventually(lambda: len(first.begun) > 20)
        with House(settings, 4, lambda job: job.cancelled.wait(0.03)) as second:
            assert eventually(lambda: len(second.begun) > 20)
        found = topics.read(settings.tags_topic, all_of(values), within_s=30)
        assert topics.commits_reach(120)
    assert {message.value() for message in found} == set(values)
    assert len(found) <= 120 + 2 * 4 * 2  # only what was at work at a change of hands may come twice
    assert metrics.late_results_dropped._value.get() >= before


def test_what_is_ready_is_stored_before_partitions_are_handed_on(real_kafka: str) -> None:
    topics = fresh_topics(real_kafka, commit_interval_s=1000)
    topics.publish([b"stored at once"])
    with House(topics.settings, capacity=32) as first:
        assert topics.commits_reach(1)
        topics.publish(some(20))
        assert eventually(lambda: len(first.begun) == 21)
        assert topics.committed() == {0: 1}
        with House(topics.settings) as second:
            assert topics.commits_reach(21)
            topics.publish(some(4))
            assert eventually(lambda: len(second.begun) == 2)
        assert all(job.claim.offset == 5 + (job.claim.partition.number == 0) for job in second.begun)


def test_a_revoked_partition_cancels_its_jobs_and_their_results_do_not_count(topics: Topics) -> None:
    topics.publish(some(4))
    release = threading.Event()
    before = metrics.late_results_dropped._value.get()

    def stubborn(job: Job) -> None:
        release.wait(30)
        job.cancelled.clear()  # so that the result is put although nobody wants it

    with House(topics.settings, 4, stubborn) as first:
        assert eventually(lambda: len(first.begun) == 4)
        with House(topics.settings, 4) as second:
            assert eventually(lambda: len(second.begun) == 2)
            taken = [job for job in first.begun if job.cancelled.is_set()]
            assert len(taken) == 2
            assert topics.commits_reach(2)
            release.set()
            assert eventually(lambda: metrics.late_results_dropped._value.get() == before + 2)
            assert topics.commits_reach(4)
    assert {job.claim.partition for job in taken} == {job.claim.partition for job in second.begun}


def test_the_gauges_show_where_each_partition_stands(topics: Topics) -> None:
    topics.publish(some(20))
    release = threading.Event()
    labels = [{"partition": str(partition)} for partition in range(4)]
    with House(topics.settings, 4, lambda job: release.wait(30)) as house:
        assert eventually(lambda: len(house.begun) == 4)
        assert eventually(lambda: sum(sample("tagstream_lag_records", label) or 0 for label in labels) >= 4)
        assert eventually(lambda: max(sample("tagstream_oldest_unfinished_seconds", x) or 0 for x in labels) > 1)
        release.set()
        assert eventually(lambda: all(sample("tagstream_lag_records", label) == 0 for label in labels))
        assert sample("tagstream_partitions_assigned", {}) == 4
    assert all(sample("tagstream_lag_records", label) is None for label in labels)


def sample(name: str, labels: dict[str, str]) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_a_topic_that_is_missing_is_named_once_and_waited_for(
    real_kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = kafka_settings(real_kafka)
    with caplog.at_level(logging.INFO, "consumer.kafka"), House(settings) as house:
        said = f"topic '{settings.uploads_topic}' does not exist; make it with `tagstream topics create`"
        assert eventually(lambda: said in caplog.text)
        create_topics(settings, partitions=2, replication=1)
        assert eventually(lambda: house.intake.assigned_once)
        assert caplog.text.count(said) == 1
        assert f"topic '{settings.uploads_topic}' is there" in caplog.text


def test_a_consumer_that_is_fenced_ends_loudly(topics: Topics) -> None:
    settings = topics.settings.model_copy(update={"group_instance_id": "the-same"})
    with House(settings) as first:
        assert eventually(lambda: first.intake.assigned_once)
        with House(settings):
            assert eventually(lambda: bool(first.errors))
        (error,) = first.errors
        first.errors.clear()
    assert isinstance(error, TagstreamError)
    assert "fenced" in str(error)


def test_an_event_of_five_megabytes_comes_through_and_is_refused_with_its_reason(real_kafka: str) -> None:
    settings = kafka_settings(real_kafka)
    admin = AdminClient({"bootstrap.servers": real_kafka})
    large = NewTopic(settings.uploads_topic, 1, 1, config={"max.message.bytes": "10000000"})
    admin.create_topics([large])[settings.uploads_topic].result(10)
    create_topics(settings, partitions=1, replication=1)
    topics = Topics(settings)
    topics.publish([b"before", b"x" * 5_000_000, b"after"])
    with House(settings, 1, lambda job: parse(job.value, job.headers, settings.max_upload_event_bytes)):
        dead = topics.read(settings.dead_letter_topic, lambda found: len(found) == 3)
        assert topics.commits_reach(3)
    assert [letter.value() for letter in dead] == [b"not_json", b"too_large", b"not_json"]


def test_a_record_with_an_impossible_timestamp_is_one_without(topics: Topics) -> None:
    settings = topics.settings
    with closing(Producer({"bootstrap.servers": settings.bootstrap_servers})) as producer:
        producer.produce(settings.uploads_topic, b"x", b"key", timestamp=-5)
        assert producer.flush(20) == 0
    seen: list[int | None] = []
    with House(settings, 1, lambda job: seen.append(job.timestamp_ms)):
        assert topics.commits_reach(1)
    assert seen == [None]


def test_a_topic_that_is_made_anew_is_read_from_its_new_start(topics: Topics) -> None:
    settings = topics.settings
    topics.publish(some(40))
    with House(settings) as house:
        assert topics.commits_reach(40)
        admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
        admin.delete_topics([settings.uploads_topic])[settings.uploads_topic].result(10)
        assert eventually(lambda: settings.uploads_topic not in admin.list_topics(timeout=10).topics)
        create_topics(settings, partitions=4, replication=1)
        topics.publish(some(8))
        assert eventually(lambda: len(house.begun) == 48, within_s=30)


def test_a_partition_that_leaves_while_paused_is_read_when_it_comes_back(topics: Topics) -> None:
    topics.publish(some(80))
    release = threading.Event()
    with House(topics.settings, 2, lambda job: release.wait(30)) as first:
        assert eventually(lambda: sample("tagstream_partitions_paused", {}) == 4)
        with House(topics.settings, 2, lambda job: job.cancelled.wait(30), drain_s=0.0) as second:
            assert eventually(lambda: len(second.begun) == 2)
            release.set()
            assert topics.commits_reach(40)
        assert topics.commits_reach(80)
    assert first.drained
