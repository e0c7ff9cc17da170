"""Reads JSON Lines, gzip too, with bounded memory and progress on a terminal."""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import orjson

from xtrace.errors import Stopped, XtraceError
from xtrace.stop import Stop

LONGEST_LINE = 1 << 20
"""Bytes; the tool's longest lines have some thousands."""
GZIP_MAGIC = b"\x1f\x8b"
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


def opened(path: str) -> BufferedReader:
    """Open a file, or standard input for `-`. Raises XtraceError."""
    if path == "-":
        return os.fdopen(os.dup(0), "rb")
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise XtraceError(f"report: {path}: {error.strerror} (give a file of JSON Lines, or - for stdin)") from None


def records(source: BufferedReader, stop: Stop, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and record. Lines that are none are noted in `problems`. Raises Stopped, XtraceError."""
    progress = Progress(source)
    number = 0
    try:
        for number, line in enumerate(_lines(source, problems), 1):
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


def _lines(source: BufferedReader, problems: Problems) -> Iterator[bytes]:
    """Yield lines that are not empty; parts of too long ones are lines that no JSON parser accepts."""
    is_packed = source.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
    stream = cast("IO[bytes]", gzip.GzipFile(fileobj=source)) if is_packed else source
    try:
        while line := stream.readline(LONGEST_LINE):
            if line.strip():
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problems.add(0, f"the compressed file is cut off or damaged ({error})")
