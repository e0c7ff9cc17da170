"""What users build on: command line, JSON Lines, metrics. A promise is one line, so a changed one is two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from deploy.options.words import words_of
from deploy.snapshot import records, series
from deploy.snapshot.compared import ROOT
from xtrace import errors
from xtrace.command import SUBCOMMANDS
from xtrace.model.thresholds import THRESHOLDS
from xtrace.options.option import Option, Source, Takes
from xtrace.options.table import OPTIONS, VARIABLES


def version() -> str:
    """Return the version in pyproject.toml."""
    (found,) = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return str(found)


def promises() -> set[str]:
    """Return all."""
    return {*command_line(), *records.promises(), *series.promises()}


def command_line() -> Iterator[str]:
    """Yield options with their values and defaults, variables, words in first place, thresholds, exit codes."""
    for option in OPTIONS:
        yield from _option(option)
    yield from (f"variable {name}" for row in VARIABLES for name in row.name.split(", "))
    yield from (f"variable {row.name}: default {row.default_text}" for row in VARIABLES if row.default_text)
    yield from (f"command {word}" for word in SUBCOMMANDS)
    for name, limit in THRESHOLDS.items():
        yield f"threshold {name}: above {limit.warn} and {limit.critical} {limit.unit}".rstrip()
    manual = (ROOT / "docs/man/xtrace-catch.8").read_text().partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    yield from (f"exit code {number}" for number in re.findall(r"^\.B (\d+)$", manual, re.MULTILINE))
    for error in (errors.XtraceError, errors.UsageError, errors.PrivilegeError):
        yield f"exit code {error.exit_code}: {error.__name__}"


def _option(option: Option[Any]) -> Iterator[str]:
    takes = option.takes.value if option.takes is not Takes.LIST else "a list"
    yield f"option {option.name}: takes {takes}"
    yield f"option {option.name}: default {option.default_text or 'off'}"
    yield from (f"option {option.name}: also {flag}" for flag in option.flags[:-1])
    yield from (f"option {option.name}: variable {name}" for name in option.variables)
    if option.source is not Source.THRESHOLDS:
        yield from (f"option {option.name}: value {word}" for word in words_of(option))
