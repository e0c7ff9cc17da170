"""Texts of --help and --help-all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from xtrace.options.option import Option
from xtrace.options.table import GROUPS, OPTIONS, VARIABLES

WIDTH = 80
HELP_COLUMN = 30
"""Where help texts begin; longer options get their own line."""

SYNOPSIS = "usage: xtrace-catch [OPTION]..., or xtrace-catch report|hang [--help] FILE..."
PURPOSE = "Show every flow that crosses network interfaces, counted exactly by eBPF."
CLOSING = """\
The command line takes precedence over the environment. sudo drops the
environment: use sudo VARIABLE=value xtrace-catch.
Lists are comma-separated; repeating the option adds to the list.
Exit status: 0 success, or the reader closed the output; 1 failure; 2 usage;
77 missing privilege; 130 second Ctrl-C.
"""


def short() -> str:
    """Return the main options, on one screen."""
    lines = [SYNOPSIS, PURPOSE]
    for group in GROUPS:
        main = [option for option in OPTIONS if option.group == group and option.is_main]
        if main:
            lines += [f"{group}:", *(line for option in main for line in _lines(option, _default(option)))]
    return "\n".join(lines) + "\n"


def complete() -> str:
    """Return all options and variables."""
    lines = [SYNOPSIS, PURPOSE]
    for group in GROUPS:
        options = [option for option in OPTIONS if option.group == group]
        lines += ["", f"{group}:", *(line for option in options for line in _lines(option, notes(option)))]
    lines += ["", "Environment:"]
    for variable in VARIABLES:
        default = [f"default: {variable.default_text}"] if variable.default_text else []
        lines += _columns(f"  {variable.name}", _with(variable.help, default))
    return "\n".join([*lines, "", CLOSING])


def notes(option: Option[Any]) -> list[str]:
    """Return modes, default and variables of an option, if any."""
    modes = [f"mode {' or '.join(option.modes)}"] if option.modes else []
    variables = [f"env: {', '.join(option.variables)}"] if option.variables else []
    return [*modes, *_default(option), *variables]


def _default(option: Option[Any]) -> list[str]:
    return [f"default: {option.default_text}"] if option.default_text else []


def _with(text: str, remarks: Iterable[str]) -> str:
    """Return `text (one; another)`."""
    joined = "; ".join(remarks)
    return f"{text} ({joined})" if joined else text


def _lines(option: Option[Any], remarks: Iterable[str]) -> Iterator[str]:
    indent = "  " if len(option.flags) > 1 else "      "
    return _columns(indent + option.synopsis, _with(option.help, remarks))


def _columns(left: str, right: str) -> Iterator[str]:
    """Yield lines of `left` with `right` wrapped beside it."""
    from textwrap import wrap

    first, *more = wrap(right, WIDTH - HELP_COLUMN, break_long_words=False, break_on_hyphens=False)
    if len(left) > HELP_COLUMN - 2:
        yield left
        yield " " * HELP_COLUMN + first
    else:
        yield left.ljust(HELP_COLUMN) + first
    yield from (" " * HELP_COLUMN + line for line in more)
