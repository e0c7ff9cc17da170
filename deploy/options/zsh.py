"""Completion for zsh."""

from __future__ import annotations

import re
from typing import Any

from deploy.options.words import SUBCOMMANDS, words_of
from xtrace.options.option import Option, Source, Takes
from xtrace.options.table import HELP, HELP_ALL, OPTIONS, VERSION

TEMPLATE = """\
#compdef xtrace-catch
# zsh completion for xtrace-catch. Generated from the table of options: make options

_xtrace_catch_interfaces() {
    local -a names
    names=(any /sys/class/net/*/ifindex(N:h:t))
    _values -s , interface ${names:#*[^A-Za-z0-9_.@+-]*}
}

_xtrace_catch_devices() {
    local -a names
    names=(${XTRACE_SYSFS:-/sys}/class/infiniband/*(N:t))
    names=(${names:#*[^A-Za-z0-9_.@+-]*})
    (( $#names )) && _values -s , 'RDMA device' $names
}

if (( CURRENT > 2 )); then
    case $words[2] in
@SUBCOMMANDS@
    esac
fi

_arguments -s -S \\
    '1:subcommand:(@WORDS@)' \\
@SPECS@
"""

ACTIONS = {
    Source.INTERFACES: "_xtrace_catch_interfaces",
    Source.DEVICES: "_xtrace_catch_devices",
    Source.DIRECTORIES: "_files -/",
}


def script() -> str:
    """Return the whole file."""
    return (
        TEMPLATE.replace("@SPECS@", " \\\n".join(f"    {_spec(option)}" for option in OPTIONS))
        .replace("@SUBCOMMANDS@", "\n".join(f"        {name}) {_files(name)}; return ;;" for name in SUBCOMMANDS))
        .replace("@WORDS@", " ".join(SUBCOMMANDS))
    )


def _files(name: str) -> str:
    """Return the command that completes a word of a subcommand: one of its flags, or a file."""
    flags = " ".join(SUBCOMMANDS[name])
    return f"if [[ $PREFIX == -* ]]; then compadd -- {flags}; else _files; fi"


def _spec(option: Option[Any]) -> str:
    """Return a spec of _arguments: '(others)'{-i+,--interface=}'[help]:message:action'."""
    takes_value = option.takes is not Takes.NOTHING
    flags = [f"{flag}{'=' if flag.startswith('--') else '+'}" if takes_value else flag for flag in option.flags]
    if option.takes in (Takes.LIST, Takes.EACH):
        before = "*"
    else:
        before = "(- *)" if option in (HELP, HELP_ALL, VERSION) else f"({' '.join(option.flags)})"
    after = f"[{_escaped(option.help)}]"
    if takes_value:
        after += f":{_escaped(option.metavar)}:{_action(option)}"
    given = f"{{{','.join(flags)}}}" if len(flags) > 1 else flags[0]
    return f"{_quoted(before)}{given}{_quoted(after)}"


def _action(option: Option[Any]) -> str:
    words = words_of(option)
    if option.source in ACTIONS:
        return ACTIONS[option.source]
    if option.source is Source.THRESHOLDS:
        return f"_sequence compadd -S = - {' '.join(word.removesuffix('=') for word in words)}"
    if option.takes is Takes.LIST and words:
        return f"_values -s , {option.metavar} {' '.join(words)}"
    return f"({' '.join(words)})" if words else " "


def _escaped(text: str) -> str:
    return re.sub(r"[][:\\]", r"\\\g<0>", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
