import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from consumer.errors import PermanentError
from consumer.kafka.records import Headers
from consumer.kafka.uploads import parse
from schemas import VideoUploaded

MAX_BYTES = 262_144
REASONS = ("not_json", "unknown_format", "unknown_specversion", "wrong_type", "invalid_upload")
TYPE = "tagstream.video.uploaded.v1"
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/uploads",
    "type": TYPE,
    "data": {"video_id": "v1", "uri": "https://cdn.example/v1.mp4", "title": "A match", "new_field": 1},
}


def read(event: object, headers: Headers = ()) -> list[VideoUploaded]:
    return parse(json.dumps(event).encode(), headers, MAX_BYTES)


def refused(value: bytes, headers: Headers = ()) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        parse(value, headers, MAX_BYTES)
    assert caught.value.stage == "intake"
    return caught.value


def s3_record(key: str, name: str = "ObjectCreated:Put", **item: object) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventTime": "2026-05-01T12:00:00.000Z",
        "eventName": name,
        "s3": {"bucket": {"name": "media", "arn": "arn:aws:s3:::media"}, "object": {"key": key, "size": 9, **item}},
    }


def test_a_structured_event_is_read_and_unknown_fields_are_dropped() -> None:
    (upload,) = read(EVENT, [("content-type", b"application/cloudevents+json; charset=utf-8")])
    assert (upload.video_id, upload.uri, upload.title) == ("v1", "https://cdn.example/v1.mp4", "A match")
    assert not hasattr(upload, "new_field")
    assert read(EVENT) == [upload]


def test_a_binary_event_has_its_attributes_in_the_headers() -> None:
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_source", b"/uploads"),
        ("ce_type", TYPE.encode()),
        ("ce_time", b"2026-05-01T12:00:00Z"),
        ("content-type", b"application/json"),
        ("traceparent", None),
    ]
    (upload,) = read(EVENT["data"], headers)
    assert upload.video_id == "v1"


def test_a_tombstone_is_no_upload() -> None:
    assert parse(None, [], MAX_BYTES) == []
    assert parse(b"", [("ce_id", b"x")], MAX_BYTES) == []


def test_an_s3_notification_gives_each_video_that_was_put() -> None:
    first, second = read(
        {
            "Records": [
                s3_record("in/My+holiday%20%28caf%C3%A9%29.mp4", eTag="abc", versionId="v7", sequencer="00"),
                s3_record("in/removed.mp4", "ObjectRemoved:Delete"),
                s3_record("in/poster.jpg"),
                s3_record("in/captions.vtt"),
                s3_record("in/", eTag="d41d8"),
                s3_record("in/no-suffix", "ObjectCreated:CompleteMultipartUpload", eTag="def"),
            ]
        }
    )
    assert first.video_id == "media/in/My holiday (café).mp4"
    assert first.uri == "s3://media/in/My holiday (café).mp4"
    assert (first.content_version, first.region) == ("v7", "eu-west-1")
    assert first.uploaded_at is not None
    assert (second.video_id, second.content_version) == ("media/in/no-suffix", "def")


def test_a_minio_notification_is_read_by_its_content_type() -> None:
    def notification(key: str, content_type: str) -> dict[str, Any]:
        record = s3_record(key, "s3:ObjectCreated:Put", contentType=content_type, eTag="x", versionId="null")
        return {"EventName": "s3:ObjectCreated:Put", "Key": f"media/{key}", "Records": [record | {"awsRegion": ""}]}

    (upload,) = read(notification("clip", "video/webm"))
    assert (upload.video_id, upload.content_version, upload.region) == ("media/clip", "x", None)
    assert read(notification("clip.mp4", "image/png")) == []
    assert len(read(notification("clip.mp4", "application/octet-stream"))) == 1


def test_the_test_message_of_a_bucket_is_no_upload() -> None:
    assert read({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "media"}) == []


def test_an_s3_notification_may_come_in_a_cloud_event() -> None:
    wrapped = EVENT | {"type": "dev.knative.kafka.event", "data": {"Records": [s3_record("a.mp4")]}}
    assert [upload.video_id for upload in read(wrapped)] == ["media/a.mp4"]
    single = EVENT | {"type": "com.amazonaws.s3.ObjectCreated:Put", "data": s3_record("b.mp4")}
    assert [upload.video_id for upload in read(single)] == ["media/b.mp4"]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in EVENT.items() if name not in names}


def with_data(**changes: object) -> dict[str, Any]:
    return EVENT | {"data": EVENT["data"] | changes}


