"""Thresholds of health: what --threshold sets, and verdicts by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from xtrace.errors import UsageError
from xtrace.model.words import Health
from xtrace.values import duration, unknown

PER_MINUTE, PER_MILLION, PERCENT, RATIO, SECONDS = "per minute", "per million packets", "%", "", "s"

LONGEST_MS = 86_400_000


class Limit(NamedTuple):
    """Values above which something is a warning or critical; None: never."""

    unit: str
    warn: float | None
    critical: float | None
    words: str
    """what is counted, in reasons"""


Limits = Mapping[str, Limit]


class Finding(NamedTuple):
    """One reason for bad health."""

    level: Health
    reason: str


def changed(limits: Limits, text: str, name: str) -> dict[str, Limit]:
    """`limits` with the changes of `ack_timeout=10:100,rx_oos=off`: NAME=WARN[:CRITICAL], `off` for never.

    Raises UsageError, which begins with the option's `name`.
    """
    result = dict(limits)
    given = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        limit, separator, value = part.partition("=")
        if not separator:
            raise UsageError(f"{name}: '{part}' is not NAME=WARN[:CRITICAL] (for example ack_timeout=10:100)")
        if limit not in result:
            raise unknown(name, "threshold", limit, result)
        if limit in given:
            raise UsageError(f"{name}: {limit} is given twice (give it once)")
        given.add(limit)
        is_time = result[limit].unit == SECONDS
        parse = _duration if is_time else _number
        # a time has one level
        first, _, second = (value, "", "") if is_time else value.partition(":")
        warn, critical = (parse(number, f"{name}: {part}") for number in (first, second or "off"))
        if warn is not None and critical is not None and critical < warn:
            raise UsageError(f"{name}: {part}: critical is below warn (give the lower number first)")
        result[limit] = result[limit]._replace(warn=warn, critical=critical)
    return result


def _duration(text: str, name: str) -> float | None:
    """Seconds from `30s` or `500ms`."""
    return None if text == "off" else duration(1, LONGEST_MS)(text, name) / 1000


def _number(text: str, name: str) -> float | None:
    if text == "off":
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"{name}: '{text}' is not a number (use 0 or more, or off)")
    return number


def level_of(value: float, limit: Limit) -> Health | None:
    """The level of a value; None: it exceeds nothing."""
    if limit.critical is not None and value > limit.critical:
        return Health.CRITICAL
    return Health.WARN if limit.warn is not None and value > limit.warn else None


def worst_first(findings: Iterable[Finding]) -> tuple[Health, tuple[str, ...]]:
    """The worst level, and all reasons in that order."""
    found = sorted(findings, key=lambda finding: finding.level.rank, reverse=True)
    return found[0].level if found else Health.OK, tuple(finding.reason for finding in found)
