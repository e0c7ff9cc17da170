"""One deliberate change to one file, and the choice of a few among all that are possible."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Bytes `start` to `end` of the file become `text`."""

    path: str
    """relative to the tree"""
    kind: str
    """in words: "boundary", "constant", ..."""
    start: int
    end: int
    text: bytes
    scope: int = 0
    """first line of the function that it is in, as in co_firstlineno; 0 outside of functions"""

    def apply(self, source: bytes) -> bytes:
        """Return the changed file."""
        return source[: self.start] + self.text + source[self.end :]

    def line(self, source: bytes) -> int:
        """The number of the line where the change begins."""
        return source.count(b"\n", 0, self.start) + 1

    def shown(self, source: bytes) -> tuple[str, str]:
        """The lines that it changes, before and after, each as one line without indentation."""
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.end)
        rest = source[self.end :] if last < 0 else source[self.end : last]
        head = source[first : self.start]
        return one_line(head + source[self.start : self.end] + rest), one_line(head + self.text + rest)


def one_line(text: bytes) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.decode().split())


def choose(changes: Sequence[Change], count: int, seed: str) -> list[Change]:
    """Up to `count` of the changes, every kind in turn, in the order of the file. The same seed, the same choice.

    Turns, because a table of names would otherwise give nothing but changed names.
    """
    draw = random.Random(seed)
    by_kind: defaultdict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_kind[change.kind].append(change)
    piles = [draw.sample(by_kind[kind], len(by_kind[kind])) for kind in sorted(by_kind)]
    draw.shuffle(piles)
    chosen: list[Change] = []
    while len(chosen) < count and any(piles):
        chosen += [pile.pop() for pile in piles if pile]
    return sorted(chosen[:count], key=lambda change: (change.start, change.end, change.text))


def draw(changes: Sequence[Change], count: int, seed: str) -> list[Change]:
    """Up to `count` of the changes of all files, each as probable as any other. The same seed, the same choice."""
    return random.Random(seed).sample(changes, min(count, len(changes)))
