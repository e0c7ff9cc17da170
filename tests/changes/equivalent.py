"""The changes that change nothing that anybody could see: equivalent.txt, with the reason for each.

An entry is a paragraph: the path, the line before (`-`) and after (`+`), and why nothing differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")

Entry = tuple[str, str, str]
"""Path, line before, line after."""


def parse(text: str) -> dict[Entry, str]:
    """Every entry with its reason. Raises ValueError for one that is incomplete."""
    return dict(entries(text))


def entries(text: str) -> Iterator[tuple[Entry, str]]:
    """The paragraphs of the file; lines that begin with # are remarks."""
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
        if not lines:
            continue
        if len(lines) < 4 or not lines[1].startswith("- ") or not lines[2].startswith("+ "):
            raise ValueError(
                f"equivalent.txt: an entry is path, `- before`, `+ after`, reason; this is none: {lines[0]}"
            )
        yield (lines[0], lines[1][2:], lines[2][2:]), " ".join(lines[3:])


def stale(known: dict[Entry, str], tree: Path) -> list[Entry]:
    """The entries whose line before is no longer in its file."""

    def words(path: str) -> str:
        return " ".join((tree / path).read_text().split()) if (tree / path).is_file() else ""

    return [entry for entry in known if entry[1] not in words(entry[0])]
