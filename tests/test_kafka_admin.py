from datetime import UTC, datetime

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from consumer.errors import TagstreamError
from consumer.kafka.admin import create_topics, publish, topic_names, watch
from consumer.kafka.uploads import parse
from schemas import UploadedEvent, VideoUploaded
from tests.kafka_house import eventually
from tests.real_kafka import Topics, kafka_settings


def upload(video_id: str) -> UploadedEvent:
    data = VideoUploaded(video_id=video_id, uri=f"file:///{video_id}.mp4")
    return UploadedEvent.wrap(data, id=f"upload-{video_id}", source="/tests", time=datetime(2026, 5, 1, tzinfo=UTC))


def config(bootstrap: str, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = admin.describe_configs([resource]).values()
    return {name: entry.value for name, entry in future.result(10).items()}


def test_topics_are_made_once_with_the_settings_they_need(real_kafka: str) -> None:
    settings = kafka_settings(real_kafka)
    assert create_topics(settings, partitions=3, replication=1) == dict.fromkeys(topic_names(settings), "made")
    assert create_topics(settings, partitions=5, replication=1) == dict.fromkeys(topic_names(settings), "was there")
    assert config(real_kafka, settings.tags_topic)["cleanup.policy"] == "compact"
    assert config(real_kafka, settings.progress_topic)["cleanup.policy"] == "compact,delete"
    assert config(real_kafka, settings.uploads_topic)["cleanup.policy"] == "delete"


def test_progress_gets_as_many_partitions_as_the_uploads_have(real_kafka: str) -> None:
    settings = kafka_settings(real_kafka)
    admin = AdminClient({"bootstrap.servers": real_kafka})
    create_topics(settings, partitions=3, replication=1)
    admin.delete_topics([settings.progress_topic])[settings.progress_topic].result(10)
    later = settings.model_copy(update={"progress_topic": f"{settings.progress_topic}-again"})
    assert create_topics(later, partitions=7, replication=1)[later.progress_topic] == "made"
    topic = later.progress_topic
    assert eventually(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3)


def test_a_replication_that_the_cluster_cannot_give_is_said_plainly(real_kafka: str) -> None:
    with pytest.raises(TagstreamError, match=r"cannot make topic 'uploads-.*replication factor"):
        create_topics(kafka_settings(real_kafka), partitions=1, replication=3)


def test_a_published_upload_can_be_watched_and_parsed(topics: Topics) -> None:
    settings = topics.settings
    assert publish(settings, [upload("vidéo 1"), upload("v2")]) == 2
    values = watch(settings, settings.uploads_topic, from_beginning=True)
    seen = [next(value for value in values if value) for _ in range(2)]
    assert {parse(value, [], 10_000)[0].video_id for value in seen} == {"vidéo 1", "v2"}
    assert next(values) is None
    values.close()
    (first, second) = topics.read(settings.uploads_topic, lambda found: len(found) == 2)
    assert {first.key(), second.key()} == {"vidéo 1".encode(), b"v2"}
    assert first.headers() == [("content-type", b"application/cloudevents+json; charset=utf-8")]


def test_watching_from_now_on_passes_over_what_was_there(topics: Topics) -> None:
    publish(topics.settings, [upload("old")])
    values = watch(topics.settings, topics.settings.uploads_topic, from_beginning=False)
    assert next(values) is None
    publish(topics.settings, [upload("new")])
    value = next(value for value in values if value)
    values.close()
    assert parse(value, [], 10_000)[0].video_id == "new"


def test_a_missing_topic_is_named_with_what_to_do(real_kafka: str) -> None:
    settings = kafka_settings(real_kafka)
    says = "does not exist; make it with `tagstream topics create`"
    with pytest.raises(TagstreamError, match=says):
        publish(settings, [upload("v")])
    with pytest.raises(TagstreamError, match=says):
        next(watch(settings, settings.tags_topic, from_beginning=True))
