"""Names and addresses in text for people; names chosen by others are made safe to print."""

from __future__ import annotations

from collections.abc import Sequence

RAW_BYTES = "".join(map(chr, range(0xDCA0, 0xDD00)))
"""Bytes from 0xa0 on that are not UTF-8, as surrogateescape decodes them. No terminal acts on them; the bytes below are
C1 control characters in 8-bit encodings."""

MOST_LISTED = 32
"""Names in one message: a host may have thousands of interfaces."""


def some_of(names: Sequence[str]) -> str:
    """List names in a message: as many as fit one, and how many more there are."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f", and {more} more" if more > 0 else "")


def with_port(address: str, port: object) -> str:
    """Return address and port, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def printable(text: str, instead: str = "?", kept: str = "") -> str:
    """Return `text` with `instead` for control and format characters (C0, C1, bidi, line ends), except for `kept`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in kept else instead for character in text)


def own_name(name: bytes) -> str:
    """A name chosen by a process, with invalid UTF-8 and control characters replaced by `?`."""
    return printable(name.decode(errors="replace").replace("\ufffd", "?"))


def harmless(text: str) -> bytes:
    """Return the same as bytes, which names are in Linux: those that no terminal acts on are as they were."""
    return printable(text, kept=RAW_BYTES).encode("utf-8", "surrogateescape")
