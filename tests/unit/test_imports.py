"""Imports point one way: cli -> loop -> monitors, sinks -> kernel, flow -> errors; and what may come from outside."""

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
    "stop": (),
    "snapshot": (),
    "flow": ("errors", "kernel.syscall", "snapshot"),
    "nccl": ("kernel.syscall", "nccl_names", "printable", "snapshot"),
    "nccl_names": ("kernel.syscall",),
    "kernel": ("errors", "kernel", "printable"),
    "filters": ("errors", "flow", "kernel.syscall"),
    "roce": (),
    "target": ("errors",),
    "rdma": ("snapshot",),
    "rdma_counters": ("rdma",),
    "rdma_health": ("errors", "rdma", "rdma_counters"),
    "rdma_processes": ("rdma",),
    "roce_origins": ("flow", "rdma"),
    "config": ("errors", "filters", "kernel.syscall", "rdma_health", "target"),
    "monitors": (
        "errors",
        "messages",
        "snapshot",
        "flow",
        "filters",
        "nccl",
        "nccl_names",
        "rdma",
        "rdma_counters",
        "rdma_health",
        "roce_origins",
        "kernel",
        "monitors",
        "printable",
    ),
    "sinks": (
        "errors",
        "messages",
        "snapshot",
        "flow",
        "nccl",
        "nccl_names",
        "roce",
        "rdma",
        "rdma_counters",
        "rdma_health",
        "rdma_processes",
        "kernel",
        "stop",
        "sinks",
        "target",
        "printable",
    ),
    "listing": ("errors", "rdma", "kernel", "sinks"),
    "loop": ("errors", "messages", "snapshot", "flow", "nccl", "stop", "kernel", "monitors", "sinks"),
    "cli": (
        "errors",
        "messages",
        "snapshot",
        "flow",
        "stop",
        "kernel",
        "monitors",
        "sinks",
        "config",
        "filters",
        "listing",
        "loop",
    ),
    "command": ("errors", "kernel.syscall", "printable", "sinks.stream", "stop", "config", "cli"),
    "__main__": ("command",),
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
        ("monitors.xdp", "from xtrace.sinks import Sink", "imports xtrace.sinks"),
        ("monitors.xdp", "def f():\n    import xtrace.sinks.text", "line 2: imports xtrace.sinks.text"),
        ("sinks.text", "from xtrace.monitors.tables import Plan", "imports xtrace.monitors.tables"),
        ("kernel.bpf", "from xtrace.flow import KEY", "imports xtrace.flow"),
        ("kernel.bpf", "from xtrace import config", "imports xtrace.config"),
        ("errors", "from xtrace import errors", "imports xtrace.errors"),
        ("filters", "from xtrace.config import Config", "imports xtrace.config"),
        ("roce", "from xtrace.flow import FlowKey", "imports xtrace.flow"),
        ("monitors.attach", "from xtrace.roce import opcode_name", "imports xtrace.roce"),
        ("loop", "from xtrace import cli", "imports xtrace.cli"),
        ("flow", "from xtrace.kernel.bpf import Map", "imports xtrace.kernel.bpf"),
        ("flow", "from xtrace._native import lib", "only xtrace.kernel.syscall imports xtrace._native"),
        ("cli", "from xtrace import _native", "only xtrace.kernel.syscall imports xtrace._native"),
        ("sinks.text", "import requests", "requests is no run-time dependency"),
        ("cli", "from subprocess import run", "subprocess starts programs"),
    ],
)
def test_rule_names_the_offending_import(module: str, source: str, offence: str) -> None:
    (found,) = violations(module, source)
    assert found.startswith(f"xtrace.{module}, line ")
    assert found.endswith(offence)
