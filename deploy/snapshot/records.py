"""Types of records, their fields, and the fields' types and words, from docs/output.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.snapshot.compared import ROOT

Schema = Mapping[str, Any]
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def promises() -> Iterator[str]:
    """Yield all. A field that is always there says so: one that may be missing is another promise."""
    whole = json.loads((ROOT / "docs/output.schema.json").read_text())
    for rule in whole["allOf"]:
        kind = rule["if"]["properties"]["type"]["const"]
        record = _resolved(rule["then"], whole)
        yield f"record {kind}"
        yield from _fields(f"record {kind} ", record, whole)


def _fields(path: str, schema: Schema, whole: Schema) -> Iterator[str]:
    """Yield what is known of the fields of an object."""
    required = {name for part in _parts(schema, whole) for name in part.get("required", ())}
    for part in _parts(schema, whole):
        for name, field in part.get("properties", {}).items():
            yield from _field(f"{path}{name}", _resolved(field, whole), whole, always=name in required)


def _parts(schema: Schema, whole: Schema) -> Iterator[Schema]:
    """Yield a schema and those that it takes in unconditionally."""
    yield schema
    for part in schema.get("allOf", ()):
        yield from _parts(_resolved(part, whole), whole)


def _field(path: str, field: Schema, whole: Schema, *, always: bool) -> Iterator[str]:
    if types := _types(field, whole):
        yield f"{path}: {' or '.join(sorted(types))}"
    if always:
        yield f"{path}: always"
    yield from (f"{path}: value {word}" for word in field.get("enum", ()) if isinstance(word, str))
    for mark, inner in (("[].", field.get("items")), ("{}.", field.get("additionalProperties"))):
        if isinstance(inner, dict):
            yield from _fields(f"{path}{mark}", _resolved(inner, whole), whole)
    yield from _fields(f"{path}.", field, whole)


def _types(field: Schema, whole: Schema) -> set[str]:
    """Return the names of a field's types."""
    found: set[str] = set()
    if "const" in field:
        found.add(TYPES[type(field["const"])])
    found |= {TYPES[type(word)] for word in field.get("enum", ())}
    given = field.get("type", ())
    found |= {given} if isinstance(given, str) else {*given}
    if not found:
        for part in (*field.get("anyOf", ()), *field.get("oneOf", ())):
            found |= _types(_resolved(part, whole), whole)
    return found


def _resolved(schema: Schema, whole: Schema) -> Schema:
    """Return the schema with that of its $ref under it."""
    reference = schema.get("$ref", "").removeprefix("#/$defs/")
    return {**_resolved(whole["$defs"][reference], whole), **schema} if reference else schema
