"""The messages in the source: what is raised for the user, logged as a warning or an error, or said by a monitor."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "xtrace"

RAISED = {
    "UsageError": "Command line and environment (exit code 2)",
    "PrivilegeError": "Privileges (exit code 77)",
    "InterfaceError": "Interfaces",
    "XdpRefused": "Interfaces",
    "XdpTaken": "Interfaces",
    "RdmaError": "RDMA",
    "RasError": "NCCL's RAS service",
    "XtraceError": "Others (exit code 1)",
    "Stopped": "Others (exit code 1)",
}
"""Exceptions whose text is a message, and the title of its table. Texts of system calls and of damaged BPF objects are
the same for all: they are described by hand."""
LOGGED = "While it runs"
SAID = frozenset(
    {"log.warning", "log.error", "say", "self._say", "self._say_once", "self._say_error", "report", "self._report"}
)
"""Calls that write a line on stderr (messages.Say)."""
KEYED = "self._report"
"""The line may stand behind what it is known by."""
ELSEWHERE = "…"


class Message(NamedTuple):
    """One message."""

    title: str
    """of its table"""
    text: str
    """with ELSEWHERE for what differs"""

    @property
    def own_cure(self) -> str | None:
        """Return what it says itself about what to do, in parentheses at the end, as errors of the command line do."""
        found = re.fullmatch(r".* \((.+)\)", self.text)
        return found.group(1) if found and found.group(1).strip(ELSEWHERE) else None


def messages() -> list[Message]:
    """Return all, in the order of the tables, each once."""
    found = {message: None for path in sorted(PACKAGE.rglob("*.py")) for message in _in(path)}
    titles = [*dict.fromkeys(RAISED.values()), LOGGED]
    return sorted(found, key=lambda message: (titles.index(message.title), message.text))


def _in(path: Path) -> Iterator[Message]:
    module = importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func)
            title = LOGGED if name in SAID else RAISED.get(name)
            text = _text(node.args[-1 if name == KEYED else 0], vars(module))
            if title and text and text.replace(ELSEWHERE, "").removeprefix("xtrace-catch").strip(" :;"):
                yield Message(title, text)


def _text(node: ast.expr, names: Mapping[str, object]) -> str | None:
    """Return a literal's text, with ELSEWHERE for values that are no constants of the module."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(\.\d)?[sdrf]", ELSEWHERE, node.value)
    if isinstance(node, ast.JoinedStr):
        values = node.values
        return "".join(str(part.value) if isinstance(part, ast.Constant) else _value(part, names) for part in values)
    if isinstance(node, ast.BinOp):
        return f"{_text(node.left, names) or ELSEWHERE}{_text(node.right, names) or ELSEWHERE}"
    constant = names.get(ast.unparse(node))
    return constant if isinstance(constant, str) else None


def _value(part: ast.expr, names: Mapping[str, object]) -> str:
    text = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
    constant = names.get(text) if text.isupper() else None
    return str(constant) if isinstance(constant, str | int) else ELSEWHERE
