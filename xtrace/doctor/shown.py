"""Checks as lines for people and as records."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from xtrace.doctor.check import Check, Status
from xtrace.printable import RAW_BYTES, printable
from xtrace.sinks.render import valid_unicode
from xtrace.sinks.stream import OutputStream


def show(checks: Iterable[Check], output: OutputStream, as_json: bool, host: str) -> int:
    """Write each check when it is done, and return the exit code: 1 if any failed, else 0."""
    failed = False
    for check in checks:
        failed = failed or check.status is Status.FAIL
        output.write(record(check, host) if as_json else line(check))
    return int(failed)


def line(check: Check) -> bytes:
    """Return `warn  attaching     eth0: what was found -> what helps`."""
    subject = f"{check.subject}: " if check.subject else ""
    cure = f" -> {check.cure}" if check.cure else ""
    text = f"{check.status:4}  {check.name:12}  {subject}{check.detail}{cure}"
    return f"{printable(text, kept=RAW_BYTES)}\n".encode("utf-8", "surrogateescape")


def record(check: Check, host: str) -> bytes:
    """Return the check as a line of JSON."""
    fields = {
        "type": "check",
        "host": valid_unicode(host),
        "name": check.name,
        "subject": valid_unicode(check.subject) or None,
        "status": check.status,
        "detail": valid_unicode(check.detail),
        "cure": valid_unicode(check.cure) or None,
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
