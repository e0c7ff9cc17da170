"""From the bytes that a terminal sends to the names of keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

UP, DOWN, LEFT, RIGHT, HOME, END = "up", "down", "left", "right", "home", "end"
PAGE_UP, PAGE_DOWN, BACK_TAB = "page up", "page down", "shift-tab"
TAB, ENTER, ESCAPE, BACKSPACE, CLEAR = "tab", "enter", "esc", "backspace", "ctrl-u"

_SINGLE = {
    "\t": TAB, "\r": ENTER, "\n": ENTER, "\x1b": ESCAPE, "\x7f": BACKSPACE, "\b": BACKSPACE, "\x15": CLEAR,
}  # fmt: skip
_BY_FINAL = {"A": UP, "B": DOWN, "C": RIGHT, "D": LEFT, "H": HOME, "F": END, "Z": BACK_TAB}
"""The last character of CSI and SS3 sequences (ECMA-48, xterm)."""
_BY_NUMBER = {"1": HOME, "7": HOME, "4": END, "8": END, "5": PAGE_UP, "6": PAGE_DOWN}
"""The number before `~` (VT220, rxvt)."""

_SEQUENCE = re.compile(r"\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]|O[\x40-\x7e])")
_BEGUN = re.compile(rb"\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*|O)?\Z")


def is_cut(data: bytes) -> bool:
    """Return whether `data` ends where a sequence may go on; an Escape key alone looks the same."""
    return bool(_BEGUN.search(data))


def decoded(data: bytes) -> Iterator[str]:
    """Yield the name of each key, or the character it types. Unknown sequences yield nothing."""
    text = data.decode(errors="ignore")
    place = 0
    while place < len(text):
        found = _SEQUENCE.match(text, place)
        if found:
            place = found.end()
            name = _named(found[0])
            if name:
                yield name
            continue
        character = text[place]
        place += 1
        if character in _SINGLE:
            yield _SINGLE[character]
        elif character.isprintable():
            yield character


def _named(sequence: str) -> str:
    if sequence.endswith("~"):
        return _BY_NUMBER.get(sequence[2:-1].partition(";")[0], "")
    return _BY_FINAL.get(sequence[-1], "")
