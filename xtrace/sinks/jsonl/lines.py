"""JSON Lines: one object per line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import orjson

from xtrace.sinks.kinds import Record

LINES_AT_ONCE = 100
"""Records rendered before they are written. orjson leaves some 15 KB behind each line that is kept: few is less."""


def line(record: Record) -> bytes:
    """One record with its newline."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def rendered(records: Iterator[Record]) -> Iterator[bytes]:
    """Each record as a line, some lines at a time."""
    while some := list(islice(records, LINES_AT_ONCE)):
        yield b"".join(map(line, some))
