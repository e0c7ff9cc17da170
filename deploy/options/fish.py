"""Completion for fish."""

from __future__ import annotations

from typing import Any

from deploy.options.words import SUBCOMMANDS, words_of
from xtrace.options.option import Option, Source, Takes
from xtrace.options.table import OPTIONS

BEGINNING = """\
# fish completion for xtrace-catch. Generated from the table of options: make options

function __xtrace_catch_interfaces
    printf '%s\\n' any
    for path in /sys/class/net/*/ifindex
        string split -r -m 2 -f 2 / $path
    end | string match -r '^[A-Za-z0-9_.@+-]+$'
end

function __xtrace_catch_devices
    set -l root /sys
    set -q XTRACE_SYSFS; and set root $XTRACE_SYSFS
    for path in $root/class/infiniband/*
        string split -r -m 1 -f 2 / $path
    end | string match -r '^[A-Za-z0-9_.@+-]+$'
end

function __xtrace_catch_reads
    set -l given (commandline -opc)
    test (count $given) -gt 1; and contains -- $given[2] $argv
end

complete -c xtrace-catch -f
"""

START = "complete -c xtrace-catch"
PRINT = r"printf %s\\n"
"""Prints one word per line, within double quotes."""

COMMANDS = {Source.INTERFACES: "__xtrace_catch_interfaces", Source.DEVICES: "__xtrace_catch_devices"}


def script() -> str:
    """Return the whole file."""
    lines = [_line(option) for option in OPTIONS]
    lines.append(f"{START} -n 'test (count (commandline -opc)) = 1' -a '{' '.join(SUBCOMMANDS)}'")
    for name, flags in SUBCOMMANDS.items():
        reads = f"{START} -n '__xtrace_catch_reads {name}'"
        lines += [f"{reads} -F", *(f"{reads} {_flag(flag)}" for flag in flags)]
    return BEGINNING + "".join(f"{line}\n" for line in lines)


def _flag(flag: str) -> str:
    return f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"


def _line(option: Option[Any]) -> str:
    *short, name = option.flags
    parts = [f"{START} -n 'not __xtrace_catch_reads {' '.join(SUBCOMMANDS)}'", *map(_flag, short), _flag(name)]
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
