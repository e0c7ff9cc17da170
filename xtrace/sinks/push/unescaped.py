"""Texts with what is escaped in them undone, so that what they say is found however it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import unescape

MOST_LAYERS = 4
"""Encodings in one another that are undone."""
MOST_READINGS = 16
"""Texts that one may stand for, by what is undone in it and what is not."""

_URLS = r"%[0-9a-f]{2}|\+"
_QUOTED = r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\\[^ux]"
_HTML = "&#?[0-9a-z]{1,8};"
_EACH = tuple(re.compile(f"({how})|.", re.IGNORECASE | re.DOTALL) for how in (_QUOTED, _URLS, _HTML))
_ALL = re.compile(f"({_URLS}|{_QUOTED}|{_HTML})|.", re.IGNORECASE | re.DOTALL)
"""A character as URLs, JSON and other quoted strings, or HTML write it, or any other."""
_BEGUN = re.compile(r"(?:%[0-9a-f]?|\\(?:u[0-9a-f]{0,3}|x[0-9a-f]?)?|&#?[0-9a-z]{0,8})\Z", re.IGNORECASE)
"""The beginning of an escaped one at the end of a text."""


class Layer:
    """What a text says once some of its escapes are undone, and where each byte of that stands in it."""

    def __init__(self, said: bytes, begins: Sequence[int], ends: Sequence[int]) -> None:
        self.bytes = said
        self._begins, self._ends = begins, ends
        begun = _BEGUN.search(said.decode("latin-1"))
        self._ending = (said, said[: begun.start()]) if begun else (said,)
        """without the beginning of an escape too"""

    def undone(self, escaped: re.Pattern[str]) -> Layer:
        """Return the layer below: one escape of these kinds fewer around each character."""
        said, begins, ends = bytearray(), [], []
        for found in escaped.finditer(self.bytes.decode("latin-1")):
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
        for said in self._ending:
            at = said.find(wanted[:least], max(0, len(said) - len(wanted) + 1))
            while at >= 0:
                if wanted.startswith(said[at:]):
                    return self._begins[at]
                at = said.find(wanted[:least], at + 1)
        return None


def layers(text: str) -> list[Layer]:
    """Return a text as it is, and with one layer of escapes of all kinds after the other undone."""
    places = [at for at, character in enumerate(text) for _ in character.encode("utf-8", "surrogatepass")]
    found = [Layer(text.encode("utf-8", "surrogatepass"), places, [at + 1 for at in places])]
    for _ in range(MOST_LAYERS):
        undone = found[-1].undone(_ALL)
        if undone.bytes == found[-1].bytes:
            break
        found.append(undone)
    return found


def readings(text: str) -> list[Layer]:
    """Return a text's layers, and what it says where escapes of some kinds are none.

    `50%ab`, where `ab` was meant, becomes another character when that of a URL is undone.
    """
    found = {layer.bytes: layer for layer in layers(text)}
    above = list(found.values())[:1]
    for _ in range(MOST_LAYERS):
        below = [layer.undone(how) for layer in above for how in _EACH]
        above = list({layer.bytes: layer for layer in below if layer.bytes not in found}.values())
        above = above[: MOST_READINGS - len(found)]
        found.update((layer.bytes, layer) for layer in above)
    return list(found.values())


def _meant(found: re.Match[str]) -> bytes:
    """What one match of _ALL, or one of _EACH, of bytes read as Latin-1, stands for; a blank for +, as in URLs."""
    text = found.group()
    if not found[1]:
        return text.encode("latin-1")
    if text == "+":
        return b" "
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
