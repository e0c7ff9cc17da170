"""Validates the tool's JSON records against docs/output.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

SCHEMA = Path(__file__).parents[2] / "docs" / "output.schema.json"


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """Return the parsed schema."""
    parsed: dict[str, Any] = json.loads(SCHEMA.read_text())
    return parsed


@lru_cache(maxsize=1)
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema(), format_checker=FormatChecker(["ipv4", "ipv6"]))


def complaint(record: Mapping[str, Any]) -> str | None:
    """Return why the schema rejects `record`; None if it does not."""
    error = best_match(_validator().iter_errors(record))
    return None if error is None else f"{error.json_path}: {error.message}"


def validate(lines: Iterable[Mapping[str, Any]]) -> None:
    """Assert that there are records and the schema allows all of them."""
    number = 0
    for number, record in enumerate(lines, start=1):
        refused = complaint(record)
        assert refused is None, f"record {number}: {refused}\n{dict(record)}"
    assert number, "no records"
