"""Texts with everything that is escaped undone, so that what they say is found however it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

MOST_LAYERS = 4
"""Encodings in one another that are undone."""

_ESCAPED = re.compile(
    r"%[0-9a-f]{2}|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\\[^ux]|&#?[0-9a-z]{1,8};|.",
    re.IGNORECASE | re.DOTALL,
)
"""A character as URLs, JSON, quoted strings and HTML write it, or any other."""
_BEGUN = re.compile(r"(?:%[0-9a-f]?|\\(?:u[0-9a-f]{0,3}|x[0-9a-f]?)?|&#?[0-9a-z]{0,8})\Z", re.IGNORECASE)
"""The beginning of an escaped one at the end of a text."""


class Unescaped:
    """A text with everything that is escaped in it as what it stands for, and where each byte of that stood."""

    def __init__(self, text: str) -> None:
        self.bytes = text.encode("utf-8", "surrogatepass")
        places = [at for at, character in enumerate(text) for _ in character.encode("utf-8", "surrogatepass")]
        self._begins, self._ends = places, [at + 1 for at in places]
        for _ in range(MOST_LAYERS):
            if not self._undo():
                break

    def _undo(self) -> bool:
        """Undo one layer of escapes; whether there was any."""
        before = self.bytes
        undone, begins, ends = bytearray(), [], []
        for found in _ESCAPED.finditer(before.decode("latin-1")):
            meant = _meant(found)
            undone += meant
            begins += [self._begins[found.start()]] * len(meant)
            ends += [self._ends[found.end() - 1]] * len(meant)
        self.bytes, self._begins, self._ends = bytes(undone), begins, ends
        return self.bytes != before

    def places(self, wanted: bytes) -> Iterator[tuple[int, int]]:
        """Where these bytes stand in the text: beginnings and ends."""
        at = self.bytes.find(wanted)
        while at >= 0:
            yield self._begins[at], self._ends[at + len(wanted) - 1]
            at = self.bytes.find(wanted, at + 1)

    def place_of_beginning(self, wanted: bytes, least: int) -> int | None:
        """Where the text begins to say these bytes when it ends; None if that is fewer than `least`."""
        begun = _BEGUN.search(self.bytes.decode("latin-1"))
        for text in (self.bytes, self.bytes[: begun.start()] if begun else b""):
            for length in range(min(len(wanted) - 1, len(text)), least - 1, -1):
                if text.endswith(wanted[:length]):
                    return self._begins[len(text) - length]
        return None


def _meant(found: re.Match[str]) -> bytes:
    """What one match of _ESCAPED, of bytes read as Latin-1, stands for; a blank for +, as in URLs."""
    text = found.group()
    if len(text) == 1:
        return b" " if text == "+" else text.encode("latin-1")
    if text[0] == "%":
        return bytes.fromhex(text[1:])
    if text[0] == "&":
        return unescape(text).encode("utf-8", "surrogatepass") if unescape(text) != text else text.encode("latin-1")
    if len(text) == 2:
        return text[1].encode("latin-1")
    if text[1] in "xX":
        return bytes.fromhex(text[2:])
    return (
        bytes.fromhex(text.lower().replace("\\u", "")).decode("utf-16-be", "surrogatepass").encode("utf-8", "replace")
    )
