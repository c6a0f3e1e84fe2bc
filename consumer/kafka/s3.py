"""S3 and MinIO bucket notifications (message structure 2.x). Pure."""

import mimetypes
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote_plus

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from schemas import VideoUploaded

_SAYS_NOTHING = {"", "application/octet-stream", "binary/octet-stream"}
_TYPES = mimetypes.MimeTypes(filenames=())  # not the machine's own list: every host must see the same videos


def _decode_key(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not URL-encoded UTF-8: {error}") from error


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class _Bucket(_Part):
    name: str


class _Object(_Part):
    key: Annotated[str, AfterValidator(_decode_key)]
    e_tag: str | None = None
    version_id: str | None = None
    content_type: str | None = None


class _Place(_Part):
    bucket: _Bucket
    object: _Object


class _Event(_Part):
    event_name: str
    event_time: str | None = None
    aws_region: str | None = None
    s3: _Place


class _Notification(BaseModel):
    Records: tuple[_Event, ...]


def is_notification(event: Mapping[str, Any]) -> bool:
    """Whether this is what a bucket sends, its test message included."""
    return "Records" in event or event.get("Event") == "s3:TestEvent"


def uploads(event: Mapping[str, Any]) -> list[VideoUploaded]:
    """The videos that were put into a bucket; what was removed, or is no video, is passed over.

    Raises pydantic's ValidationError.
    """
    if "Records" not in event:
        return []
    records = _Notification.model_validate(event).Records
    return [_upload(record) for record in records if _is_new(record) and _may_be_video(record.s3.object)]


def _is_new(record: _Event) -> bool:
    return record.event_name.removeprefix("s3:").startswith("ObjectCreated:")


def _may_be_video(item: _Object) -> bool:
    """By its content type, else by its name; in doubt yes, so that nothing gets lost."""
    if item.key.endswith("/"):
        return False
    content_type = item.content_type or ""
    if content_type in _SAYS_NOTHING:
        content_type = _TYPES.types_map[True].get(PurePosixPath(item.key).suffix.lower(), "")
    return content_type in _SAYS_NOTHING or content_type.startswith("video/")


def _upload(record: _Event) -> VideoUploaded:
    bucket, item = record.s3.bucket.name, record.s3.object
    version = item.version_id if item.version_id not in (None, "", "null") else item.e_tag
    return VideoUploaded.model_validate(
        {
            "video_id": f"{bucket}/{item.key}",
            "uri": f"s3://{bucket}/{item.key}",
            "content_version": version or None,
            "uploaded_at": record.event_time,
            "region": record.aws_region or None,
        }
    )
