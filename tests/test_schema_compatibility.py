"""Planted breaks: each change of a schema that would break somebody is found, and growth is not."""

import copy
from collections.abc import Callable

import pytest

import schemas
from schemas.compatibility import breaks
from schemas.json_schema import JsonSchema, build

UPLOADED, TAGS = "tagstream.video.uploaded.v1", "tagstream.video.tags.v1"


def tags_field(schema: JsonSchema, model: str, field: str) -> JsonSchema:
    found: JsonSchema = schema["$defs"][model]["properties"][field]
    return found


def remove_a_field(schema: JsonSchema) -> None:
    del schema["$defs"]["Tag"]["properties"]["name"]
    schema["$defs"]["Tag"]["required"].remove("name")


def make_a_field_optional(schema: JsonSchema) -> None:
    schema["$defs"]["Video"]["required"].remove("uri")


def make_a_field_nullable(schema: JsonSchema) -> None:
    schema["$defs"]["Video"]["properties"]["uri"] = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]}


def make_an_object_nullable(schema: JsonSchema) -> None:
    schema["$defs"]["VideoTags"]["properties"]["status"] = {"anyOf": [{"$ref": "#/$defs/Status"}, {"type": "null"}]}


def change_a_type(schema: JsonSchema) -> None:
    tags_field(schema, "Status", "revision")["type"] = "string"


def widen_an_integer(schema: JsonSchema) -> None:
    tags_field(schema, "Status", "revision")["type"] = "number"


def grow_an_enum(schema: JsonSchema) -> None:
    tags_field(schema, "Status", "stage")["enum"].append("retracted")


def grow_an_enum_in_a_list(schema: JsonSchema) -> None:
    tags_field(schema, "Status", "basis")["items"]["enum"].append("ocr")


def open_an_enum(schema: JsonSchema) -> None:
    del tags_field(schema, "Sentiment", "label")["enum"]


def drop_a_limit(schema: JsonSchema) -> None:
    del tags_field(schema, "Tag", "p")["maximum"]


def lower_a_limit(schema: JsonSchema) -> None:
    tags_field(schema, "Tag", "p")["minimum"] = -1


def shorten_a_list(schema: JsonSchema) -> None:
    tags_field(schema, "VideoTags", "tags")["anyOf"][0]["minItems"] = 1


def change_a_format(schema: JsonSchema) -> None:
    schema["properties"]["time"]["format"] = "date"


def forget_what_a_list_holds(schema: JsonSchema) -> None:
    tags_field(schema, "Tag", "evidence").pop("items")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (remove_a_field, "event.data.tags[].name: may be absent, and is required"),
        (make_a_field_optional, "event.data.video.uri: may be absent, and is required"),
        (make_a_field_nullable, "event.data.video.uri: type null is outside string"),
        (make_an_object_nullable, "event.data.status: type null is outside object"),
        (change_a_type, "event.data.status.revision: type string is outside integer"),
        (widen_an_integer, "event.data.status.revision: type number is outside integer"),
        (grow_an_enum, "event.data.status.stage: ['retracted'] is outside ['partial', 'final']"),
        (grow_an_enum_in_a_list, "event.data.status.basis[]: ['ocr'] is outside "),
        (open_an_enum, "event.data.sentiment.label: any value is outside "),
        (drop_a_limit, "event.data.tags[].p: maximum None is outside 1"),
        (lower_a_limit, "event.data.tags[].p: minimum -1 is outside 0"),
        (shorten_a_list, "event.data.tags: minItems 1 is outside 5"),
        (change_a_format, "event.time: format date is outside date-time"),
        (forget_what_a_list_holds, "event.data.tags[].evidence[]: type any is outside string"),
    ],
)
def test_a_change_that_breaks_a_consumer_is_found(change: Callable[[JsonSchema], None], reason: str) -> None:
    old = build(TAGS)
    new = copy.deepcopy(old)
    change(new)
    (found,) = breaks(old, new, "output")
    assert found.startswith(reason)


def add_a_field(schema: JsonSchema) -> None:
    schema["$defs"]["Tag"]["properties"]["rank"] = {"type": "integer"}
    schema["$defs"]["Tag"]["required"].append("rank")


