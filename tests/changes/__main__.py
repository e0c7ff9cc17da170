"""`python -m tests.changes`: make deliberate changes in a copy of the tree, and say which of them no test notices."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.changes import build, c, choice, equivalent, python
from tests.changes.change import Change, choose
from tests.changes.trees import ROOT, Outcome, Tree

PUBLISHED = ("sinks", "model", "monitors", "report")
"""What makes figures: folders of xtrace/."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.changes", description=__doc__)
    parser.add_argument(
        "--module",
        action="append",
        metavar="PATH",
        help="a .py, .c or .h file or a folder, again for more; default: what publishes figures",
    )
    parser.add_argument("--count", type=int, default=20, help="changes per module at most; default 20")
    parser.add_argument("--seed", default="1", help="the same seed makes the same changes")
    parser.add_argument("--jobs", type=int, default=1, help="how many changes are tested at once")
    parser.add_argument("--tests", action="append", metavar="PATH", help="where to look for tests; default tests/unit")
    return parser.parse_args(arguments)


def modules(given: Sequence[str]) -> list[str]:
    """The files at these places, relative to the tree."""
    found: list[str] = []
    for place in given:
        path = (ROOT / place).resolve()
        inside = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found += [str(file.relative_to(ROOT)) for file in inside]
    return list(dict.fromkeys(found))


def changes_of(path: str, source: bytes) -> list[Change]:
    """Every change that the file offers."""
    return python.changes_of(path, source) if path.endswith(".py") else c.changes_of(path, source)


@dataclass
class Work:
    """The copies, and how the tests of a change are found."""

    trees: SimpleQueue[Tree]
    recording: choice.Recording | None
    tests: Sequence[str]
    """for C files, instead of the table"""

    def test(self, change: Change) -> Outcome:
        """Make the change in a copy that is free."""
        tree = self.trees.get()
        try:
            if not change.path.endswith(".py"):
                where = self.tests or choice.C_TESTS.get(change.path, choice.PACKET_PROGRAMS)
                return tree.outcome(change, where, (), choice.C_LIMIT_S)
            assert self.recording is not None
            chosen = self.recording.tests_of(change)
            if not chosen:
                return Outcome(False, "no test calls it")
            files = list(dict.fromkeys(test.id.partition("::")[0] for test in chosen))
            return tree.outcome(change, files, [test.id for test in chosen], choice.limit_s(chosen))
        finally:
            self.trees.put(tree)


@dataclass
class Count:
    """Changes of one module, or of all."""

    noticed: int = 0
    missed: int = 0
    unanswered: int = 0
    """the time limit ended the tests: they may be slow, or never end"""
    refused: int = 0
    equivalent: int = 0

    def __str__(self) -> str:
        """`19 of 20 noticed, 95 %`, and how many more could not be."""
        told = self.noticed + self.missed
        share = f", {100 * self.noticed / told:.0f} %" if told else ""
        others = (
            (self.unanswered, "without an answer in time"),
            (self.refused, "refused"),
            (self.equivalent, "equivalent"),
        )
        return f"{self.noticed} of {told} noticed{share}" + "".join(
            f", {count} {word}" for count, word in others if count
        )

    def add(self, other: Count) -> None:
        """Add up."""
        self.noticed += other.noticed
        self.missed += other.missed
        self.unanswered += other.unanswered
        self.refused += other.refused
        self.equivalent += other.equivalent


def report(path: str, tried: Sequence[tuple[Change, Outcome | None]], source: bytes) -> Count:
    """Print one module's share, and every change that no test noticed, or that had no answer in time."""
    count = Count()
    lines: list[str] = []
    for change, outcome in tried:
        before, after = change.shown(source)
        if outcome is None:
            count.equivalent += 1
        elif outcome.refused:
            count.refused += 1
        elif outcome.hung:
            count.unanswered += 1
        elif outcome.noticed:
            count.noticed += 1
        else:
            count.missed += 1
        if outcome and not outcome.noticed:
            place = f"{path}:{change.line(source)}"
            lines.append(f"    {place} {change.kind} ({outcome.how})\n      - {before}\n      + {after}")
    print(f"{path}: {count}", *lines, sep="\n", flush=True)
    return count


def prepare(given: argparse.Namespace, directory: Path, paths: Sequence[str]) -> Work:
    """Copy the tree, run its tests unchanged, and copy it again for every further job."""
    first = Tree.make(directory / "0")
    recording = None
    if any(path.endswith(".py") for path in paths):
        print("running the tests unchanged", flush=True)
        recording = choice.Recording(first.record(given.tests or ["tests/unit"]), choice.importers_of(first.directory))
        for failed in recording.failed:
            print(f"not used, because it does not pass unchanged: {failed}")
    built: set[str] = set()
    for path in paths:
        concerned = set() if path.endswith(".py") else build.parts(ROOT, path)
        if concerned - built and not first.build(path):
            sys.exit(f"{path}: unchanged, it does not compile or load: make build and tests/kernel say why")
        built |= concerned
    trees: SimpleQueue[Tree] = SimpleQueue()
    for tree in (first, *(first.clone(directory / str(number)) for number in range(1, given.jobs))):
        trees.put(tree)
    return Work(trees, recording, given.tests or ())


def main(arguments: Sequence[str]) -> None:
    """Report module by module, then the sum."""
    given = options(arguments)
    paths = modules(given.module or [f"xtrace/{folder}" for folder in PUBLISHED])
    known = equivalent.parse(equivalent.FILE.read_text())
    for path, before, _ in equivalent.stale(known, ROOT):
        print(f"equivalent.txt: {path} has no such line any more: {before}")
    total = Count()
    with tempfile.TemporaryDirectory(prefix="xtrace-changes-") as directory, ThreadPoolExecutor(given.jobs) as pool:
        work = prepare(given, Path(directory), paths)
        for path in paths:
            source = (Path(directory) / "0" / path).read_bytes()
            chosen = choose(changes_of(path, source), given.count, f"{given.seed} {path}")
            if chosen:
                real = [change for change in chosen if (path, *change.shown(source)) not in known]
                outcomes = dict(zip(real, pool.map(work.test, real), strict=True))
                total.add(report(path, [(change, outcomes.get(change)) for change in chosen], source))
    print(f"all: {total}")


if __name__ == "__main__":
    main(sys.argv[1:])
