"""The snapshot's file, and what two states of the promises differ by."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = ROOT / "tests/fixtures/public.txt"
CHANGELOG = ROOT / "CHANGELOG.md"
INCOMPATIBLE = "Incompatible"
"""Title of the list in a section of CHANGELOG.md that says what was taken back."""


class Snapshot(NamedTuple):
    """What a version promised."""

    version: str
    promises: frozenset[str]


def parsed(text: str) -> Snapshot:
    """Return what `written` wrote."""
    first, *lines = text.splitlines()
    return Snapshot(first.removeprefix("version "), frozenset(lines))


def written(promises: Collection[str], version: str) -> str:
    """Return the file: the version, then all promises in order."""
    return "\n".join([f"version {version}", *sorted(promises), ""])


def subject(promise: str) -> str:
    """Return what a promise is about: an option's long flag, a field, a metric, a label."""
    return promise.partition(": ")[0].rpartition(" ")[2]


def broken(before: Snapshot, now: Collection[str], version: str, changelog: str) -> list[str]:
    """Return a line per promise that was taken back without saying so, as semantic versioning wants it (semver.org).

    Each must be named in the newest section's list INCOMPATIBLE; after 1.0.0 the first number of the version must have
    grown, too. A candidate (1.0.0rc1) is no release.
    """
    said = taken_back(changelog)
    grown = major(version) > major(before.version)
    released = major(before.version) > 0 and "rc" not in before.version
    return [
        f"'{promise}' is gone: {complaint}"
        for promise in sorted(before.promises - set(now))
        for complaint in _complaints(subject(promise), said, may_change=grown or not released)
    ]


def _complaints(about: str, said: Collection[str], *, may_change: bool) -> Iterator[str]:
    if about not in said:
        yield f"keep it, or name `{about}` under {INCOMPATIBLE} in CHANGELOG.md"
    if not may_change:
        yield "keep it, or raise the version's first number"


def taken_back(changelog: str) -> set[str]:
    """Return what the newest section names under INCOMPATIBLE."""
    newest = changelog.partition("\n## ")[2].partition("\n## ")[0]
    paragraph = re.search(rf"^{INCOMPATIBLE}:\n\n(.*?)(?:\n\n|\Z)", newest, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`]+)`", paragraph.group(1))) if paragraph else set()


def major(version: str) -> int:
    """Return the first number of 1.2.3."""
    return int(version.partition(".")[0])