@pytest.mark.parametrize(
    ("event", "reason", "says"),
    [
        ([EVENT], "unknown_format", "must be a JSON object, and is a list"),
        (7, "unknown_format", "is a number"),
        ({"hello": 1}, "unknown_format", "neither a CloudEvent"),
        (EVENT["data"], "unknown_format", "send it as `data` of a CloudEvent"),
        (EVENT | {"specversion": "0.3"}, "unknown_specversion", 'must be "1.0", and is "0.3"'),
        (without("specversion"), "unknown_specversion", "and is null"),
        (EVENT | {"type": "tagstream.video.tags.v1"}, "wrong_type", 'and is "tagstream.video.tags.v1"'),
        (without("type"), "wrong_type", "and is null"),
        (without("data"), "invalid_upload", "data: Field required"),
        (without("id"), "invalid_upload", "id: Field required"),
        (EVENT | {"data": "text"}, "invalid_upload", "data: "),
        (with_data(video_id=""), "invalid_upload", "data.video_id"),
        (with_data(video_id=None), "invalid_upload", "data.video_id"),
        (with_data(uri=""), "invalid_upload", "data.uri"),
        (with_data(video_id="a\u0000b"), "invalid_upload", "control characters"),
        (with_data(video_id="\ud800"), "invalid_upload", "data.video_id"),
        (with_data(duration_s=-1), "invalid_upload", "data.duration_s"),
        (with_data(captions=[{"format": "vtt"}]), "invalid_upload", "exactly one of uri and inline"),
        (with_data(language="x" * 10_000), "invalid_upload", "data.language"),
        ({"Records": [{}]}, "invalid_upload", "Records.0.eventName"),
        ({"Records": 5}, "invalid_upload", "Records"),
        ({"Records": [s3_record("%ff.mp4")]}, "invalid_upload", "is not URL-encoded UTF-8"),
        ({"Records": [s3_record("a" * 600)]}, "invalid_upload", "video_id"),
        ({"Records": [s3_record("a") | {"eventTime": "yesterday"}]}, "invalid_upload", "uploaded_at"),
        (EVENT | {"type": "com.amazonaws.s3.ObjectCreated:Put", "data": None}, "invalid_upload", "Records.0"),
    ],
)
def test_a_bad_event_is_refused_with_its_reason(event: object, reason: str, says: str) -> None:
    error = refused(json.dumps(event).encode())
    assert error.reason == reason
    assert says in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    "value", [b"hello", b"\xff\xfe\x00", b"{", b'{"a": NaN}', b"[" * 100_000, b"1" * 10_000, b"\x00\x01"]
)
def test_what_is_not_json_is_refused(value: bytes) -> None:
    assert refused(value).reason == "not_json"


def test_a_binary_event_is_checked_as_strictly() -> None:
    named: Headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"s"), ("ce_type", TYPE.encode())]
    assert refused(b'{"uri": "x"}', named).reason == "invalid_upload"
    assert refused(b"{}", [("ce_type", TYPE.encode())]).reason == "unknown_specversion"
    assert refused(b"{}", [("ce_specversion", b"\xff")]).reason == "invalid_upload"


def test_an_event_of_five_megabytes_is_too_large() -> None:
    error = refused(json.dumps(with_data(description="x" * 5_000_000)).encode())
    assert error.reason == "too_large"
    assert "262144 are allowed" in str(error)


def test_uploads_are_counted_by_format() -> None:
    def count(format: str) -> float:
        return REGISTRY.get_sample_value("tagstream_uploads_received_total", {"format": format}) or 0.0

    before = count("s3"), count("cloudevents_structured")
    read({"Records": [s3_record("a.mp4"), s3_record("b.mp4")]})
    read(EVENT)
    assert (count("s3"), count("cloudevents_structured")) == (before[0] + 2, before[1] + 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
events = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.sampled_from(["1.0", "0.3"]) | json_values,
        "id": json_values,
        "source": json_values,
        "type": st.sampled_from([TYPE, "com.amazonaws.s3.x"]) | json_values,
        "data": json_values | st.fixed_dictionaries({"video_id": st.text(), "uri": st.text(), "captions": json_values}),
        "Records": json_values | st.lists(st.just(s3_record("a.mp4")) | json_values, max_size=3),
        "Event": st.just("s3:TestEvent") | json_values,
    },
)


def read_or_refused(value: bytes, headers: Headers) -> list[VideoUploaded] | str:
    try:
        return parse(value, headers, MAX_BYTES)
    except PermanentError as error:
        return error.reason


@given(events | json_values, st.lists(st.tuples(st.sampled_from(["ce_type", "ce_id", "x"]), st.none() | st.binary())))
def test_any_event_is_read_or_refused_and_nothing_else(event: object, headers: Headers) -> None:
    outcome = read_or_refused(json.dumps(event).encode(), headers)
    assert outcome in REASONS or all(u.video_id.encode() and u.uri.encode() for u in outcome if not isinstance(u, str))


@given(st.binary())
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    assert read_or_refused(value, []) in ([], *REASONS)
