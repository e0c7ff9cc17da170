"""A pytest plugin, loaded in the throw-away copy: records which functions each test calls, or runs chosen tests only.

Told by XTRACE_CHANGES: `record FILE` or `select FILE`. The recording is JSON: `tests`, a list of the passed ones with
`id`, `seconds` and `calls` ("path:line of the function"); `importing`, the calls made while tests were collected.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
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

    def cached(self, *options: Any, **more: Any) -> Any:
        """In place of functools.lru_cache: a call that finds its answer in the cache is a call, too."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            known = (
                lru_cache(**more)(function) if not options or callable(options[0]) else lru_cache(*options)(function)
            )

            @wraps(function)
            def call(*arguments: Any, **named: Any) -> Any:
                code = function.__code__
                self._calls.add((code.co_filename, code.co_firstlineno))
                return known(*arguments, **named)

            call.cache_clear, call.cache_info = known.cache_clear, known.cache_info  # type: ignore[attr-defined]
            return call

        return decorate(options[0]) if options and callable(options[0]) else decorate

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
        if item.nodeid not in self._failed:
            self._tests.append({"id": item.nodeid, "seconds": seconds, "calls": self._shown(calls)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        recording = {"tests": self._tests, "importing": self._shown(self._importing), "failed": sorted(self._failed)}
        Path(FILE).write_text(json.dumps(recording))

    @staticmethod
    def _shown(calls: set[tuple[str, int]]) -> list[str]:
        return sorted(f"{name.removeprefix(TREE)}:{line}" for name, line in calls if name.startswith(PRODUCT))


class Selector:
    """Runs the tests listed in the file, in that order."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {line: number for number, line in enumerate(json.loads(Path(FILE).read_text()))}
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])


def pytest_configure(config: pytest.Config) -> None:
    if WORD == "record":
        recorder = Recorder()
        functools.lru_cache = functools.cache = recorder.cached
        config.pluginmanager.register(recorder)
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if FILE:
            config.pluginmanager.register(Selector())
