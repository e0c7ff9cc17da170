"""A pytest plugin, loaded in the throw-away copy: records which functions each test calls, or runs chosen tests only.

Told by XTRACE_CHANGES: `record FILE` or `select FILE`. The recording is JSON: `tests`, a list of the passed ones with
`id`, `seconds` and `calls` ("path:line of the function"); `importing`, the calls made while tests were collected.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

WORD, _, FILE = os.environ["XTRACE_CHANGES"].partition(" ")
TREE = f"{Path.cwd()}/"
PRODUCT = f"{TREE}xtrace/"
MEMORY = 4 << 30
"""Bytes; a change that makes a loop endless must not take the machine's memory."""


class Recorder:
    """Notes every call of a function of the product."""

    def __init__(self) -> None:
        self._calls: set[tuple[str, int]] = set()
        self._importing: set[tuple[str, int]] = set()
        self._tests: list[dict[str, Any]] = []
        self._failed: set[str] = set()

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PRODUCT) and code.co_name != "<module>":
            self._calls.add((code.co_filename, code.co_firstlineno))

    def _start(self) -> None:
        self._calls = set()
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def _stop(self) -> set[tuple[str, int]]:
        sys.setprofile(None)
        threading.setprofile(None)
        return self._calls

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self) -> Iterator[None]:
        self._start()
        yield
        self._importing |= self._stop()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._start()
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        calls = self._stop()
        if item.nodeid not in self._failed and calls:
            self._tests.append({"id": item.nodeid, "seconds": seconds, "calls": self._shown(calls)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        recording = {"tests": self._tests, "importing": self._shown(self._importing), "failed": sorted(self._failed)}
        Path(FILE).write_text(json.dumps(recording))

    @staticmethod
    def _shown(calls: set[tuple[str, int]]) -> list[str]:
        return sorted(f"{name.removeprefix(TREE)}:{line}" for name, line in calls)


class Selector:
    """Runs the tests listed in the file, in that order."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {line: number for number, line in enumerate(json.loads(Path(FILE).read_text()))}
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])


def pytest_configure(config: pytest.Config) -> None:
    if WORD == "record":
        config.pluginmanager.register(Recorder())
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if FILE:
            config.pluginmanager.register(Selector())
