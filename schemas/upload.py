"""`tagstream.video.uploaded.v1`: what we read. Unknown fields are kept out, known ones are checked."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from schemas.envelope import TOLERANT, Envelope, Payload, Text, Time

_CONTROL_CHARACTERS = "[\\x00-\\x1f\\x7f]"
_LANGUAGE_CODE = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"


def _refuse_control_characters(value: str) -> str:
    if re.search(_CONTROL_CHARACTERS, value):
        raise ValueError("must not contain control characters")
    return value


def _check_language_code(value: str) -> str:
    if not re.fullmatch(_LANGUAGE_CODE, value):
        raise ValueError(f"{value!r} is not a language code; write one like en or pt-BR")
    return value


def _printable(max_length: int) -> Any:
    return Field(min_length=1, max_length=max_length, json_schema_extra={"not": {"pattern": _CONTROL_CHARACTERS}})


def _null_is_empty(value: object) -> object:
    return () if value is None else value


Id = Annotated[str, _printable(512), AfterValidator(_refuse_control_characters)]
Uri = Annotated[str, _printable(4096), AfterValidator(_refuse_control_characters)]
LanguageCode = Annotated[
    str, Field(json_schema_extra={"pattern": _LANGUAGE_CODE}), AfterValidator(_check_language_code)
]


class Caption(BaseModel):
    """A caption track: where it is, or its text."""

    model_config = TOLERANT

    uri: Uri | None = None
    inline: Text | None = None
    format: Literal["srt", "vtt"]
    language: LanguageCode | None = None
    kind: Literal["manual", "auto"] | None = None

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if (self.uri is None) == (self.inline is None):
            raise ValueError("give exactly one of uri and inline")
        return self


Hashtags = Annotated[tuple[str, ...], BeforeValidator(_null_is_empty, json_schema_input_type=tuple[str, ...] | None)]
Captions = Annotated[
    tuple[Caption, ...], BeforeValidator(_null_is_empty, json_schema_input_type=tuple[Caption, ...] | None)
]


class VideoUploaded(Payload):
    """A video that is there to be read. Every field but the first two may be absent or null.

    Video and content version make an upload what it is: delivered again, it gives no second set of revisions, as far
    as it is remembered. Without a `content_version` the file's own fingerprint is one. Another content version starts
    at revision 1, and supersedes the one before; what was uploaded before it and comes after it is left out.
    """

    model_config = TOLERANT

    video_id: Id
    uri: Uri
    content_version: Id | None = None
    title: Annotated[str, Field(max_length=2000)] | None = None
    description: str | None = None
    hashtags: Hashtags = ()
    language: LanguageCode | None = None
    captions: Captions = ()
    duration_s: Annotated[float, Field(gt=0, strict=True)] | None = None
    uploaded_at: Time | None = None
    uploader_id: Id | None = None
    region: Id | None = None

    @property
    def partition_key(self) -> str:
        return self.video_id


class UploadedEvent(Envelope[VideoUploaded]):
    """A video was uploaded."""

    type: Literal["tagstream.video.uploaded.v1"]
