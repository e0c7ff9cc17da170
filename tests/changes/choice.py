"""Which tests concern a change: those that call the changed function, from a recording of all of them.

For what is outside of functions (tables, defaults, classes) it is the tests that call anything in the module or in a
module that imports it, and those in files that import it. Those of C files are in c_tests.py.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.changes.change import Change

C_LIMIT_S = 240.0
"""For the tests of a change to C."""
SLOWEST_START_S = 20.0
"""More than importing and collecting takes on a machine with other work."""


@dataclass(frozen=True)
class Test:
    """A test that passed, and the functions of the product that it called."""

    id: str
    seconds: float
    calls: frozenset[str]


class Recording:
    """Who calls what; see plugin.py for the form of the text."""

    def __init__(self, text: str, importers: dict[str, set[str]]) -> None:
        told = json.loads(text)
        self.failed: list[str] = told["failed"]
        self._importing = frozenset(told["importing"])
        self._importers = importers
        self._tests = [Test(test["id"], test["seconds"], frozenset(test["calls"])) for test in told["tests"]]

    @cached_property
    def _by_module(self) -> dict[str, list[Test]]:
        found: dict[str, list[Test]] = {}
        for test in self._tests:
            for module in {call.rpartition(":")[0] for call in test.calls}:
                found.setdefault(module, []).append(test)
        return found

    def tests_of(self, change: Change) -> list[Test]:
        """The tests to run, the nearest and quickest first."""
        place = f"{change.path}:{change.scope}"
        direct = [test for test in self._tests if change.scope and place in test.calls]
        if direct and place not in self._importing:
            return quickest(direct)
        own = self._by_module.get(change.path, [])
        importers = self._importers.get(change.path, set())
        users = [test for user in sorted(importers) for test in self._by_module.get(user, [])]
        users += [test for test in self._tests if test.id.partition("::")[0] in importers]
        return list({test.id: test for group in (direct, own, users) for test in quickest(group)}.values())


def quickest(tests: Iterable[Test]) -> list[Test]:
    """By duration, in hundredths of a second, then by name."""
    return sorted(tests, key=lambda test: (round(test.seconds, 2), test.id))


def limit_s(tests: Iterable[Test]) -> float:
    """What the tests may take before a change counts as one without an answer."""
    return SLOWEST_START_S + 5 * sum(test.seconds for test in tests)


def importers_of(tree: Path) -> dict[str, set[str]]:
    """Path of a module of the product -> paths of the modules and tests that import it.

    What the tests have to help them, and deploy/, is no place of its own: whoever imports it imports what it does.
    """
    found = _imports(tree)
    helpers = {path: users for path, users in found.items() if path.startswith(("tests/", "deploy/"))}
    for users in found.values():
        new = users
        while new:
            new = set().union(*(helpers.get(user, ()) for user in new)) - users
            users |= new
    return found


def _imports(tree: Path) -> dict[str, set[str]]:
    """Path of a module -> paths of the modules that import it."""
    found: dict[str, set[str]] = {}
    for path in sorted(path for folder in ("xtrace", "tests", "deploy") for path in (tree / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            elif isinstance(node, ast.Import):
                names = tuple(alias.name for alias in node.names)
            else:
                continue
            for name in names:
                for file in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
                    if (tree / file).is_file():
                        found.setdefault(file, set()).add(str(path.relative_to(tree)))
    return found
