"""JSON Lines: one object per line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from xtrace.sinks.kinds import Record

log = logging.getLogger(__name__)

LINES_AT_ONCE = 100
"""Records rendered per write. orjson allocates about 15 KB for each line that is kept, so keep few."""


LEAST_INTEGER, MOST_INTEGER = -(1 << 63), (1 << 64) - 1
"""That orjson writes."""


def line(record: Record) -> bytes:
    """One record with its newline. What JSON has no room for is null, or U+FFFD in a text: it ends no run."""
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:
        log.debug("%s record: %s", record.get("type"), error)
        return orjson.dumps(_fit(record), option=orjson.OPT_APPEND_NEWLINE)


def _fit(value: Any) -> Any:
    """The same without what cannot be written."""
    if isinstance(value, dict):
        return {_fit(name): _fit(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fit(inner) for inner in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return None if isinstance(value, int) and not LEAST_INTEGER <= value <= MOST_INTEGER else value


def rendered(records: Iterator[Record]) -> Iterator[bytes]:
    """Yield records as lines, some lines at a time."""
    while some := list(islice(records, LINES_AT_ONCE)):
        yield b"".join(map(line, some))
