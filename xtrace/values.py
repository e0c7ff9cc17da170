"""Values of options and environment variables: from text to value.

Every parser takes the text and the name of the option or variable it came from, and raises UsageError with one line:
the name, what is wrong with the value, and in parentheses what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from xtrace.errors import UsageError

UNITS_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

LONGEST_NUMBER = 18
"""Digits; what is longer is out of every range, and int() refuses thousands of them."""


def duration(least_ms: int, most_ms: int) -> Callable[[str, str], int]:
    """A parser of `5000`, `500ms`, `5s`, `1m` to milliseconds within a range."""

    def parse(text: str, name: str) -> int:
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)", text.strip())
        if not found:
            raise UsageError(f"{name}: '{text}' is not a duration (use 500ms, 5s, 1m, or milliseconds)")
        milliseconds = float(found.group(1)) * UNITS_MS[found.group(2) or "ms"]
        if not least_ms <= milliseconds <= most_ms:
            raise UsageError(
                f"{name} {text.strip()} is out of range ({written_duration(least_ms)} to {written_duration(most_ms)})"
            )
        return round(milliseconds)

    return parse


def written_duration(milliseconds: int) -> str:
    """In the largest unit that divides it: 60000 is 1m."""
    unit, size = next((unit, size) for unit, size in UNITS_MS.items() if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}"


def whole_number(least: int, most: int) -> Callable[[str, str], int]:
    """A parser of integers within a range."""

    def parse(text: str, name: str) -> int:
        if not re.fullmatch(r"-?[0-9]+", text):
            raise UsageError(f"{name}: '{text}' is not a whole number ({least} to {most})")
        if len(text) > LONGEST_NUMBER or not least <= int(text) <= most:
            raise UsageError(f"{name} {text} is out of range ({least} to {most})")
        return int(text)

    return parse


def choice(kind: str, available: Iterable[str]) -> Callable[[str, str], str]:
    """A parser that takes one of some words; `kind` is what they are, as in "unknown mode"."""

    def parse(text: str, name: str) -> str:
        if text not in available:
            raise unknown(name, kind, text, available)
        return text

    return parse


def unknown(name: str, kind: str, text: str, available: Iterable[str]) -> UsageError:
    """The error for a word that is none of those available."""
    return UsageError(f"{name}: unknown {kind} '{text}' (available: {', '.join(available)})")


def boolean(text: str, name: str) -> bool:
    """`true 1 yes false 0 no`, in any case."""
    try:
        return BOOLEANS[text.strip().lower()]
    except KeyError:
        raise UsageError(f"{name}: '{text}' is not a boolean (use true or false)") from None


def items(text: str, name: str) -> list[str]:
    """The parts of a comma-separated list, of which none may be empty."""
    found = [item.strip() for item in text.split(",")]
    if not any(found):
        raise UsageError(f"{name} is empty (give a value or leave it out)")
    if not all(found):
        raise UsageError(f"{name}: empty value in '{text}' (remove the extra comma)")
    return found


def names(text: str, name: str) -> tuple[str, ...]:
    """`eth0,ib*` to its parts, each once."""
    return tuple(dict.fromkeys(items(text, name)))


def as_given(text: str, name: str) -> str:
    """Any text."""
    return text


def address(text: str, name: str) -> tuple[str, int]:
    """`host:28028`, `[fd00::1]:28028` to host and port."""
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\s]+)):([0-9]{1,5})", text.strip())
    if not found or not 0 < int(found.group(3)) < 65536:
        raise UsageError(f"{name}: '{text}' is not ADDR:PORT (for example localhost:28028 or [::1]:28028)")
    return found.group(1) or found.group(2), int(found.group(3))