def promise_more(schema: JsonSchema) -> None:
    schema["$defs"]["VideoTags"]["properties"]["sentiment"] = {"$ref": "#/$defs/Sentiment"}
    tags_field(schema, "Sentiment", "label")["enum"].remove("neutral")
    tags_field(schema, "Sentiment", "p")["minimum"] = 0.5
    tags_field(schema, "Video", "uri")["maxLength"] = 4096
    tags_field(schema, "Evidence", "contribution")["type"] = "integer"


@pytest.mark.parametrize("change", [add_a_field, promise_more])
def test_growth_of_an_output_event_breaks_nobody(change: Callable[[JsonSchema], None]) -> None:
    old = build(TAGS)
    new = copy.deepcopy(old)
    change(new)
    assert breaks(old, new, "output") == []


def upload_fields(schema: JsonSchema) -> JsonSchema:
    found: JsonSchema = schema["$defs"]["VideoUploaded"]["properties"]
    return found


def require_a_new_field(schema: JsonSchema) -> None:
    upload_fields(schema)["checksum"] = {"type": "string"}
    schema["$defs"]["VideoUploaded"]["required"].append("checksum")


def require_a_known_field(schema: JsonSchema) -> None:
    schema["$defs"]["VideoUploaded"]["required"].append("title")


def refuse_null(schema: JsonSchema) -> None:
    upload_fields(schema)["description"] = {"type": "string"}


def narrow_a_type(schema: JsonSchema) -> None:
    upload_fields(schema)["duration_s"]["anyOf"][0]["type"] = "integer"


def remove_an_enum_value(schema: JsonSchema) -> None:
    schema["$defs"]["Caption"]["properties"]["format"]["enum"].remove("srt")


def shorten_a_limit(schema: JsonSchema) -> None:
    upload_fields(schema)["uri"]["maxLength"] = 2048


def add_a_pattern(schema: JsonSchema) -> None:
    upload_fields(schema)["uri"]["pattern"] = "^https:"


def forget_a_field(schema: JsonSchema) -> None:
    del upload_fields(schema)["captions"]


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (require_a_new_field, ["event.data.checksum: may be absent, and is required"]),
        (require_a_known_field, ["event.data.title: may be absent, and is required"]),
        (refuse_null, ["event.data.description: type null is outside string"]),
        (narrow_a_type, ["event.data.duration_s: type number is outside integer or null"]),
        (remove_an_enum_value, ["event.data.captions[].format: ['srt'] is outside ['vtt']"]),
        (shorten_a_limit, ["event.data.uri: maxLength 4096 is outside 2048"]),
        (add_a_pattern, ["event.data.uri: pattern None is outside ^https:"]),
        (
            forget_a_field,
            [
                "event.data.captions: removed",
                *(f"event.data.captions[].{name}: removed" for name in sorted(schemas.Caption.model_fields)),
            ],
        ),
    ],
)
def test_a_change_that_breaks_a_producer_is_found(change: Callable[[JsonSchema], None], reasons: list[str]) -> None:
    old = build(UPLOADED)
    new = copy.deepcopy(old)
    change(new)
    assert breaks(old, new, "input") == reasons


def test_a_wider_input_breaks_no_producer() -> None:
    old = build(UPLOADED)
    new = copy.deepcopy(old)
    upload_fields(new)["checksum"] = {"type": "string"}
    upload_fields(new)["uri"]["maxLength"] = 8192
    new["$defs"]["Caption"]["properties"]["format"]["enum"].append("ttml")
    new["$defs"]["VideoUploaded"]["required"].remove("uri")
    assert breaks(old, new, "input") == []


def test_one_alternative_that_accepts_a_value_is_enough() -> None:
    short, long = {"type": "string", "maxLength": 3}, {"type": "string", "maxLength": 9}
    assert breaks({"anyOf": [short, long]}, {"type": "string", "maxLength": 5}, "output") == []


def test_a_keyword_that_the_check_does_not_know_is_an_error() -> None:
    old = build(TAGS)
    new = copy.deepcopy(old)
    new["$defs"]["Tag"]["oneOf"] = []
    with pytest.raises(ValueError, match="oneOf"):
        breaks(old, new, "output")
