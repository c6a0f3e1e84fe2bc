"""Reads input records: our CloudEvents in structured or binary mode, and plain S3 or MinIO notifications.

CloudEvents 1.0.2, Kafka protocol binding and JSON format; S3 event notification message structure 2.x.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from consumer import metrics
from consumer.errors import PermanentError
from consumer.kafka import s3
from consumer.kafka.records import Headers
from schemas import UploadedEvent, VideoUploaded, explain

_ATTRIBUTE = "ce_"
_S3_TYPE = "com.amazonaws.s3."
_LONGEST_MESSAGE = 500

Json = dict[str, Any]


def parse(value: bytes | None, headers: Headers, max_bytes: int) -> list[VideoUploaded]:
    """The uploads that a record tells of: none in a tombstone, several in some S3 notifications.

    Unknown fields are dropped, known ones are checked. Raises PermanentError (stage intake): too_large,
    not_json, unknown_format, unknown_specversion, wrong_type, invalid_upload.
    """
    if not value:
        return []
    if len(value) > max_bytes:
        raise _refusal(
            "too_large",
            f"the event has {len(value)} bytes, and {max_bytes} are allowed: send text by reference, "
            "or raise kafka.max_upload_event_bytes",
        )
    named = {name.lower(): content or b"" for name, content in headers}
    if any(name.startswith(_ATTRIBUTE) for name in named):
        return _counted("cloudevents_binary", _read_event(_attributes(named) | {"data": _load(value)}))
    event = _load(value)
    if not isinstance(event, dict):
        raise _refusal("unknown_format", f"the event must be a JSON object, and is a {_json_type(event)}")
    if "specversion" in event or ("type" in event and "data" in event):
        return _counted("cloudevents_structured", _read_event(event))
    if s3.is_notification(event):
        return _counted("s3", _checked(s3.uploads, event))
    raise _refusal("unknown_format", _what_is_it(event))


def _read_event(event: Json) -> list[VideoUploaded]:
    """The uploads of a CloudEvent; S3 notifications may travel in one too."""
    if (version := event.get("specversion")) != "1.0":
        raise _refusal("unknown_specversion", f'specversion must be "1.0", and is {json.dumps(version)}')
    data, kind = event.get("data"), event.get("type")
    if isinstance(data, dict) and s3.is_notification(data):
        return _checked(s3.uploads, data)
    if isinstance(kind, str) and kind.startswith(_S3_TYPE):
        return _checked(s3.uploads, {"Records": [data]})
    if kind != UploadedEvent.event_type():
        raise _refusal(
            "wrong_type",
            f"type must be {UploadedEvent.event_type()} on this topic, and is {json.dumps(kind)}",
        )
    return _checked(lambda given: [UploadedEvent.model_validate(given).data], event)


def _checked(read: Callable[[Json], list[VideoUploaded]], event: Json) -> list[VideoUploaded]:
    try:
        return read(event)
    except ValidationError as error:
        raise _refusal("invalid_upload", explain(error)) from error


def _attributes(named: Mapping[str, bytes]) -> Json:
    try:
        return {
            name.removeprefix(_ATTRIBUTE): content.decode()
            for name, content in named.items()
            if name.startswith(_ATTRIBUTE)
        }
    except UnicodeDecodeError as error:
        raise _refusal("invalid_upload", f"a {_ATTRIBUTE} header is not UTF-8 text: {error}") from error


def _load(value: bytes) -> Any:
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _refusal("not_json", f"the event is not JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _what_is_it(event: Json) -> str:
    if "video_id" in event or "uri" in event:
        return (
            "the upload has no envelope: send it as `data` of a CloudEvent, beside "
            f'"specversion": "1.0", "type": "{UploadedEvent.event_type()}", "id" and "source"'
        )
    return "the event is neither a CloudEvent (no specversion) nor an S3 notification (no Records)"


def _json_type(value: object) -> str:
    names = {list: "list", str: "text", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _counted(format: str, uploads: list[VideoUploaded]) -> list[VideoUploaded]:
    metrics.uploads_received.labels(format=format).inc(len(uploads))
    return uploads


def _refusal(reason: str, message: str) -> PermanentError:
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "…"
    return PermanentError(reason, message, stage="intake")
