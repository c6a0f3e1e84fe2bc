"""Would a change of a schema break somebody who builds on the version before? Pure: schemas in, reasons out.

What we write must stay valid under the old schema, or its consumers break; what was valid under the old one
must stay valid for us to read, or producers break. Both ask if one schema accepts all that another one makes.
A field that nobody knew before is no break: names may grow. Where this check is unsure, it reports.
"""

from collections.abc import Iterator
from math import inf
from typing import Any, Literal

from schemas.json_schema import JsonSchema

_AT_LEAST = {"minimum", "exclusiveMinimum", "minLength", "minItems"}
_AT_MOST = {"maximum", "exclusiveMaximum", "maxLength", "maxItems"}
_SAME = {"pattern", "format", "not"}
_STRUCTURE = {"type", "const", "enum", "anyOf", "properties", "required", "items"}
_NOTES = {"$schema", "$id", "$defs", "title", "description", "default"}
_KNOWN = _AT_LEAST | _AT_MOST | _SAME | _STRUCTURE | _NOTES


def breaks(old: JsonSchema, new: JsonSchema, direction: Literal["input", "output"]) -> list[str]:
    """Why `new` breaks those who build on `old`, one line each with the field's path; empty when it does not.

    Raises ValueError at a keyword that it does not understand.
    """
    old, new = _follow_references(old, old), _follow_references(new, new)
    if direction == "output":
        return list(_refused(new, old, "event"))
    removed = [f"{field}: removed" for field in sorted(_fields(old, "event") - _fields(new, "event"))]
    return removed + list(_refused(old, new, "event"))


def _follow_references(schema: JsonSchema, root: JsonSchema) -> JsonSchema:
    if "$ref" in schema:
        return _follow_references(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if unknown := schema.keys() - _KNOWN:
        raise ValueError(f"the compatibility check does not understand {sorted(unknown)}")
    followed = dict(schema)
    if "anyOf" in schema:
        followed["anyOf"] = [_follow_references(branch, root) for branch in schema["anyOf"]]
    if "items" in schema:
        followed["items"] = _follow_references(schema["items"], root)
    if "properties" in schema:
        followed["properties"] = {name: _follow_references(field, root) for name, field in schema["properties"].items()}
    return followed


def _fields(schema: JsonSchema, at: str) -> set[str]:
    found = {f"{at}.{name}" for name in schema.get("properties", {})}
    for name, field in schema.get("properties", {}).items():
        found |= _fields(field, f"{at}.{name}")
    if "items" in schema:
        found |= _fields(schema["items"], f"{at}[]")
    for branch in schema.get("anyOf", ()):
        found |= _fields(branch, at)
    return found


def _refused(made: JsonSchema, accepted: JsonSchema, at: str) -> Iterator[str]:
    """What `made` allows and `accepted` does not."""
    choices = accepted.get("anyOf", [accepted])
    for branch in made.get("anyOf", [made]):
        fitting = [choice for choice in choices if _type_fits(branch, choice)]
        if fitting:
            yield from min((list(_outside(branch, choice, at)) for choice in fitting), key=len)
        else:
            types = " or ".join(str(choice.get("type")) for choice in choices)
            yield f"{at}: type {branch.get('type', 'any')} is outside {types}"


def _type_fits(made: JsonSchema, accepted: JsonSchema) -> bool:
    wanted = accepted.get("type")
    return wanted in (None, made.get("type")) or (wanted == "number" and made.get("type") == "integer")


def _outside(made: JsonSchema, accepted: JsonSchema, at: str) -> Iterator[str]:
    """As `_refused`, for schemas without alternatives, of one type."""
    yield from _values_outside(made, accepted, at)
    for keyword in sorted(accepted.keys() & (_AT_LEAST | _AT_MOST | _SAME)):
        if not _within_limit(keyword, made.get(keyword), accepted[keyword]):
            yield f"{at}: {keyword} {made.get(keyword)} is outside {accepted[keyword]}"
    for name in accepted.get("required", ()):
        if name not in made.get("required", ()):
            yield f"{at}.{name}: may be absent, and is required"
    known = made.get("properties", {})
    for name, field in accepted.get("properties", {}).items():
        if name in known:
            yield from _refused(known[name], field, f"{at}.{name}")
    if "items" in accepted:
        yield from _refused(made.get("items", {}), accepted["items"], f"{at}[]")


def _values_outside(made: JsonSchema, accepted: JsonSchema, at: str) -> Iterator[str]:
    made_values, accepted_values = _values(made), _values(accepted)
    if accepted_values is None:
        return
    if made_values is None:
        yield f"{at}: any value is outside {accepted_values}"
    elif more := [value for value in made_values if value not in accepted_values]:
        yield f"{at}: {more} is outside {accepted_values}"


def _values(schema: JsonSchema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _within_limit(keyword: str, made: Any, accepted: Any) -> bool:
    if keyword in _SAME:
        return bool(made == accepted)
    if keyword in _AT_LEAST:
        return bool((-inf if made is None else made) >= accepted)
    return bool((inf if made is None else made) <= accepted)
