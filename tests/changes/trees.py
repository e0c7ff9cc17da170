"""Throw-away copies of the tree, and pytest in them. The working tree is only read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
        """Make the change, run the tests until the first fails, and undo it."""
        path = self.directory / change.path
        source = path.read_bytes()
        built = {file: file.read_bytes() for pattern in BUILT for file in (self.directory / "xtrace").glob(pattern)}
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()  # it would count as current within the same second
        path.write_bytes(change.apply(source))
        try:
            if path.suffix != ".py" and not self.build(change.path):
                return Outcome(True, "the compiler or the verifier refuses it", refused=True)
            (self.directory / "chosen").write_text(json.dumps(chosen))
            word = f"select {self.directory / 'chosen'}" if chosen else "select "
            return self._pytest(word, ["-x", "-q", *arguments], limit_s)
        finally:
            path.write_bytes(source)
            if path.suffix != ".py":
                for file, content in built.items():
                    file.write_bytes(content)

    def build(self, path: str) -> bool:
        """Compile what a C file is part of, and load the packet programs; whether nothing was refused."""
        command = [sys.executable, "-m", "tests.changes.build", path]
        environment = {**os.environ, "PYTHONPATH": str(self.directory)}
        done = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    def _pytest(self, word: str, arguments: Sequence[str], limit_s: float, compiled: bool = False) -> Outcome:
        environment = {**os.environ, "PYTHONPATH": str(self.directory), "XTRACE_CHANGES": word}
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
        return Outcome(process.returncode != 0, first_failure(said))


def kill_group(process: subprocess.Popen[str]) -> None:
    """End the tests and what they started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def first_failure(said: str) -> str:
    """The first test that pytest's summary names, or its last line."""
    lines = said.strip().splitlines() or ["nothing said"]
    named = (line for line in lines if line.startswith(("FAILED ", "ERROR ")))
    return next(named, lines[-1]).split(" - ")[0]
