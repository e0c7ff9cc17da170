"""The jobs of .github/workflows, as scripts that run without GitHub (.ci/rehearse).

python -m tests.support.workflows WORKFLOW JOB
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    """All jobs of a workflow, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"]
    return found


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    """All steps of all jobs."""
    for job in jobs(workflow).values():
        yield from job.get("steps", ())


def value(text: object) -> str:
    """A value as a word of shell: `expression NAME` is asked for what GitHub would put in."""
    parts = EXPRESSION.split(str(text))
    words = [f'"$(expression {shlex.quote(part)})"' if n % 2 else shlex.quote(part) for n, part in enumerate(parts)]
    return "".join(word for word in words if word != "''") or "''"


def script(workflow: Path, job: str) -> str:
    """What a job does: `action NAME KEY=VALUE...` for actions, `commands ID SCRIPT VARIABLE=VALUE...` for commands."""
    lines = []
    for number, step in enumerate(jobs(workflow)[job]["steps"]):
        title = step.get("name") or step.get("run") or step["uses"].partition("@")[0]
        lines.append(f"step {shlex.quote(title)}")
        if "uses" in step:
            given, words = step.get("with", {}), ["action", step["uses"].partition("@")[0]]
        else:
            given, words = step.get("env", {}), ["commands", step.get("id", f"step{number}"), shlex.quote(step["run"])]
        lines.append(" ".join([*words, *(f"{name}={value(text)}" for name, text in given.items())]))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(script(ROOT / ".github/workflows" / f"{sys.argv[1]}.yml", sys.argv[2]))
