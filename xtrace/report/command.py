"""The subcommand: from its arguments to a file with the page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xtrace.errors import UsageError, XtraceError
from xtrace.recorded import STDIN, opened
from xtrace.report.gathered import Gathered
from xtrace.report.page import page
from xtrace.report.reading import records
from xtrace.sinks.stream import STDOUT, OutputStream
from xtrace.stop import Stop

USAGE = """\
usage: xtrace-catch report [FILE|-] [-o PAGE.html]
Make one HTML page of the JSON Lines of a run, for example of
  sudo xtrace-catch -c 60 > run.jsonl

  FILE               JSON Lines, gzip too; - or nothing: standard input
  -o, --output PAGE  where to write it; - or nothing: standard output
  -h, --help         print this and exit

The page needs no network and no scripts. No privileges are needed.
"""


class Given(NamedTuple):
    """What the user requested."""

    source: str = "-"
    target: str = "-"
    asks_help: bool = False


def parse(arguments: Sequence[str]) -> Given:
    """Return what is given. Raises UsageError."""
    given = Given()
    files: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if argument in ("-h", "--help"):
            given = given._replace(asks_help=True)
        elif argument in ("-o", "--output") or (name == "--output" and equals):
            if not equals and not waiting:
                raise UsageError("report: --output needs a value (PAGE.html)")
            given = given._replace(target=value if equals else waiting.pop(0))
        elif argument.startswith("-") and argument not in ("-", "--debug"):
            raise UsageError(f"report: unknown option {argument} (see xtrace-catch report --help)")
        elif argument != "--debug":
            files.append(argument)
    if len(files) > 1:
        raise UsageError(f"report: one file at a time, not '{files[1]}' too (use cat, and - for standard input)")
    return given._replace(source=files[0] if files else "-")


def main(arguments: Sequence[str], stop: Stop) -> int:
    """Write the page and return 0. Raises UsageError, XtraceError, Stopped."""
    given = parse(arguments)
    output = OutputStream(STDOUT, stop)
    if given.asks_help:
        output.write(USAGE.encode())
        return 0
    if given.source == STDIN and os.isatty(0):
        raise UsageError(
            "report: standard input is a terminal (give a file: xtrace-catch report run.jsonl -o page.html)"
        )
    if given.target == "-" and os.isatty(STDOUT):
        raise UsageError("report: standard output is a terminal (name a file: -o page.html)")
    gathered = Gathered()
    with opened(given.source, "report") as source:
        for line, record in records(source, stop, gathered.problems):
            gathered.add(line, record)
    if not gathered.types:
        raise XtraceError(f"report: {_named(given.source)}: no records of xtrace-catch (give its JSON Lines, -o json)")
    html = page(gathered, _named(given.source)).encode("utf-8", "replace")
    if given.target == "-":
        output.write(html)
    else:
        _write(Path(given.target), html)
    return 0


def _named(source: str) -> str:
    return "standard input" if source == STDIN else Path(source).name


def _write(target: Path, html: bytes) -> None:
    """Replace a file at once: a reader never sees half a page. Raises XtraceError."""
    new = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(html)  # /dev/stdout, a pipe
            return
        new.write_bytes(html)
        new.replace(target)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise XtraceError(f"report: {target}: {error.strerror} (choose another file with -o)") from None
