"""One odd value in a record ends no run."""

from __future__ import annotations

import json

import pytest

from xtrace.sinks.jsonl.lines import line


@pytest.mark.parametrize(
    "value, written",
    [
        (1 << 64, None),
        (-(1 << 63) - 1, None),
        ((1 << 64) - 1, (1 << 64) - 1),
        (-(1 << 63), -(1 << 63)),
        ("eth\udcff", "eth\ufffd\ufffd\ufffd"),
        ("\ud800", "\ufffd\ufffd\ufffd"),
        (float("inf"), None),
        (True, True),
    ],
)
def test_what_json_has_no_room_for_is_null_and_the_rest_is_written(value: object, written: object) -> None:
    record = {"type": "x", "b": [{"c": value, "d\udc80": (value, "ü")}]}
    assert json.loads(line(record)) == {"type": "x", "b": [{"c": written, "d\ufffd\ufffd\ufffd": [written, "ü"]}]}
    assert line(record).endswith(b"}\n")


def test_record_without_odd_values_is_written_as_it_is() -> None:
    assert line({"type": "x", "n": None}) == b'{"type":"x","n":null}\n'
