"""Numbers for people."""

from __future__ import annotations

UNITS = ("", "k", "M", "G", "T")


def scaled(number: float) -> str:
    """`97.2 G` for 97.2e9: at most four digits, with a space before the unit."""
    step = 0
    while number >= 1000 and step < len(UNITS) - 1:
        number, step = number / 1000, step + 1
    return f"{number:.{1 if step else 0}f} {UNITS[step]}"


def counted(number: int, noun: str) -> str:
    """`1 flow`, `2 flows`"""
    return f"{number} {noun}{'' if number == 1 else 's'}"
