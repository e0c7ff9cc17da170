"""`xtrace-catch hang FILE...`: from its arguments to its exit code."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence

from xtrace.errors import UsageError
from xtrace.hang.reader import Hosts, files_of
from xtrace.model import nccl_limits
from xtrace.model.limits import changed
from xtrace.model.nccl_judge import judge
from xtrace.model.nccl_verdicts import Covered, Limits
from xtrace.printable import printable
from xtrace.recorded import lines, opened
from xtrace.sinks.jsonl.lines import line
from xtrace.sinks.jsonl.nccl_ranks import verdict_records
from xtrace.sinks.render import timestamp
from xtrace.sinks.stream import STDOUT, OutputStream
from xtrace.sinks.text.nccl_ranks import job_lines
from xtrace.stop import Stop

log = logging.getLogger(__name__)

USAGE = "usage: xtrace-catch hang [--threshold hang=TIME,late=TIME] [-o text|json] FILE..."
HELP = f"""\
{USAGE}
Name the rank that keeps an NCCL communicator waiting, from the JSON Lines that
xtrace-catch -m nccl wrote on all its hosts. Needs no privileges.
  FILE                        records of one host or several, gzip too; - is
                              standard input; a directory stands for its *.jsonl
                              and *.jsonl.gz
  -o, --format FORMAT         text or json (verdict records) (default: text)
      --threshold NAME=TIME[,...]
                              hang: how long ranks may wait (default: 30s);
                              late: how much later than the others a rank may
                              begin its calls (default: 100ms); off: never
"""


def main(arguments: Sequence[str], stop: Stop) -> int:
    """Run the command and return its exit code. Raises XtraceError."""
    text = HELP.encode() if {"-h", "--help"} & set(arguments) else answer(arguments)
    OutputStream(STDOUT, stop).write(text)
    return 0


def answer(arguments: Sequence[str]) -> bytes:
    """What is to be printed. Raises UsageError, or XtraceError."""
    given = _parse(arguments)
    limits = parse_limits(given.threshold)
    hosts = Hosts()
    for name in files_of(given.files):
        with opened(name, "hang") as file:
            hosts.read(lines(file), name)
    _complain(hosts)
    ranks = hosts.ranks()
    verdicts = judge(ranks, limits, Covered.ALL_HOSTS if hosts.is_whole else Covered.IN_PART)
    if given.format == "json":
        common = {"ts": timestamp(hosts.now_ns), "interval_s": 0.0, "host": ",".join(sorted(hosts.views))}
        return b"".join(line(record) for record in verdict_records(verdicts, common))
    return "".join(f"{printable(text)}\n" for text in job_lines(ranks, verdicts, hosts.now_ns)).encode(errors="replace")


def _complain(hosts: Hosts) -> None:
    """Say what the answer does not cover."""
    for text in _gaps(hosts):
        log.warning("hang: %s", text)


def _gaps(hosts: Hosts) -> Iterator[str]:
    for name in hosts.empty:
        yield f"{name}: no records of mode nccl (write them with xtrace-catch -m nccl -o json)"
    for name in hosts.damaged:
        yield f"{name}: the compressed file is cut off or damaged: only what comes before that is read"
    if hosts.unread:
        yield f"left out, no records of this version: {hosts.unread} lines"
    for host, end_ns in hosts.stale().items():
        yield f"{host}: its records end at {timestamp(end_ns)}, before those of others: its ranks are left out"
    for host, files in hosts.doubtful().items():
        yield f"{host}: {' and '.join(files)} have records of the same time: name each host by XTRACE_HOST"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"hang: {message} ({USAGE})")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="xtrace-catch hang", add_help=False, allow_abbrev=False)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("-o", "--format", choices=("text", "json"), default="text")
    parser.add_argument("--threshold", action="append", default=[])
    return parser.parse_args(arguments)


def parse_limits(texts: Sequence[str]) -> Limits:
    """`hang=30s,late=off`. Raises UsageError."""
    return Limits.of(changed(nccl_limits.LIMITS, ",".join(texts), "hang: --threshold"))
