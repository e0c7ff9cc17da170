"""Throw-away copies of the tree, and pytest in them. The working tree is only read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.changes.c_tests import Stage
from tests.changes.change import Change

ROOT = Path(__file__).parents[2]
BUILT = ("*.so", "*.o")


@dataclass(frozen=True)
class Outcome:
    """What the tests said about a change."""

    noticed: bool
    how: str
    """the failed test, or why there is none"""
    hung: bool = False
    """the time limit ended the tests before one failed"""
    refused: bool = False
    """no test was needed: the compiler or the kernel's verifier takes no such program"""

    @property
    def test(self) -> str:
        """The test that failed, as pytest takes it; empty if none did."""
        word, _, name = self.how.partition(" ")
        return name if word in ("FAILED", "ERROR") else ""


class Tree:
    """One copy, in which one change at a time is made and tested."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def make(cls, directory: Path) -> Tree:
        """Copy what git knows and what is new, with the built extension and BPF objects."""
        listed = subprocess.check_output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT
        )
        built = [path.relative_to(ROOT) for pattern in BUILT for path in (ROOT / "xtrace").glob(pattern)]
        for name in (*map(os.fsdecode, filter(None, listed.split(b"\0"))), *map(str, built)):
            if (ROOT / name).is_file():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, directory / name)
        return cls(directory)

    def clone(self, directory: Path) -> Tree:
        """Another copy, with all that was compiled in this one."""
        shutil.copytree(self.directory, directory, symlinks=True)
        return Tree(directory)

    def record(self, tests: Sequence[str]) -> str:
        """Run the tests unchanged; return the recording (see plugin.py). What Python compiles stays, for the others."""
        self._pytest(f"record {self.directory / 'recording'}", [*tests, "-q"], 3600, compiled=True)
        return (self.directory / "recording").read_text()

    def outcome(self, change: Change, arguments: Sequence[str], chosen: Sequence[str], limit_s: float) -> Outcome:
        """Make the change to a Python file, run the tests until the first fails, and undo it."""
        with self._changed(change):
            (self.directory / "chosen").write_text(json.dumps(chosen))
            return self._pytest(f"select {self.directory / 'chosen'}", ["-x", "-q", *arguments], limit_s)

    def _until_one_fails_again(self, tests: Sequence[str], limit_s: float) -> Outcome:
        """Run the tests until the first fails, by itself as well: with the kernel they see what others load meanwhile.

        If it passes by itself all are run once more.
        """
        found = self._pytest("select ", ["-x", "-q", *tests], limit_s)
        if not found.test or found.refused or self._pytest("select ", ["-q", found.test], limit_s).noticed:
            return found
        return self._pytest("select ", ["-x", "-q", *tests], limit_s)

    def outcome_of_c(self, change: Change, stages: Iterable[Stage], limit_s: float) -> Outcome:
        """Make the change to a C file, build and test part by part until something is noticed, and undo it."""
        passed = Outcome(False, "it is part of nothing")
        with self._changed(change):
            for stage in stages:
                if not self.build([stage.part]):
                    return Outcome(True, "the compiler refuses it", refused=True)
                found = self._until_one_fails_again(stage.tests, limit_s)
                if found.noticed:
                    return found
                passed = found if found.hung or not passed.hung else passed
        return passed

    @contextlib.contextmanager
    def _changed(self, change: Change) -> Iterator[None]:
        path = self.directory / change.path
        source = path.read_bytes()
        built = {file: file.read_bytes() for pattern in BUILT for file in (self.directory / "xtrace").glob(pattern)}
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()  # it would count as current within the same second
        path.write_bytes(change.apply(source))
        try:
            yield
        finally:
            path.write_bytes(source)
            if path.suffix != ".py":
                for file, content in built.items():
                    file.write_bytes(content)

    def build(self, parts: Iterable[str]) -> bool:
        """Compile these built files of the package; whether the compiler took them."""
        command = [sys.executable, "-m", "tests.changes.build", *parts]
        environment = {**os.environ, "PYTHONPATH": str(self.directory)}
        done = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    def _pytest(self, word: str, arguments: Sequence[str], limit_s: float, compiled: bool = False) -> Outcome:
        environment = {**os.environ, "PYTHONPATH": str(self.directory), "XTRACE_CHANGES": word, "COLUMNS": "500"}
        environment["PYTHONDONTWRITEBYTECODE"] = "" if compiled else "1"
        command = [sys.executable, "-m", "pytest", "-p", "tests.changes.plugin", "--tb=no", *arguments]
        process = subprocess.Popen(
            command,
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return Outcome(False, f"no end within {limit_s:.0f} s", hung=True)
        finally:
            kill_group(process)
        how = first_failure(said)
        refused = "VerifierError" in how
        return Outcome(process.returncode != 0, how.split(" - ")[0], refused=refused)


def kill_group(process: subprocess.Popen[str]) -> None:
    """End the tests and what they started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def first_failure(said: str) -> str:
    """What pytest's summary says of the first failed test, or its last line."""
    lines = said.strip().splitlines() or ["nothing said"]
    named = (line for line in lines if line.startswith(("FAILED ", "ERROR ")))
    return next(named, lines[-1])
