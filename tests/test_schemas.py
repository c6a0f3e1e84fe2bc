"""The public contract: its models, its examples, and the JSON Schemas generated from it."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import schemas
from schemas import EVENTS, DeadLetter, DeadLetterEvent, TagsEvent, UploadedEvent, VideoUploaded, explain
from schemas.__main__ import main, problems
from schemas.compatibility import breaks
from schemas.json_schema import RELEASED, build, direction, path, render, stale

EXAMPLES = Path(schemas.__file__).parent / "examples"
VALID = sorted((EXAMPLES / "valid").glob("*/*.json"))
INVALID = sorted((EXAMPLES / "invalid").glob("*/*.json"))
UPLOADED, TAGS, CASE, RESTRICTED, DEAD_LETTER = EVENTS


def name_of(example: Path) -> str:
    return f"{example.parent.name}/{example.stem}"


def load(example: Path) -> Any:
    return json.loads(example.read_text(encoding="utf-8"))


def accepted_by_json_schema(event_type: str, event: object) -> bool:
    return bool(jsonschema.Draft202012Validator(build(event_type)).is_valid(event))


@pytest.mark.parametrize("example", VALID, ids=name_of)
def test_a_valid_example_is_accepted_by_the_model_and_by_the_json_schema(example: Path) -> None:
    event = load(example)
    read = EVENTS[event["type"]].model_validate_json(json.dumps(event))
    assert read.type == event["type"] == example.parent.name
    assert accepted_by_json_schema(event["type"], event)


@pytest.mark.parametrize("example", VALID, ids=name_of)
def test_what_is_written_is_read_back_the_same_and_fits_the_json_schema(example: Path) -> None:
    event = EVENTS[example.parent.name].model_validate_json(example.read_bytes())
    written = event.model_dump_json()
    assert type(event).model_validate_json(written) == event
    assert accepted_by_json_schema(event.type, json.loads(written))


@pytest.mark.parametrize("example", INVALID, ids=name_of)
def test_an_invalid_example_is_refused_and_the_message_says_why(example: Path) -> None:
    content = load(example)
    with pytest.raises(ValidationError) as refusal:
        EVENTS[example.parent.name].model_validate_json(json.dumps(content["event"]))
    assert content["why"] in explain(refusal.value)


@pytest.mark.parametrize("example", INVALID, ids=name_of)
def test_an_invalid_example_is_refused_by_the_json_schema_where_that_can_tell(example: Path) -> None:
    content = load(example)
    beyond = content.get("beyond_json_schema", False)
    assert accepted_by_json_schema(example.parent.name, content["event"]) is beyond


def test_every_event_has_at_least_three_valid_and_three_invalid_examples() -> None:
    for event_type in EVENTS:
        for examples in (VALID, INVALID):
            assert len([example for example in examples if example.parent.name == event_type]) >= 3


@pytest.mark.parametrize("event_type", EVENTS)
def test_the_generated_schema_is_a_schema_and_fresh(event_type: str) -> None:
    jsonschema.Draft202012Validator.check_schema(build(event_type))
    assert path(event_type).read_text(encoding="utf-8") == render(build(event_type)), "run python -m schemas"


@pytest.mark.parametrize("event_type", EVENTS)
def test_the_models_break_nobody_who_builds_on_the_released_schemas(event_type: str) -> None:
    released = load(path(event_type, RELEASED))
    assert breaks(released, build(event_type), direction(event_type)) == []


def test_the_check_finds_nothing_wrong() -> None:
    assert problems() == []


@pytest.mark.parametrize("event_type", [TAGS, CASE, RESTRICTED, DEAD_LETTER])
def test_every_field_of_an_output_event_is_always_there(event_type: str) -> None:
    schema = build(event_type)
    for definition in (schema, *schema["$defs"].values()):
        assert sorted(definition["required"]) == sorted(definition["properties"])


def test_check_names_a_stale_schema_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("schemas.json_schema.path", lambda event_type: tmp_path / event_type)
    monkeypatch.setattr("sys.argv", ["schemas", "--check"])
    assert stale() == list(EVENTS)
    assert main() == 1
    assert "run python -m schemas" in capsys.readouterr().err


def test_writing_and_then_checking_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("schemas.json_schema", "schemas.__main__"):
        monkeypatch.setattr(f"{module}.path", lambda event_type: tmp_path / event_type)
    monkeypatch.setattr("sys.argv", ["schemas"])
    assert main() == 0
    monkeypatch.setattr("sys.argv", ["schemas", "--check"])
    assert main() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(EVENTS)


def test_an_event_that_was_released_may_not_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tagstream.gone.v1.json").write_text("{}")
    monkeypatch.setattr("schemas.__main__.RELEASED", tmp_path)
    assert problems() == ["tagstream.gone.v1: the event was released, and is gone"]


# --- the models ---


def final_event() -> Any:
    return load(EXAMPLES / "valid" / TAGS / "final.json")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_that_is_not_one_gets_out(number: float) -> None:
    event = final_event()
    event["data"]["evidence"][0]["contribution"] = number
    with pytest.raises(ValidationError, match="finite number"):
        TagsEvent.model_validate_json(json.dumps(event))


def test_an_event_cannot_be_changed_once_it_is_made() -> None:
    event = TagsEvent.model_validate_json(json.dumps(final_event()))
    with pytest.raises(ValidationError, match="frozen"):
        event.data.status.revision = 3


def test_the_envelope_names_the_video() -> None:
    data = TagsEvent.model_validate_json(json.dumps(final_event())).data
    event = TagsEvent.wrap(data, id="1", source="/tagstream", time=datetime(2026, 5, 1, tzinfo=UTC))
    assert (event.type, event.subject, event.partitionkey) == (TAGS, "v1", "v1")
    assert json.loads(event.model_dump_json())["time"] == "2026-05-01T00:00:00Z"


def test_an_event_has_a_time_with_a_zone() -> None:
    data = TagsEvent.model_validate_json(json.dumps(final_event())).data
    with pytest.raises(ValidationError, match="timezone"):
        TagsEvent.wrap(data, id="1", source="/tagstream", time=datetime(2026, 5, 1))


def test_the_dead_letter_of_an_unreadable_record_is_keyed_by_its_place() -> None:
    example = EXAMPLES / "valid" / DEAD_LETTER / "unreadable-record.json"
    data = DeadLetterEvent.model_validate_json(example.read_bytes()).data
    assert isinstance(data, DeadLetter)
    assert data.partition_key == "video-uploaded/3/18"


def test_unknown_fields_of_an_upload_are_kept_out() -> None:
    example = EXAMPLES / "valid" / UPLOADED / "unknown-fields-and-nulls.json"
    event = UploadedEvent.model_validate_json(example.read_bytes())
    assert (event.data.hashtags, event.data.captions, event.data.title) == ((), (), None)
    assert "traceparent" not in event.model_dump()
    assert "license" not in event.data.model_dump()


def test_an_upload_is_read_from_parsed_json_as_well() -> None:
    event = load(EXAMPLES / "valid" / UPLOADED / "every-field.json")
    assert VideoUploaded.model_validate(event["data"]) == UploadedEvent.model_validate(event).data


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=512))
def test_a_video_id_without_control_characters_is_taken_as_it_is(video_id: str) -> None:
    assert VideoUploaded(video_id=video_id, uri="v.mp4").video_id == video_id


@given(st.text(max_size=255), st.sampled_from([*map(chr, range(32)), "\x7f"]), st.text(max_size=255))
def test_a_control_character_anywhere_in_a_video_id_is_refused(before: str, control: str, after: str) -> None:
    with pytest.raises(ValidationError, match="must not contain control characters"):
        VideoUploaded(video_id=before + control + after, uri="v.mp4")


def test_every_problem_is_explained_in_one_line() -> None:
    with pytest.raises(ValidationError) as refusal:
        VideoUploaded.model_validate({"uri": "a\nb", "language": "English language"})
    assert explain(refusal.value) == (
        "video_id: Field required; uri: must not contain control characters; "
        "language: 'English language' is not a language code; write one like en or pt-BR"
    )
