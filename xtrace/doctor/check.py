"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass

from xtrace.model.words import Word


class Status(Word):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """a run works, but is slower, sees less, or changes something"""
    FAIL = "fail"
    """a run with these options would fail"""


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what helps."""

    name: str
    status: Status
    detail: str
    cure: str = ""
    subject: str = ""
    """the interface, device or server; empty for the machine"""


def ok(name: str, detail: str, subject: str = "") -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, Status.OK, detail, subject=subject)


def warn(name: str, detail: str, cure: str = "", subject: str = "") -> Check:
    """Return a check that a run survives."""
    return Check(name, Status.WARN, detail, cure, subject)


def fail(name: str, detail: str, cure: str, subject: str = "") -> Check:
    """Return a check that a run fails at."""
    return Check(name, Status.FAIL, detail, cure, subject)
