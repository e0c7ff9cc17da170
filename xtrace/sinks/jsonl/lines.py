"""JSON Lines: one object per line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import orjson

from xtrace.sinks.kinds import Record

LINES_AT_ONCE = 100
"""Records rendered per write. orjson allocates about 15 KB for each line that is kept, so keep few."""


def line(record: Record) -> bytes:
    """Return one record with its newline."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def rendered(records: Iterator[Record]) -> Iterator[bytes]:
    """Yield records as lines, some lines at a time."""
    while some := list(islice(records, LINES_AT_ONCE)):
        yield b"".join(map(line, some))
