"""Texts with what is escaped in them undone, so that what they say is found however it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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


class Layer:
    """What a text says once some of its escapes are undone, and where each byte of that stands in it."""

    def __init__(self, said: bytes, begins: Sequence[int], ends: Sequence[int]) -> None:
        self.bytes = said
        self._begins, self._ends = begins, ends

    def undone(self) -> Layer:
        """Return the layer below: one escape fewer around each character."""
        said, begins, ends = bytearray(), [], []
        for found in _ESCAPED.finditer(self.bytes.decode("latin-1")):
            meant = _meant(found)
            said += meant
            begins += [self._begins[found.start()]] * len(meant)
            ends += [self._ends[found.end() - 1]] * len(meant)
        return Layer(bytes(said), begins, ends)

    def places(self, wanted: bytes) -> Iterator[tuple[int, int]]:
        """Where these bytes stand in the text: beginnings and ends."""
        at = self.bytes.find(wanted)
        while at >= 0:
            yield self._begins[at], self._ends[at + len(wanted) - 1]
            at = self.bytes.find(wanted, at + 1)

    def place_of_beginning(self, wanted: bytes, least: int) -> int | None:
        """Where the text begins to say these bytes when it ends; None if that is fewer than `least`."""
        begun = _BEGUN.search(self.bytes.decode("latin-1"))
        for said in (self.bytes, self.bytes[: begun.start()] if begun else b""):
            at = said.find(wanted[:least], max(0, len(said) - len(wanted) + 1))
            while at >= 0:
                if wanted.startswith(said[at:]):
                    return self._begins[at]
                at = said.find(wanted[:least], at + 1)
        return None


def layers(text: str) -> list[Layer]:
    """Return a text as it is, and with one layer of escapes after the other undone.

    In each may stand what is none in the next: `50%ab`, where `ab` was meant, becomes another character.
    """
    places = [at for at, character in enumerate(text) for _ in character.encode("utf-8", "surrogatepass")]
    found = [Layer(text.encode("utf-8", "surrogatepass"), places, [at + 1 for at in places])]
    for _ in range(MOST_LAYERS):
        undone = found[-1].undone()
        if undone.bytes == found[-1].bytes:
            break
        found.append(undone)
    return found


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
