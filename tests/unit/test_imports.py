"""Imports point one way: command -> assembly -> loop -> monitors, sinks -> model -> kernel -> errors."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "xtrace"

THIRD_PARTY = {"cffi", "orjson", "urllib3"}

ALLOWED = {
    "__init__": (),
    "errors": (),
    "messages": (),
    "printable": (),
    "diagnostics": ("printable",),
    "stop": ("errors",),
    "service": (),
    "values": ("errors",),
    "target": ("errors", "values"),
    "kernel": ("errors", "kernel", "printable"),
    "model": ("errors", "kernel.abi", "kernel.syscall", "model", "printable", "values"),
    "options": ("errors", "kernel.syscall", "model", "options", "target", "values"),
    "config": ("errors", "kernel.syscall", "model", "options", "target"),
    "confinement": ("config", "errors", "kernel", "model", "options.accounts"),
    "monitors": ("errors", "kernel", "messages", "model", "monitors", "printable"),
    "sinks": ("errors", "kernel", "messages", "model", "printable", "sinks", "stop", "target"),
    "recorded": ("errors",),
    "reload": ("kernel.signals", "service", "sinks.renewed"),
    "report": ("errors", "printable", "recorded", "report", "sinks.stream", "sinks.text.units", "stop"),
    "doctor": ("doctor", "errors", "kernel", "model", "monitors", "printable", "sinks", "target"),
    "hang": (
        *("errors", "hang", "model.limits", "model.nccl_judge", "model.nccl_limits", "model.nccl_ranks"),
        *("model.nccl_verdicts",),
        *("printable", "recorded", "stop"),
        *("sinks.jsonl.lines", "sinks.jsonl.nccl_ranks", "sinks.render", "sinks.stream", "sinks.text.nccl_ranks"),
    ),
    "listing": ("errors", "kernel", "model", "printable", "sinks"),
    "loop": ("errors", "model", "monitors", "service", "sinks", "stop"),
    "assembly": (
        *("config", "confinement", "doctor", "errors", "kernel", "listing", "loop", "messages", "model", "monitors"),
        *("options.table", "reload", "service", "sinks", "stop", "target"),
    ),
    "command": (
        *("assembly", "config", "diagnostics", "errors", "kernel.syscall", "options.command_line"),
        *("hang.command", "report.command", "sinks.stream", "stop"),
    ),
    "__main__": ("command", "stop"),
}
"""Part of the package -> what it may import from the others."""

STARTS_PROGRAMS = {"subprocess", "multiprocessing", "pty"}
OS_STARTS_PROGRAMS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork")


def modules() -> dict[str, Path]:
    """Dotted name below `xtrace` -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module's source imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"xtrace.{module}, line {node.lineno}: write imports in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                below = whole.removeprefix("xtrace.")
                yield node.lineno, whole if below in MODULES or below == "_native" else str(node.module)


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def violations(module: str, source: str) -> list[str]:
    """The imports of a module that break a rule."""
    rule = next((part for part in ALLOWED if within(module, part)), None)
    assert rule is not None, f"xtrace.{module}: no rule says what it may import"
    found = []
    for line, name in imports(module, source):
        top = name.partition(".")[0]
        if top in STARTS_PROGRAMS:
            found.append(f"xtrace.{module}, line {line}: {name} starts programs")
        elif top != "xtrace":
            if top not in sys.stdlib_module_names and top not in THIRD_PARTY:
                found.append(f"xtrace.{module}, line {line}: {name} is no run-time dependency")
        elif name == "xtrace._native":
            if module != "kernel.syscall":
                found.append(f"xtrace.{module}, line {line}: only xtrace.kernel.syscall imports xtrace._native")
        elif not any(within(name.removeprefix("xtrace."), part) for part in ALLOWED[rule]):
            found.append(f"xtrace.{module}, line {line}: imports {name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_its_layer_may(module: str) -> None:
    assert violations(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize("module", MODULES)
def test_module_starts_no_other_program(module: str) -> None:
    calls = [
        f"line {node.lineno}: os.{node.attr}"
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if node.attr.startswith(OS_STARTS_PROGRAMS)
    ]
    assert calls == []


def test_every_part_of_the_package_has_a_rule_and_every_rule_a_part() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(ALLOWED)


@pytest.mark.parametrize(
    "module, source, offence",
    [
        ("monitors.flows.monitor", "from xtrace.sinks import Sink", "imports xtrace.sinks"),
        (
            "monitors.flows.monitor",
            "def f():\n    import xtrace.sinks.text",
            "line 2: imports xtrace.sinks.text",
        ),
        ("sinks.text.sink", "from xtrace.monitors.flows.tables import Plan", "imports xtrace.monitors.flows.tables"),
        ("kernel.bpf", "from xtrace.model.flow import KEY", "imports xtrace.model.flow"),
        ("kernel.bpf", "from xtrace import config", "imports xtrace.config"),
        ("errors", "from xtrace import errors", "imports xtrace.errors"),
        ("model.filters", "from xtrace.config import Config", "imports xtrace.config"),
        ("model.roce", "from xtrace.config import Config", "imports xtrace.config"),
        ("monitors.flows.attach", "from xtrace.loop import Loop", "imports xtrace.loop"),
        ("loop", "from xtrace import assembly", "imports xtrace.assembly"),
        ("model.flow", "from xtrace.kernel.bpf import Map", "imports xtrace.kernel.bpf"),
        ("model.flow", "from xtrace._native import lib", "only xtrace.kernel.syscall imports xtrace._native"),
        ("assembly", "from xtrace import _native", "only xtrace.kernel.syscall imports xtrace._native"),
        ("sinks.text.sink", "import requests", "requests is no run-time dependency"),
        ("assembly", "from subprocess import run", "subprocess starts programs"),
    ],
)
def test_rule_names_the_offending_import(module: str, source: str, offence: str) -> None:
    (found,) = violations(module, source)
    assert found.startswith(f"xtrace.{module}, line ")
    assert found.endswith(offence)
