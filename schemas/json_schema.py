"""The JSON Schemas (Draft 2020-12) of all events, for consumers and producers in other languages."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema

from schemas import EVENTS, UploadedEvent

JsonSchema = dict[str, Any]

CURRENT = Path(__file__).parent / "json"
RELEASED = CURRENT / "released"


class _WithoutFieldTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def direction(event_type: str) -> Literal["input", "output"]:
    """Whether we read this event or write it."""
    return "input" if EVENTS[event_type] is UploadedEvent else "output"


def build(event_type: str) -> JsonSchema:
    """The schema of one event; open to unknown fields, since names may grow."""
    schema = EVENTS[event_type].model_json_schema(
        mode="validation" if direction(event_type) == "input" else "serialization",
        schema_generator=_WithoutFieldTitles,
    )
    for definition in (schema, *schema["$defs"].values()):
        definition.pop("additionalProperties", None)
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": f"urn:{event_type}", **schema}


def render(schema: JsonSchema) -> str:
    """The text of a schema's file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def path(event_type: str, folder: Path = CURRENT) -> Path:
    """Where the schema of an event lies."""
    return folder / f"{event_type}.json"


def stale() -> list[str]:
    """The event types whose generated file is missing or is not what the models say."""
    return [name for name in EVENTS if not _holds(path(name), render(build(name)))]


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text
