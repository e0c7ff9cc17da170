"""What runs in the guest: loads the tool's programs, runs the tests, reports each to a serial line.

One JSON object per line, written at once, so that a guest that hangs has told how far it came.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LOADS = {
    "xdp": ["--hook", "xdp"],
    "tc": ["--hook", "tc", "--direction", "both"],
    "owners": ["--hook", "tc", "--direction", "both", "--owners"],
    "tcp": ["--tcp"],
}
"""Options with which the tool loads its programs; a run is left out where --help-all does not have one of them."""

NCCL = "nccl"
"""The run that loads those of mode nccl, whose programs are loaded only where a process uses NCCL."""

LOADS_TOO = "XTRACE_LOADS"
"""The variable that leaves them out, with 0: the verifier takes a minute of an emulated machine's time."""

INTERFACE = "verify0"
SLOWLY = {"XTRACE_FLOOD_PACKETS": "400000", "XTRACE_FUZZ_FRAMES": "20000", "XTRACE_LIMIT_S": "300"}
"""Emulated CPUs send 20,000 to 100,000 packets per second. What is on the kernel's command line is in the environment
already, and stays."""

LONGEST_TEXT = 8000
"""Characters of one test's failure; its end says most."""


class Channel:
    """The serial line to the host."""

    def __init__(self, path: str) -> None:
        self._out = Path(path).open("w", buffering=1)  # noqa: SIM115

    def send(self, **record: Any) -> None:
        """Report something."""
        self._out.write(json.dumps(record) + "\n")


class Reporter:
    """A pytest plugin: one report for each test, with what was worst of its setup, call and teardown."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._outcome, self._why, self._seconds = "passed", "", 0.0
        self._figures: dict[str, object] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._channel.send(test=report.nodeid, outcome="failed", why=report.longreprtext[-LONGEST_TEXT:])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._outcome, self._why, self._seconds, self._figures = "passed", "", 0.0, {}
        self._channel.send(begins=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds += report.duration
        self._figures.update(report.user_properties)
        if report.failed:
            self._outcome, self._why = "failed", report.longreprtext[-LONGEST_TEXT:]
        elif report.skipped and self._outcome == "passed":
            self._outcome, self._why = "skipped", _why_not(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        seconds = round(self._seconds, 1)
        self._channel.send(test=nodeid, outcome=self._outcome, why=self._why, seconds=seconds, figures=self._figures)


def _why_not(report: pytest.TestReport) -> str:
    """The reason of pytest.skip() or pytest.xfail(), without the way there."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("reason: ")
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return reason.removeprefix("Skipped: ")


def load_programs(channel: Channel) -> None:
    """Let the tool load its programs for each set of options."""
    subprocess.run(["ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", "verify1"], check=True)
    subprocess.run(["ip", "link", "set", INTERFACE, "up"], check=True)
    told = subprocess.run([sys.executable, "-m", "xtrace", "--help-all"], capture_output=True, text=True).stdout
    for name, options in LOADS.items():
        chosen = options if all(word in told for word in options if word.startswith("--")) else []
        if name == "xdp" or chosen:
            _load(channel, name, ["-i", INTERFACE, "-c", "1", "-t", "100ms", *chosen])
    subprocess.run(["ip", "link", "delete", INTERFACE], check=True)
    _load(channel, NCCL, [NCCL])


def _load(channel: Channel, name: str, words: list[str]) -> None:
    run = subprocess.run([sys.executable, "-m", "tests.vm.loads", *words], capture_output=True, text=True)
    loads = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"program"')]
    channel.send(run=name, code=run.returncode, said=run.stderr[-LONGEST_TEXT:], loads=loads)


def arguments() -> list[str]:
    """pytest's, from the kernel's command line: `xtrace_tests=tests/kernel,-k,frames`."""
    words = dict(word.partition("=")[::2] for word in Path("/proc/cmdline").read_text().split())
    return words["xtrace_tests"].split(",")


def main() -> None:
    channel = Channel(sys.argv[1])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    channel.send(release=platform.release(), python=platform.python_version(), boot_s=uptime)
    if os.environ.get(LOADS_TOO) != "0":
        load_programs(channel)
    os.environ["XTRACE_TEST_OBJECTS"] = str(Path("build").resolve())
    os.environ.update({**SLOWLY, **os.environ})
    code = pytest.main(["-q", "--color=no", "--tb=short", *arguments()], plugins=[Reporter(channel)])
    channel.send(ended=int(code))


if __name__ == "__main__":
    main()
