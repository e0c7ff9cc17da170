"""JSON Lines that runs have written, in a file, gzip too, or on standard input: what the subcommands read."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from xtrace.errors import XtraceError

STDIN = "-"
LONGEST_LINE = 1 << 20
"""Bytes; the tool's longest lines have some thousands."""
GZIP_MAGIC = b"\x1f\x8b"


class Damaged(Exception):
    """A compressed file ends too early, or is none from here on."""


@contextmanager
def opened(name: str, command: str) -> Iterator[BufferedReader]:
    """Open a file, or standard input for STDIN. Raises XtraceError that begins with the command if it is unreadable."""
    try:
        with os.fdopen(os.dup(0), "rb") if name == STDIN else Path(name).open("rb") as source:
            yield source
    except OSError as error:
        raise XtraceError(f"{command}: {name}: {error.strerror} (give a file of JSON Lines, or - for stdin)") from None


def lines(source: BufferedReader) -> Iterator[bytes]:
    """Yield lines that are not empty; parts of too long ones are lines that no JSON parser accepts. Raises Damaged."""
    is_packed = source.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
    stream = cast("IO[bytes]", gzip.GzipFile(fileobj=source)) if is_packed else source
    try:
        while line := stream.readline(LONGEST_LINE):
            if line.strip():
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"the compressed file is cut off or damaged ({error})") from None
