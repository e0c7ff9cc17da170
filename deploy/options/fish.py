"""Completion for fish."""

from __future__ import annotations

from typing import Any

from deploy.options.words import words_of
from xtrace.options.option import Option, Source, Takes
from xtrace.options.table import OPTIONS

BEGINNING = """\
# fish completion for xtrace-catch. Generated from the table of options: make options

function __xtrace_catch_interfaces
    printf '%s\\n' any
    for path in /sys/class/net/*/ifindex
        string split -r -m 2 -f 2 / $path
    end
end

function __xtrace_catch_devices
    set -l root /sys
    set -q XTRACE_SYSFS; and set root $XTRACE_SYSFS
    for path in $root/class/infiniband/*
        string split -r -m 1 -f 2 / $path
    end
end

complete -c xtrace-catch -f
"""

PRINT = r"printf %s\\n"
"""One word a line, from within double quotes."""

COMMANDS = {Source.INTERFACES: "__xtrace_catch_interfaces", Source.DEVICES: "__xtrace_catch_devices"}


def script() -> str:
    """The whole file."""
    return BEGINNING + "".join(f"{_line(option)}\n" for option in OPTIONS)


def _line(option: Option[Any]) -> str:
    *short, name = option.flags
    parts = ["complete -c xtrace-catch", *(f"-s {flag[1:]}" for flag in short), f"-l {name[2:]}"]
    if option.takes is not Takes.NOTHING:
        parts.append("-x")
        values = _values(option)
        if values:
            parts.append(f"-a {_quoted(values)}")
    return " ".join([*parts, f"-d {_quoted(option.help)}"])


def _values(option: Option[Any]) -> str:
    words = " ".join(words_of(option))
    if option.source is Source.DIRECTORIES:
        return "(__fish_complete_directories)"
    if option.takes is Takes.LIST and (words or option.source in COMMANDS):
        command = COMMANDS.get(option.source, f'"{PRINT} {words}"')
        return f"(__fish_complete_list , {command})"
    return words


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
