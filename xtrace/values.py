"""Parsers for values of options and environment variables.

Every parser takes the text and the name of its option or variable, and raises UsageError with one line: the name,
what is wrong with the value, and in parentheses what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from xtrace.errors import UsageError

UNITS_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

LONGEST_NUMBER = 18
"""Digits; longer numbers are out of every range, and int() rejects thousands of digits."""


def duration(least_ms: int, most_ms: int) -> Callable[[str, str], int]:
    """Return a parser of `5000`, `500ms`, `5s`, `1m` to milliseconds within a range."""

    def parse(text: str, name: str) -> int:
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)", text.strip())
        if not found:
            raise UsageError(f"{name}: '{text}' is not a duration (use 500ms, 5s, 1m, or milliseconds)")
        milliseconds = float(found.group(1)) * UNITS_MS[found.group(2) or "ms"]
        if not least_ms <= milliseconds <= most_ms:
            most = written_duration(most_ms) + ("" if found.group(2) else "; a plain number is ms")
            raise UsageError(f"{name} {text.strip()} is out of range ({written_duration(least_ms)} to {most})")
        return round(milliseconds)

    return parse


def written_duration(milliseconds: int) -> str:
    """Return a duration in the largest unit that divides it: 1m for 60000."""
    unit, size = next((unit, size) for unit, size in UNITS_MS.items() if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}"


def whole_number(least: int, most: int) -> Callable[[str, str], int]:
    """Return a parser of integers within a range."""

    def parse(text: str, name: str) -> int:
        if not re.fullmatch(r"-?[0-9]+", text):
            raise UsageError(f"{name}: '{text}' is not a whole number ({least} to {most})")
        if len(text) > LONGEST_NUMBER or not least <= int(text) <= most:
            raise UsageError(f"{name} {text} is out of range ({least} to {most})")
        return int(text)

    return parse


def choice(kind: str, available: Iterable[str]) -> Callable[[str, str], str]:
    """Return a parser that accepts the words in `available`; `kind` names them in errors, as in "unknown mode"."""

    def parse(text: str, name: str) -> str:
        if text not in available:
            raise unknown(name, kind, text, available)
        return text

    return parse


def unknown(name: str, kind: str, text: str, available: Iterable[str]) -> UsageError:
    """Return the error for a word that is not in `available`."""
    return UsageError(f"{name}: unknown {kind} '{text}' (available: {', '.join(available)})")


def boolean(text: str, name: str) -> bool:
    """Parse `true 1 yes false 0 no`, in any case."""
    try:
        return BOOLEANS[text.strip().lower()]
    except KeyError:
        raise UsageError(f"{name}: '{text}' is not a boolean (use true or false)") from None


def items(text: str, name: str) -> list[str]:
    """Return the parts of a comma-separated list, none of them empty."""
    found = [item.strip() for item in text.split(",")]
    if not any(found):
        raise UsageError(f"{name} is empty (give a value or leave it out)")
    if not all(found):
        raise UsageError(f"{name}: empty value in '{text}' (remove the extra comma)")
    return found


def names(text: str, name: str) -> tuple[str, ...]:
    """Return the parts of `eth0,ib*` without duplicates."""
    return tuple(dict.fromkeys(items(text, name)))


def as_given(text: str, name: str) -> str:
    """Accept any text."""
    return text


def address(text: str, name: str) -> tuple[str, int]:
    """Return host and port of `host:28028` or `[fd00::1]:28028`."""
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\s]+)):([0-9]{1,5})", text.strip())
    if not found or not 0 < int(found.group(3)) < 65536:
        raise UsageError(f"{name}: '{text}' is not ADDR:PORT (for example localhost:28028 or [::1]:28028)")
    return found.group(1) or found.group(2), int(found.group(3))


def addresses(text: str, name: str) -> tuple[tuple[str, int], ...]:
    """Return host and port of each, each once: `localhost:28028,10.0.0.1:28028`."""
    return tuple(dict.fromkeys(address(one, name) for one in text.split(",")))


UNIX = "unix:"
LONGEST_SOCKET = 107
"""Bytes of a unix socket's path (unix(7), sun_path)."""


def listening(text: str, name: str) -> tuple[str, int] | str:
    """Return host and port of `127.0.0.1:9469`, or the path of `unix:/run/xtrace.sock`."""
    given = text.strip()
    if given.startswith(UNIX):
        path = given.removeprefix(UNIX)
        if not path.startswith("/") or len(path.encode()) > LONGEST_SOCKET:
            raise UsageError(f"{name}: '{text}' is not unix:/PATH (an absolute path of at most {LONGEST_SOCKET} bytes)")
        return path
    try:
        return address(given, name)
    except UsageError:
        raise UsageError(
            f"{name}: '{text}' is not ADDR:PORT or unix:/PATH (for example 127.0.0.1:9469, [::1]:9469, 0.0.0.0:9469)"
        ) from None


def collector(text: str, name: str) -> tuple[str, str, int]:
    """Return protocol, host and port of `collector:4739` (udp), `udp:collector:4739` or `tcp:collector:4739`."""
    protocol, colon, where = text.strip().partition(":")
    if not colon or protocol not in ("udp", "tcp"):
        protocol, where = "udp", text
    try:
        return protocol, *address(where, name)
    except UsageError:
        raise UsageError(f"{name}: '{text}' is not HOST:PORT or tcp:HOST:PORT (for example localhost:4739)") from None


SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LEAST_SPOOL, DEFAULT_SPOOL = 1 << 20, 1 << 30


def spool(text: str, name: str) -> tuple[str, int]:
    """Return directory and bytes of `/var/spool/xtrace-catch:2G`, 1 GiB without a size."""
    given = text.strip()
    found = re.fullmatch(r"(.+?)(?::([0-9]{1,9})([KMGT]))?", given)
    size = int(found.group(2)) * SIZES[found.group(3)] if found and found.group(2) else DEFAULT_SPOOL
    if not found or not found.group(1).startswith("/"):
        raise UsageError(f"{name}: '{text}' is not /DIR or /DIR:SIZE (for example /var/spool/xtrace-catch:2G)")
    if size < LEAST_SPOOL:
        raise UsageError(f"{name}: {found.group(2)}{found.group(3)} is too small (at least 1M)")
    return found.group(1), size
