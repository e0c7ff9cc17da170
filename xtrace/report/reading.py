"""Reads records with bounded memory and progress on a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import orjson

from xtrace.errors import Stopped
from xtrace.recorded import Damaged, lines
from xtrace.stop import Stop

PROGRESS_EVERY = 8192
"""Lines between looks at the clock and at requests to stop."""
PROGRESS_S = 0.25


class Problems:
    """Lines that are not records of the tool: how many, and the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def add(self, line: int, why: str) -> None:
        """Note a line."""
        self.count += 1
        self.first = self.first or f"line {line}: {why}"


class Progress:
    """One line on a terminal that tells how far reading is, removed at the end; nothing elsewhere."""

    def __init__(self, source: BufferedReader, fd: int = 2) -> None:
        self._fd = fd
        self._source = source
        self._is_shown = os.isatty(fd)
        self._size = _size(source)
        self._next = time.monotonic() + PROGRESS_S

    def show(self, records: int) -> None:
        """Show progress if it is time."""
        if self._is_shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_S
            share = f"{100 * self._source.tell() // self._size} %, " if self._size else ""
            os.write(self._fd, f"\r\x1b[Kreading: {share}{records} records".encode())

    def end(self) -> None:
        """Remove the line."""
        if self._is_shown:
            os.write(self._fd, b"\r\x1b[K")


def _size(source: BufferedReader) -> int:
    """Return the bytes of a file, 0 for a pipe."""
    try:
        return os.fstat(source.fileno()).st_size if source.seekable() else 0
    except OSError:
        return 0


def records(source: BufferedReader, stop: Stop, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and record. Lines that are none are noted in `problems`. Raises Stopped, XtraceError."""
    progress = Progress(source)
    number = 0
    try:
        for number, line in enumerate(_noted(source, problems), 1):
            if number % PROGRESS_EVERY == 0:
                progress.show(number)
                if stop.requested:
                    raise Stopped(f"stopped after {number} lines; no report was written")
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                problems.add(number, "not JSON" if line.endswith(b"\n") else "cut off, or not JSON")
                continue
            if isinstance(record, dict) and isinstance(record.get("type"), str):
                yield number, record
            else:
                problems.add(number, "not a record with a type")
    finally:
        progress.end()


def _noted(source: BufferedReader, problems: Problems) -> Iterator[bytes]:
    """Yield lines, as far as the file can be unpacked."""
    try:
        yield from lines(source)
    except Damaged as damage:
        problems.add(0, str(damage))
