"""The changes that a C file offers: of single tokens and whole statements, outside of comments, strings and macros."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.changes.change import Change

IGNORED = re.compile(
    rb'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#(?:\\\n|[^\n])*', re.S | re.M
)
TOKENS: tuple[tuple[str, bytes, bytes], ...] = (
    ("boundary", rb" < ", b" <= "),
    ("boundary", rb" > ", b" >= "),
    ("boundary", rb" <= ", b" < "),
    ("boundary", rb" >= ", b" > "),
    ("comparison", rb" == ", b" != "),
    ("comparison", rb" != ", b" == "),
    ("and, or", rb" && ", b" || "),
    ("and, or", rb" \|\| ", b" && "),
    ("arithmetic", rb" \+ ", b" - "),
    ("arithmetic", rb" - ", b" + "),
    ("arithmetic", rb" \+= ", b" -= "),
    ("arithmetic", rb" << ", b" >> "),
    ("arithmetic", rb" >> ", b" << "),
    ("arithmetic", rb" & ", b" | "),
    ("arithmetic", rb" \|= ", b" &= "),
    ("removed not", rb"(?<=[(\s])!(?=[a-z(_])", b""),
    ("dropped statement", rb"(?<=\n)[ \t]+(?:continue|break|goto \w+|return);", b"\t;"),
    ("dropped statement", rb"(?<=\n)[ \t]+(?!PIN\()\w+\([^;{}]*\);", b"\t;"),  # PIN() tells compilers what to leave
    ("dropped statement", rb"(?<=\n)[ \t]+[\w.>\[\]-]+ [+|&-]?= [^;{}]*;", b"\t;"),
)
NUMBER = re.compile(rb"(?<![\w.])(?:0x[0-9a-fA-F]+|\d+)(?![\w.])")


def blanked(source: bytes) -> bytes:
    """The file with spaces for everything that is no code; newlines stay."""
    return IGNORED.sub(lambda match: re.sub(rb"[^\n]", b" ", match.group()), source)


def changes_of(path: str, source: bytes) -> list[Change]:
    """Every change of the file, in a fixed order."""
    return list(found(path, blanked(source)))


def found(path: str, code: bytes) -> Iterator[Change]:
    """Changes by kind of token, then numbers."""
    for kind, pattern, text in TOKENS:
        for match in re.finditer(pattern, code):
            yield Change(path, kind, match.start(), match.end(), text)
    for match in NUMBER.finditer(code):
        yield Change(path, "constant", match.start(), match.end(), b"%d" % (int(match.group(), 0) + 1))
