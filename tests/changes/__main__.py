"""`python -m tests.changes`: make deliberate changes in a copy of the tree, and say which of them no test notices."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.changes import build, c, c_tests, choice, equivalent, python
from tests.changes.change import Change, choose, draw
from tests.changes.trees import ROOT, Outcome, Tree

PUBLISHED = ("sinks", "model", "monitors", "report")
"""What makes figures: folders of xtrace/."""

SUFFIXES = {".py", ".c", ".h"}


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
    parser.add_argument("--sample", type=int, metavar="N", help="instead: N changes of all the modules together")
    parser.add_argument("--seed", default="1", help="the same seed makes the same changes")
    parser.add_argument("--jobs", type=int, default=1, help="how many changes are tested at once")
    parser.add_argument("--tests", action="append", metavar="PATH", help="where to look for tests; default tests/unit")
    return parser.parse_args(arguments)


def modules(given: Sequence[str]) -> list[str]:
    """The files at these places, relative to the tree."""
    found: list[str] = []
    for place in given:
        path = (ROOT / place).resolve()
        inside = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES) if path.is_dir() else [path]
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
    """for C files, instead of the tables"""

    def test(self, change: Change) -> Outcome:
        """Make the change in a copy that is free."""
        tree = self.trees.get()
        try:
            if not change.path.endswith(".py"):
                found = c_tests.stages(change.path, build.parts(tree.directory, change.path))
                stages = [c_tests.Stage(stage.part, self.tests or stage.tests) for stage in found]
                return tree.outcome_of_c(change, stages, choice.C_LIMIT_S)
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
    parts = set[str]().union(*(build.parts(ROOT, path) for path in paths if not path.endswith(".py")))
    if parts and not first.build(sorted(parts)):
        sys.exit("unchanged, it does not compile: make build says why")
    trees: SimpleQueue[Tree] = SimpleQueue()
    for tree in (first, *(first.clone(directory / str(number)) for number in range(1, given.jobs))):
        trees.put(tree)
    return Work(trees, recording, given.tests or ())


def selected(given: argparse.Namespace, sources: Mapping[str, bytes]) -> dict[str, list[Change]]:
    """The changes to make in each module that has any."""
    offered = {path: changes_of(path, source) for path, source in sources.items()}
    if given.sample is None:
        chosen = {path: choose(changes, given.count, f"{given.seed} {path}") for path, changes in offered.items()}
    else:
        drawn = set(draw([change for changes in offered.values() for change in changes], given.sample, given.seed))
        chosen = {path: [change for change in changes if change in drawn] for path, changes in offered.items()}
    return {path: changes for path, changes in chosen.items() if changes}


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
        sources = {path: (Path(directory) / "0" / path).read_bytes() for path in paths}
        asked: dict[Change, Future[Outcome]] = {}
        chosen = selected(given, sources)
        for change in (change for path in chosen for change in chosen[path]):
            if (change.path, *change.shown(sources[change.path])) not in known:
                asked[change] = pool.submit(work.test, change)
        for path, changes in chosen.items():
            tried = [(change, asked[change].result() if change in asked else None) for change in changes]
            total.add(report(path, tried, sources[path]))
    print(f"all: {total}")


if __name__ == "__main__":
    main(sys.argv[1:])
